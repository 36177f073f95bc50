"""The history of a source: what is in a slot, and that there is never more than a day of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_worker.ledger import Ledger, open_ledger
from sync_worker.ledger.history import SLOT_MS, SLOTS, Slot, add_to_history, history, note_watermark
from tests.ledger.made import letter, span
from tests.support.clock import VirtualClock

FIRST = 1_000_000  # a slot


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(tmp_path / "state.db", VirtualClock(FIRST * SLOT_MS))
    yield opened
    opened.close()


def note(ledger: Ledger, slot: int, watermark_ms: int) -> None:
    note_watermark(ledger, 1, slot * SLOT_MS + 7, watermark_ms)
    with ledger.transaction():
        pass


def test_what_is_sent_is_in_the_slot_of_now(ledger: Ledger) -> None:
    """The page would show spans at another time than they arrived, or none."""
    ledger.commit_result(1, [span("t", "a"), span("t", "b")], [letter("t", "c"), letter("t", "d")])
    ledger.commit_result(1, [span("t", "e")], [])
    ledger.commit_result(2, [span("t", "of another source")], [])
    note(ledger, FIRST, 5)
    note(ledger, FIRST, 6)
    assert history(ledger, 1) == [Slot(FIRST, 6, 3, 0, 2)]


def test_a_watermark_waits_for_the_next_transaction(ledger: Ledger) -> None:
    """An idle cycle would write to the disk once more, each minute, for years."""
    note_watermark(ledger, 1, FIRST * SLOT_MS, 5)
    assert history(ledger, 1) == []
    with pytest.raises(RuntimeError), ledger.transaction():
        raise RuntimeError
    assert history(ledger, 1) == []
    with ledger.transaction():
        pass
    assert history(ledger, 1) == [Slot(FIRST, 5, 0, 0, 0)]


def test_a_day_is_kept(ledger: Ledger) -> None:
    """The state file would grow for as long as it is used, or the lag before the first slot not be known."""
    for slot in range(SLOTS + 100):
        note(ledger, FIRST + slot, slot)
    found = history(ledger, 1)
    assert len(found) == SLOTS + 1
    assert (found[0].watermark_ms, found[-1].watermark_ms) == (99, SLOTS + 99)


def test_a_backfill_alone_is_bounded_too(ledger: Ledger) -> None:
    """What has no watermark would never be deleted."""
    for slot in range(SLOTS + 100):
        with ledger.transaction():
            add_to_history(ledger, 1, (FIRST + slot) * SLOT_MS, spans=1)
    assert len(history(ledger, 1)) == SLOTS


def test_what_a_wrong_clock_wrote_goes(ledger: Ledger) -> None:
    """A clock that was a year ahead would leave slots that are never over."""
    note(ledger, FIRST, 5)
    note(ledger, FIRST + 100_000, 5)
    note(ledger, FIRST + 1, 6)
    assert [slot.number for slot in history(ledger, 1)] == [FIRST, FIRST + 1]
