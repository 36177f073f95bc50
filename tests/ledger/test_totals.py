"""Totals of a source, and state keys: what `status` tells, whoever wrote it."""

from __future__ import annotations

from pathlib import Path

from sync_worker.ledger import Ledger, open_ledger
from sync_worker.ledger.lease import BACKFILL, LIVE, release, take
from sync_worker.ledger.state_keys import StateKey
from sync_worker.ledger.totals import ACCEPTED, MOST_LABELS, OTHER, count, totals
from tests.ledger.made import letter, span

KEY = StateKey("name", int, str)


def test_what_was_accepted_and_dead_lettered_is_counted(ledger: Ledger) -> None:
    """A counter would miss spans, count them twice, or for another source."""
    ledger.commit_result(1, [span("t", "r"), span("t", "s")], [letter("t", "x", spans=3)])
    ledger.commit_result(1, [span("u", "r")], [])
    ledger.commit_result(2, [span("u", "r", project="q")], [])
    assert totals(ledger, 1) == {(ACCEPTED, "p"): 3, ("dead-lettered", "rejected"): 3}
    assert totals(ledger, 2) == {(ACCEPTED, "q"): 1}


def test_labels_are_bounded(ledger: Ledger) -> None:
    """A template that makes a Kelet project of each user would fill the state file."""
    with ledger.transaction():
        for number in range(MOST_LABELS + 5):
            count(ledger, 1, ACCEPTED, f"p{number}", 1)
        count(ledger, 1, ACCEPTED, "p0", 2)
    found = totals(ledger, 1)
    assert (len(found), found[ACCEPTED, OTHER], found[ACCEPTED, "p0"]) == (MOST_LABELS + 1, 5, 3)


def test_only_the_live_sync_is_live(ledger: Ledger) -> None:
    """A backfill would write what belongs to the live sync."""
    assert not ledger.is_live
    for role, is_live in ((LIVE, True), (BACKFILL, False)):
        held = take(ledger, role)
        assert ledger.is_live is is_live
        release(ledger, held)


def test_a_state_key_is_read_as_it_stands_where_that_is_asked_for(ledger: Ledger, path: Path) -> None:
    """A process would go on with what another one has changed since, or lose what it has not written yet."""
    other = open_ledger(path, ledger.clock)
    one, two = ledger.state("scope"), other.state("scope")
    assert one.get(KEY) is one.get(KEY, fresh=True) is None
    two.put(KEY, 7)
    two.save()
    assert (one.get(KEY), one.get(KEY, fresh=True)) == (None, 7)
    one.put(KEY, 8)
    assert (one.get(KEY), one.get(KEY, fresh=True), two.get(KEY, fresh=True)) == (8, 8, 7)
    ledger.reload("scope")
    assert one.get(KEY) == 8
    one.save()
    assert two.get(KEY, fresh=True) == 8
    two.drop(KEY)
    two.save()
    ledger.reload("scope")
    assert one.get(KEY) is None
    other.close()
