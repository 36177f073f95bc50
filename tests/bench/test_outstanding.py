"""What of a flow has not arrived is kept apart: what will come, and what is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.flow import Comes, Flow
from bench.freshness import arrival_bound
from bench.outstanding import Progress, Reason, progress, reasons
from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger, open_ledger, source_scope
from sync_worker.ledger.lease import LIVE
from sync_worker.ledger.state_keys import last_scan
from sync_worker.spans.span_model import ObservationKey
from tests.ledger.made import letter, note
from tests.support.clock import VirtualClock

FLOW = Flow(rate=20, seconds=5, first_ms=1_795_000_000_000)
END = FLOW.first_ms + 600_000
NOW = END + 30_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Return the state file of a worker that has synced the flow's time, and scanned it since."""
    opened = open_ledger(tmp_path / "state.db", VirtualClock())
    source = opened.store_source("key", "http://langfuse", "p", "kelet", "Project", "org")
    assert source.id == 1
    opened.commit_interval(1, LIVE, Interval(FLOW.first_ms - 1, END), [], [])
    state = opened.state(source_scope(1))
    state.put(last_scan(1_200_000), END)
    state.save()
    yield opened
    opened.close()


def one(*, late: bool = False) -> Comes:
    return next(one for one in FLOW.all if one.is_late == late)


def reasons_of(ledger: Ledger, *missing: Comes, now: int = NOW) -> list[Reason]:
    return reasons(ledger.path, FLOW, missing, now)


def test_what_nothing_waits_for_is_lost(ledger: Ledger) -> None:
    """The worst fault of all would pass as an observation that is a little late."""
    (found,) = reasons_of(ledger, one(), one(late=True))
    assert (found.count, found.is_loss) == (2, True)


def test_what_counts_as_sent_and_is_not_there_is_lost(ledger: Ledger) -> None:
    """A worker that notes before it sends would pass."""
    key = ObservationKey(one().trace_id, FLOW.id_of(one().number))
    ledger.leave_out(1, [(key, one().start_ms, one().written_ms, b"state-01")])
    assert progress(ledger.path, FLOW) == Progress(done=1, watermark_ms=END)
    (found,) = reasons_of(ledger, one())
    assert found.is_loss
    assert "counts as sent" in found.text


def test_a_pending_trace_is_no_loss(ledger: Ledger) -> None:
    """A run would fail over what is sent in the next cycle."""
    ledger.store_traces(1, [note(one().trace_id, pending=True, check_ms=NOW + 7_000)])
    (found,) = reasons_of(ledger, one())
    assert not found.is_loss
    assert found.describe(NOW) == "1: its trace is pending, due in 7 to 7 s"
    assert progress(ledger.path, FLOW).pending == 1


def test_what_no_scan_has_listed_yet_is_no_loss(ledger: Ledger) -> None:
    """A run would fail over late observations that the next lookback scan finds."""
    state = ledger.state(source_scope(1))
    state.put(last_scan(1_200_000), one(late=True).written_ms - 1_000)
    state.save()
    (found,) = reasons_of(ledger, one(late=True))
    assert not found.is_loss
    assert found.due_ms == [one(late=True).written_ms - 1_000 + 100_000]
    (early,) = reasons_of(ledger, one(late=True), now=one(late=True).written_ms - 1)
    assert early.text == "it is not listed yet"


def test_a_gap_and_a_dead_letter_are_no_loss(ledger: Ledger) -> None:
    """What is still to be read, or is kept with its reason, would count as lost."""
    ledger.reopen(1, LIVE, Interval(one().start_ms, one().start_ms + 1))
    (found,) = reasons_of(ledger, one())
    assert (found.text, found.is_loss) == ("its interval is not completed", False)
    trace, row = one().trace_id, FLOW.id_of(one().number)
    ledger.commit_interval(1, LIVE, Interval(0, 0), [], [letter(trace, row, kind="unreadable")])
    (found,) = reasons_of(ledger, one())
    assert (found.text, found.is_loss) == ("it is a dead letter", False)


def test_the_wait_reaches_beyond_the_next_scan() -> None:
    """The benchmark would stop before the scan that finds the last late observations, and report them as missing."""
    for interval in (15, 60, 300):
        assert arrival_bound(interval) > 100 + 50 + 30 + 2 * interval
