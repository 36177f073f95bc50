"""Division: intervals that are due are handed out, oldest first, to this process or to jobs, until all are synced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from sync_worker.intervals import Interval
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.plan import Density, DueTime
from sync_worker.runs.interval import IntervalWork
from sync_worker.runs.progress import Progress


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
    pipeline: Pipeline, role: str, interval: Interval, progress: Progress, *, hands_back: bool
) -> Synced:
    """Sync an interval in this process, beside others; see `IntervalWork`. Raises as reader and delivery do."""
    limits = pipeline.session.limits
    work = IntervalWork(pipeline, role, interval, progress, hands_back=hands_back)
    await pipeline.run(work, limits.held_bytes // limits.backfill_intervals)
    return Synced(work.done_to, work.count)


def note_synced(interval: Interval, synced: Synced, due: DueTime, density: Density, progress: Progress) -> None:
    """Note what was synced of an interval that was taken; the rest of it is due again."""
    part = Interval(synced.down_to, interval.end)
    if synced.observations is not None:
        due.planner.adjust(part, synced.observations)
        density.add(part, synced.observations)
    progress.complete(interval, part)
    due.put_back(Interval(interval.start, part.start))


class Division:
    """One division. `here` syncs an interval in this process, `at_once` many at once; `note` is called after each."""

    def __init__(
        self,
        due: DueTime,
        density: Density,
        progress: Progress,
        jobs: Jobs,
        here: Callable[[Interval], Awaitable[Synced]],
        *,
        at_once: int,
        note: Callable[[], object] = lambda: None,
    ) -> None:
        self._due = due
        self._density = density
        self._progress = progress
        self._jobs = jobs
        self._here = here
        self._at_once = at_once
        self._after_each = note
        self._tasks: dict[asyncio.Task[Synced], Interval] = {}

    async def sync_all(self) -> None:
        """Sync all that is due. After an error what is under way is finished, and nothing more begun. Raises the first.

        The jobs are ended by then.
        """
        error: BaseException | None = None
        try:
            while self._tasks or (self._due and error is None):
                if error is None:
                    self._jobs.grow(round(self._density.highest * self._due.length))
                    self._hand_out()
                finished, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in finished:
                    interval = self._tasks.pop(task)
                    error = error or task.exception()
                    if task.exception() is None:
                        note_synced(interval, task.result(), self._due, self._density, self._progress)
                        self._after_each()
        finally:
            await self._jobs.end()
        if error is not None:
            raise error

    def _hand_out(self) -> None:
        """Begin as many intervals as may be under way at once: one alone until the density of any is known."""
        most = self._jobs.places or (self._at_once if self._density.is_known else 1)
        while self._due and len(self._tasks) < most:
            interval = self._due.take(self._jobs.places)
            self._tasks[asyncio.create_task(self._sync(interval))] = interval

    async def _sync(self, interval: Interval) -> Synced:
        if self._jobs.places:
            synced = await self._jobs.sync(interval, self._progress)
            if synced is not None:
                return synced
        return await self._here(interval)
