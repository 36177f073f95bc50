"""A backfill: intervals of history that are not completed, several at once; a rerun resumes.

The intervals are synced in this process, or by jobs: processes of their own, where so many observations are left that
these save time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sync_worker.intervals import Interval, clip
from sync_worker.ledger.lease import BACKFILL
from sync_worker.ledger.state_keys import LAST_BACKFILL
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.plan import IntervalPlanner, due
from sync_worker.runs.coverage import Coverage
from sync_worker.runs.interval import IntervalJob
from sync_worker.runs.progress import Progress
from sync_worker.runs.whole_traces import WholeTraces


@dataclass(frozen=True, slots=True)
class Synced:
    """What of an interval was synced: all from `down_to` (Unix ms) on, and how many observations were read for it.

    None: not known.
    """

    down_to: int
    observations: int | None


class Jobs(Protocol):
    """The jobs of a source: processes that sync intervals."""

    @property
    def places(self) -> int:
        """How many intervals they take at once; 0 while there are none."""

    def grow(self, observations: int) -> None:
        """Start jobs, as many as are worth it for about so many observations that are left."""

    async def sync(self, interval: Interval, progress: Progress) -> Synced | None:
        """Sync an interval; None where no job can. Raises as reader and delivery do."""

    async def end(self) -> None:
        """End all of them, and wait for it. What they could not deliver is kept for `check`."""

    def check(self) -> None:
        """Raise for what they left undelivered, as `Delivery.check` does."""


class NoJobs:
    """No jobs: all is done in this process."""

    places = 0

    def grow(self, observations: int) -> None:
        """Start none."""

    async def sync(self, interval: Interval, progress: Progress) -> Synced | None:
        """Sync nothing."""

    async def end(self) -> None:
        """End nothing."""

    def check(self) -> None:
        """Nothing was left."""


async def sync_interval(
    pipeline: Pipeline, interval: Interval, progress: Progress | None, *, hands_back: bool
) -> Synced:
    """Sync an interval of a backfill in this process; see `IntervalJob`. Raises as reader and delivery do."""
    limits = pipeline.session.limits
    job = IntervalJob(pipeline, BACKFILL, interval, progress, hands_back=hands_back)
    await pipeline.run(job, limits.held_bytes // limits.backfill_intervals)
    return Synced(job.done_to, job.count)


async def backfill(
    pipeline: Pipeline,
    coverage: Coverage,
    whole: Interval,
    partitions: Sequence[Interval] | None,
    progress: Progress | None,
    jobs: Jobs | None = None,
) -> None:
    """Sync what of `whole` is not completed; with `partitions`, only in them. Raises as reader and delivery do.

    What was read under other rules is read again, for what these left out.
    """
    completed, pipeline.session.reread = coverage.under_rules()
    own = [whole] if partitions is None else clip(partitions, whole)
    gaps = coverage.claim_gaps([gap for part in own for gap in due(part.start, part.end, completed)])
    progress = Progress() if progress is None else progress
    progress.plan(gaps)
    pipeline.session.state.put(LAST_BACKFILL, {
        "from": whole.start, "to": whole.end, "own": sum(part.length for part in own),
        "began_ms": pipeline.session.clock.now_ms(), "todo": sum(gap.length for gap in gaps),
    })  # fmt: skip
    run = _Backfill(pipeline, gaps, progress, NoJobs() if jobs is None else jobs, divides=jobs is not None)
    await run.sync_all()
    await WholeTraces(pipeline).send()


class _Backfill:
    """One backfill: hands out intervals, oldest first, to this process or to jobs."""

    def __init__(
        self,
        pipeline: Pipeline,
        gaps: Sequence[Interval],
        progress: Progress,
        jobs: Jobs,
        *,
        divides: bool,
    ) -> None:
        self._pipeline = pipeline
        self._limits = pipeline.session.limits
        self._gaps = deque(gaps)
        self._progress = progress
        self._jobs = jobs
        self._divides = divides  # whether a dense interval is handed back, for jobs to have parts of it
        self._planner = IntervalPlanner(target=self._limits.interval_observations)
        self._tasks: dict[asyncio.Task[Synced], Interval] = {}
        self._density = 0.0  # observations a millisecond, where it was highest of the last and of all
        self._read, self._milliseconds = 0, 0
        self._done = 0  # intervals

    async def sync_all(self) -> None:
        """Sync all gaps. After an error what is under way is finished, and nothing more begun. Raises the first."""
        error: BaseException | None = None
        try:
            while self._tasks or (self._gaps and error is None):
                if error is None:
                    self._jobs.grow(round(self._density * sum(gap.length for gap in self._gaps)))
                    self._hand_out()
                finished, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in finished:
                    interval = self._tasks.pop(task)
                    error = error or task.exception()
                    if task.exception() is None:
                        self._note(interval, task.result())
        finally:
            await self._jobs.end()
        if error is not None:
            raise error

    def _hand_out(self) -> None:
        """Begin as many intervals as may be under way at once: one alone until the density of any is known."""
        most = self._jobs.places or (self._limits.backfill_intervals if self._done else 1)
        while self._gaps and len(self._tasks) < most:
            gap = self._gaps.popleft()
            interval = next(self._planner.split([gap]))
            if interval.end < gap.end:
                self._gaps.appendleft(Interval(interval.end, gap.end))
            self._tasks[asyncio.create_task(self._sync(interval))] = interval

    async def _sync(self, interval: Interval) -> Synced:
        if self._jobs.places:
            synced = await self._jobs.sync(interval, self._progress)
            if synced is not None:
                return synced
        return await sync_interval(self._pipeline, interval, self._progress, hands_back=self._divides)

    def _note(self, interval: Interval, synced: Synced) -> None:
        """Note what was synced of an interval; the rest of it is handed out again."""
        self._done += 1
        part = Interval(synced.down_to, interval.end)
        if synced.observations is not None:
            self._planner.adjust(part, synced.observations)
            self._read += synced.observations
            self._milliseconds += part.length
            last = synced.observations / max(1, part.length)
            self._density = max(last, self._read / max(1, self._milliseconds))
        self._progress.complete(interval, part)
        if part.start > interval.start:
            self._gaps.appendleft(Interval(interval.start, part.start))
