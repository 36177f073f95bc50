"""How rows are read once more in few requests."""

from __future__ import annotations

from sync_worker.intervals import Interval
from sync_worker.ledger import SecondRead
from sync_worker.runs.second_read import plan_reads


def _reads(*starts: int) -> list[SecondRead]:
    return [SecondRead("t", str(start), start, 0) for start in starts]


def test_many_close_rows_are_read_as_a_interval() -> None:
    """A busy source would pay a request for each two hundred rows instead of a thousand."""
    dense = _reads(*range(0, 60_000, 60))
    plan = plan_reads([*dense, *_reads(10_000_000)], length_ms=20_000 * 60)
    assert plan.intervals == [Interval(0, 59_941)]
    assert [read.start_ms for read in plan.by_id] == [10_000_000]


def test_few_rows_among_many_are_read_by_id() -> None:
    """Rows of a dense hour that were touched lately would cost a walk through all of it."""
    assert plan_reads(_reads(*range(0, 60_000, 60)), length_ms=20_000).intervals == []


def test_few_rows_are_read_by_id() -> None:
    """Rows far apart would cost an interval each, and so would all where nothing is known of how dense they are."""
    assert plan_reads(_reads(*range(0, 100 * 30_000, 30_000)), length_ms=3_600_000).intervals == []
    assert plan_reads(_reads(*range(1_000)), None).intervals == []
    assert plan_reads([], None).by_id == []
