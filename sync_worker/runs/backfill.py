"""A backfill: intervals of history that are not completed, several at once; a rerun resumes.

The intervals are synced in this process, or by jobs: processes of their own, where so many observations are left that
these save time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sync_worker.intervals import Interval, clip
from sync_worker.ledger.lease import BACKFILL
from sync_worker.ledger.state_keys import LAST_BACKFILL
from sync_worker.pipeline.plan import Density, DueTime, IntervalPlanner, due
from sync_worker.runs.division import Division, Jobs, NoJobs, Synced, sync_interval
from sync_worker.runs.opened import OpenSource
from sync_worker.runs.progress import Progress
from sync_worker.runs.whole_traces import send_whole_traces

#: Whether a backfill sends scores: beside the spans where scores are on, alone, or not.
ScoreChoice = Literal["too", "only", "none"]


async def backfill(
    opened: OpenSource,
    whole: Interval,
    partitions: Sequence[Interval] | None,
    progress: Progress | None,
    jobs: Jobs | None = None,
) -> None:
    """Sync what of `whole` is not completed; with `partitions`, only in them. Raises as reader and delivery do.

    What was read under other rules is read again, for what these left out.
    """
    pipeline, coverage = opened.pipeline, opened.coverage
    completed, pipeline.session.reread = coverage.under_rules()
    own = [whole] if partitions is None else clip(partitions, whole)
    gaps = coverage.claim_gaps([gap for part in own for gap in due(part.start, part.end, completed)])
    progress = Progress() if progress is None else progress
    progress.plan(gaps)
    pipeline.session.state.put(LAST_BACKFILL, {
        "from": whole.start, "to": whole.end, "own": sum(part.length for part in own),
        "began_ms": pipeline.session.clock.now_ms(), "todo": sum(gap.length for gap in gaps),
    })  # fmt: skip

    async def here(interval: Interval) -> Synced:
        return await sync_interval(pipeline, BACKFILL, interval, progress, hands_back=jobs is not None)

    limits = pipeline.session.limits
    division = Division(
        DueTime(gaps, IntervalPlanner(target=limits.interval_observations)), Density(), progress,
        NoJobs() if jobs is None else jobs, here, at_once=limits.backfill_intervals,
    )  # fmt: skip
    await division.sync_all()
    await send_whole_traces(pipeline)
