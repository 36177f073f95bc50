"""The process that leads jobs: starts them, hands out intervals, replaces those that die, and sums up what they count.

Crew          the jobs of a run, at most so many at once over all of its sources
SourceJobs    those of one source, as the run that divides its intervals sees them
JobProcess    one of them
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from functools import partial

from sync_worker.errors import SyncError, TransientError
from sync_worker.intervals import Interval, gaps
from sync_worker.ledger.trace_claims import release_job
from sync_worker.parallel import messages
from sync_worker.parallel.machine import PROCESS_BYTES
from sync_worker.parallel.process import Died, JobProcess
from sync_worker.parallel.slots import LentSlots
from sync_worker.runs.division import Synced
from sync_worker.runs.progress import Progress
from sync_worker.sync.engine import Engine
from sync_worker.sync.source_sync import SourceSync
from sync_worker.times import iso_time

#: How often jobs may die at an interval, with nothing of it synced in between.
_MOST_DEATHS = 3
#: How often in a row jobs may end before they have begun to work.
_MOST_FALSE_STARTS = 3

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Crew:
    """The jobs of a run. `most` is how many there may be at once; 1 means none: the run does all itself."""

    most: int
    _processes: dict[int, JobProcess] = field(default_factory=dict)  # by number

    def of(self, engine: Engine, sync: SourceSync) -> SourceJobs:
        """Return the jobs of one source of an engine, whose ledger holds the lease."""
        return SourceJobs(self, engine, sync)

    def free_number(self) -> int | None:
        """Return the number of a job that may be started; None where there are as many as may be."""
        return next((number for number in range(1, self.most + 1) if number not in self._processes), None)

    def add(self, process: JobProcess) -> None:
        """Add a job that was started."""
        self._processes[process.number] = process

    def remove(self, process: JobProcess) -> None:
        """Remove a job that has ended."""
        self._processes.pop(process.number, None)

    def kill(self) -> None:
        """Kill all jobs, for a run that ends at once."""
        for process in self._processes.values():
            process.kill()


class SourceJobs:
    """The jobs of one source, and the intervals they work on. See `runs.division.Jobs`."""

    def __init__(self, crew: Crew, engine: Engine, sync: SourceSync) -> None:
        self._crew = crew
        self._engine = engine
        self._sync = sync
        self._limits = engine.limits
        self._slots = LentSlots(engine.concurrency_limits)
        self._jobs: list[JobProcess] = []
        self._wanted = 0
        self._false_starts = 0
        self._ending = False
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._undelivered: list[SyncError] = []
        self._watching: asyncio.Task[None] | None = None

    @property
    def places(self) -> int:
        """How many intervals the jobs take at once; 0 while there are none."""
        return len(self._jobs) * self._limits.backfill_intervals

    def grow(self, observations: int) -> None:
        """Start jobs, as many as are worth it for about so many observations that are left.

        One is worth it for an interval of its own, and two at least: its start takes about a second.
        """
        worth = observations // self._limits.interval_observations
        self._wanted = worth if worth >= 2 else min(self._wanted, worth)
        self._start(self._wanted)

    async def sync(self, interval: Interval, progress: Progress) -> Synced | None:
        """Sync an interval; None where no job can. Raises as reader and delivery do.

        Where a job dies, what it had not completed is begun again by another one, from now on alone: so it shows at
        which interval jobs die. Raises TransientError where it is again and again this one.
        """
        deaths, death, whole = 0, "", interval
        while True:
            process = await self._free_job(alone=deaths > 0)
            if process is None:
                if deaths:  # this process would be the next to die
                    raise TransientError(f"no more jobs can be started, and the last one {death}. Try: run again")
                return None
            try:
                synced = await process.sync(interval, partial(progress.read, whole))
            except Died as died:
                if not process.was_ready:
                    continue
                left, death = self._left(interval), str(died)
                deaths = deaths + 1 if left == interval else 1
                if left is None:
                    return Synced(whole.start, None)
                if deaths >= _MOST_DEATHS:
                    raise TransientError(
                        f"{deaths} jobs in a row died at the interval {iso_time(left.start)} to {iso_time(left.end)}: "
                        f"the last one {death}. What was sent is stored, the interval is not completed. Try: more "
                        f"memory ({PROCESS_BYTES >> 20} MiB for each job and for this process), or --jobs 1"
                    ) from died
                interval = left
            else:
                return synced if interval == whole else Synced(synced.down_to, None)
            finally:
                self._news()

    async def end(self) -> None:
        """End all jobs, and wait for it; what they could not deliver is kept for `check`."""
        self._ending = True
        for process in self._jobs:
            process.send(messages.Finish())
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching

    def check(self) -> None:
        """Raise for what the jobs left undelivered, as `Delivery.check` does; the errors of all have the same cause."""
        for error in self._undelivered:
            raise error

    def _left(self, interval: Interval) -> Interval | None:
        """Return what of an interval is not completed; None if all is."""
        left = gaps(interval, self._sync.completed())
        return Interval(left[0].start, left[-1].end) if left else None

    async def _free_job(self, *, alone: bool) -> JobProcess | None:
        """Wait for a job that takes an interval, one with nothing else if `alone`; None where there are no jobs.

        Raises Stopped.
        """
        while True:
            self._engine.clock.check()
            self._start(1 if alone else self._wanted)
            if not self._jobs:
                return None
            most = 1 if alone else self._limits.backfill_intervals
            fitting = [job for job in self._jobs if not job.is_alone and len(job.intervals) < most]
            if fitting:
                process = min(fitting, key=lambda job: len(job.intervals))
                process.is_alone = alone
                return process
            self._changed.clear()
            await self._changed.wait()

    def _start(self, wanted: int) -> None:
        """Start jobs until there are as many as wanted, or as may be."""
        while not self._ending and len(self._jobs) < wanted and self._false_starts < _MOST_FALSE_STARTS:
            number = self._crew.free_number()
            if number is None:
                return
            try:
                process = JobProcess.start(self._setup(number), self._slots)
            except OSError as error:
                self._false_start(f"{error.strerror or error}")
                continue
            self._jobs.append(process)
            self._crew.add(process)
            if self._watching is None:
                log.info(
                    "%s: up to %d jobs, each of at most %d MiB",
                    self._sync.source.name, min(self._wanted, self._crew.most), PROCESS_BYTES >> 20,
                    extra={"action": "jobs"},
                )  # fmt: skip
                self._watching = asyncio.create_task(self._stop_with_run())
            task = asyncio.create_task(self._watch(process))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _setup(self, number: int) -> messages.Setup:
        engine, ledger = self._engine, self._engine.ledger
        if ledger.lease is None:
            raise AssertionError("jobs work under a lease")
        return messages.Setup(
            number, engine.settings, self._sync.source, ledger.path.absolute(), ledger.lease.role, ledger.lease.token,
            ledger.file_id(), engine.max_elapsed, engine.parts, engine.limits,
        )  # fmt: skip

    async def _watch(self, process: JobProcess) -> None:
        """Follow a job to its end."""
        await process.follow(self._news)
        self._jobs.remove(process)
        self._crew.remove(process)
        if process.counts is not None:
            self._sync.report.add(process.counts.report)
            self._engine.transports.measurements.add(process.counts.measured)
        if process.was_ready:
            self._false_starts = 0
        if process.died is not None:
            with contextlib.suppress(SyncError):  # the end of the lease does it too
                release_job(self._engine.ledger, process.number)
            if process.was_ready:
                log.warning(
                    "job %d %s: what it had not completed is begun again",
                    process.number, process.died, extra={"action": "jobs"},
                )  # fmt: skip
            else:
                self._false_start(process.died)
        if process.undelivered is not None:
            self._undelivered.append(process.undelivered)
        process.fail_open()
        self._news()

    def _false_start(self, why: str) -> None:
        self._false_starts += 1
        if self._false_starts == _MOST_FALSE_STARTS:
            log.warning(
                "no more jobs can be started (%s): the run continues with %s",
                why, f"{len(self._jobs)} of them" if self._jobs else "this process alone", extra={"action": "jobs"},
            )  # fmt: skip

    async def _stop_with_run(self) -> None:
        """Ask the jobs to stop when the run is asked to; kill those that do not."""
        await self._engine.clock.stopped()
        self._ending = True
        for process in list(self._jobs):
            process.send(messages.StopJob())
        self._news()
        await asyncio.sleep(messages.STOP_SECONDS)
        for process in list(self._jobs):
            log.warning("job %d did not stop in time, and is killed", process.number, extra={"action": "jobs"})
            process.kill()

    def _news(self) -> None:
        self._changed.set()
