"""Which time a run works on: never two at once, and nobody's once its run is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_worker.errors import LeaseHeld
from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger
from sync_worker.ledger.claims import FOR_EVER, claim, claim_all, claimed_by, claimed_by_others
from sync_worker.ledger.lease import BACKFILL, LIVE, release, take
from tests.ledger.made import beside, die

WHOLE = Interval(100, FOR_EVER)


@pytest.fixture
def backfill(live: Ledger, path: Path) -> Iterator[Ledger]:
    """Return the state file, open in another process, under the lease of a backfill."""
    with beside(live, path, BACKFILL) as opened:
        yield opened


def _begin_again(ledger: Ledger) -> None:
    """Begin the next run, where the last one was killed."""
    assert ledger.lease is not None
    ledger.lease.lock.close()
    take(ledger, BACKFILL)


def test_each_leaves_out_what_the_other_claims(live: Ledger, backfill: Ledger) -> None:
    """Two runs work on the same time, or one leaves more to the other than that one works on."""
    assert claim(backfill, 1, [Interval(50, 150), Interval(200, 300)]).own == [Interval(50, 150), Interval(200, 300)]
    assert claim(live, 1, [WHOLE]).own == [Interval(150, 200), Interval(300, FOR_EVER)]
    assert claim(live, 2, [WHOLE]).own == [WHOLE]
    assert claimed_by_others(live, 1) == [Interval(50, 150), Interval(200, 300)]
    assert backfill.lease is not None
    release(backfill, backfill.lease)
    assert claimed_by_others(live, 1) == []
    assert claim(live, 1, [WHOLE]).own == [WHOLE]


def test_what_is_done_is_free(live: Ledger, backfill: Ledger) -> None:
    """An interval that a backfill has done stays closed to the live sync until all others are done."""
    claim(backfill, 1, [Interval(0, 1000)])
    backfill.commit_interval(1, BACKFILL, Interval(200, 300), [], [])
    assert claimed_by_others(live, 1) == [Interval(0, 200), Interval(300, 1000)]
    claim(live, 1, [WHOLE])
    live.commit_interval(1, LIVE, Interval(200, 300), [], [])
    assert claimed_by_others(backfill, 1) == [Interval(200, 300), Interval(1000, FOR_EVER)]


def test_dead_run_claims_nothing_and_writes_nothing(live: Ledger, backfill: Ledger) -> None:
    """Time of a killed run is nobody's; or one that only slept goes on with time that is another's by now."""
    claim(backfill, 1, [Interval(0, 1000)])
    die(backfill)
    assert claimed_by_others(live, 1) == []
    assert claim(live, 1, [WHOLE]).own == [WHOLE]
    with pytest.raises(LeaseHeld):
        backfill.commit_interval(1, BACKFILL, Interval(0, 1000), [], [])
    assert live.completed_intervals(1, BACKFILL) == []


def test_next_run_of_a_role_begins_with_nothing(live: Ledger, backfill: Ledger) -> None:
    """What a killed backfill had claimed counts for the next one, which works on something else."""
    claim(backfill, 1, [Interval(0, 1000)])
    die(backfill)
    _begin_again(backfill)
    assert claimed_by_others(live, 1) == []


def test_demand_is_met_at_the_next_claim(live: Ledger, backfill: Ledger) -> None:
    """A run that needs time of a live sync takes it while that one is at work on it, or never gets it."""
    claim(live, 1, [WHOLE])
    claim_all(backfill, 1, [Interval(200, 300)])
    assert claimed_by_others(backfill, 1) == [WHOLE]
    assert claim(live, 1, [WHOLE]).own == [Interval(100, 200), Interval(300, FOR_EVER)]
    assert claimed_by_others(backfill, 1) == [Interval(100, 200), Interval(300, FOR_EVER)]


def test_time_that_is_demanded_is_not_held_by_the_dead(live: Ledger, backfill: Ledger) -> None:
    """A live sync that was killed, and slept only, would come back to its claims beside the run that took them."""
    claim(live, 1, [WHOLE])
    die(live)
    claim_all(backfill, 1, [Interval(200, 300)])
    assert claimed_by(backfill, 1, LIVE) == []
    assert set(backfill.leases()) == {BACKFILL}
