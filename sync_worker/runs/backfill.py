"""A backfill: intervals of history that are not completed, several at once; a rerun resumes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sync_worker.intervals import Interval, clip
from sync_worker.ledger.lease import BACKFILL
from sync_worker.ledger.state_keys import LAST_BACKFILL
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.plan import IntervalPlanner, due
from sync_worker.runs.coverage import Coverage
from sync_worker.runs.interval import IntervalJob
from sync_worker.runs.progress import Progress
from sync_worker.runs.whole_traces import WholeTraces


async def backfill(
    pipeline: Pipeline,
    coverage: Coverage,
    whole: Interval,
    partitions: Sequence[Interval] | None,
    progress: Progress | None,
) -> None:
    """Sync what of `whole` is not completed; with `partitions`, only in them. Raises as reader and delivery do.

    What was read under other rules is read again, for what these left out.
    """
    limits = pipeline.session.limits
    completed, pipeline.session.reread = coverage.under_rules()
    own = [whole] if partitions is None else clip(partitions, whole)
    planner = IntervalPlanner(target=limits.interval_observations)
    claimed = coverage.claim_gaps([gap for part in own for gap in due(part.start, part.end, completed)])
    if progress is not None:
        progress.plan(claimed)
    todo = planner.split(claimed)
    pipeline.session.state.put(LAST_BACKFILL, {
        "from": whole.start, "to": whole.end, "own": sum(part.length for part in own),
        "began_ms": pipeline.session.clock.now_ms(), "todo": sum(gap.length for gap in claimed),
    })  # fmt: skip
    done = 0
    error: BaseException | None = None
    tasks: dict[asyncio.Task[int], Interval] = {}

    async def sync(interval: Interval) -> int:
        job = IntervalJob(pipeline, BACKFILL, interval, progress)
        await pipeline.run(job, limits.held_bytes // limits.backfill_intervals)
        return job.count

    while tasks or error is None:
        while error is None and len(tasks) < (limits.backfill_intervals if done else 1):
            interval = next(todo, None)
            if interval is None:
                break
            tasks[asyncio.create_task(sync(interval))] = interval
        if not tasks:
            break
        finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in finished:
            interval = tasks.pop(task)
            error = task.exception()
            error = error or error
            if error is None:
                done += 1
                planner.adjust(interval, task.result())
                if progress is not None:
                    progress.complete(interval)
    if error is not None:
        raise error
    await WholeTraces(pipeline).send()
