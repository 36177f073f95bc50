"""Pauses in the state file: one of each source and project, until its time."""

from __future__ import annotations

from sync_worker.ledger import Ledger
from sync_worker.ledger.pauses import Pause, active_pauses, delete_pauses, store_pauses
from tests.support.clock import VirtualClock


def test_pauses_are_kept_until_their_time(ledger: Ledger, clock: VirtualClock) -> None:
    """A pause would end too soon, never, or with the next one that is set."""
    now = clock.now_ms()
    assert active_pauses(ledger) == []
    lasting, short = Pause("a", None, now, None, "why"), Pause("a", "p", now, now + 1_000)
    store_pauses(ledger, [lasting])
    store_pauses(ledger, [short])
    assert sorted(active_pauses(ledger), key=lambda one: one.name) == sorted([lasting, short], key=lambda one: one.name)
    clock.advance(0.999)
    assert len(active_pauses(ledger)) == 2
    clock.advance(0.001)
    assert active_pauses(ledger) == [lasting]


def test_one_pause_of_each(ledger: Ledger, clock: VirtualClock) -> None:
    """A pause that was prolonged would end at its old time, and one that is over stay in the file for ever."""
    now = clock.now_ms()
    store_pauses(ledger, [Pause(None, "p", now, now + 1_000), Pause("b", None, now, now + 1)])
    clock.advance(0.5)
    longer = Pause(None, "p", now + 500, now + 9_000)
    store_pauses(ledger, [longer])
    assert active_pauses(ledger) == [longer]
    assert ledger.query("SELECT count(*) FROM state_keys WHERE scope = 'pauses'") == [(1,)]
    delete_pauses(ledger, [longer])
    assert active_pauses(ledger) == []


def test_whom_a_pause_concerns() -> None:
    """A pause of one source would stop another, or one of all stop none."""
    assert [Pause(source, None, 0).concerns("a") for source in ("a", "b", None)] == [True, False, True]
