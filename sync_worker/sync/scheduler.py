"""APScheduler on the monotonic clock.

APScheduler 3 uses `datetime.now()` for what is due and for its waits: a clock set back by an hour stops it for an hour,
one set forward runs everything at once. Here a time is the monotonic seconds of the run's clock since 1970, as a date,
and the waits are that clock's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

from apscheduler.executors.base import MaxInstancesReachedError
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.base import STATE_PAUSED
from apscheduler.triggers.interval import IntervalTrigger

from sync_worker.clock import Clock, Stopped

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class MonotonicScheduler(AsyncIOScheduler):  # type: ignore[misc]
    """Runs jobs at intervals, one instance of each at a time; missed times are coalesced."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(timezone=UTC)
        self._clock = clock
        self._timer: asyncio.Task[None] | None = None

    def every(
        self,
        seconds: float,
        job: Callable[..., Awaitable[None]],
        name: str,
        args: Sequence[object] = (),
        *,
        at_once: bool,
    ) -> None:
        """Add a job, to run every so many seconds; first now or after the first interval."""
        first = self._now() if at_once else self._now() + timedelta(seconds=seconds)
        self.add_job(
            job, IntervalTrigger(seconds=seconds, start_date=first, timezone=UTC), args=list(args), id=name,
            max_instances=1, coalesce=True, misfire_grace_time=None, next_run_time=first,
        )  # fmt: skip

    def _now(self) -> datetime:
        return _BEGINNING + timedelta(seconds=self._clock.monotonic())

    def _process_jobs(self) -> float | None:
        """Start what is due and return the seconds until the next job; None while paused. Overrides APScheduler's."""
        if self.state == STATE_PAUSED:
            return None
        now = self._now()
        with self._jobstores_lock:
            store = self._lookup_jobstore("default")
            for job in store.get_due_jobs(now):
                with contextlib.suppress(MaxInstancesReachedError):  # it is still running: the next time is used
                    self._lookup_executor(job.executor).submit_job(job, [now])
                missed = (now - job.next_run_time) // job.trigger.interval
                job._modify(  # noqa: SLF001 - what its own scheduler does
                    next_run_time=job.next_run_time + (missed + 1) * job.trigger.interval
                )
                store.update_job(job)
            upcoming = store.get_next_run_time()
        return None if upcoming is None else max(0.0, (upcoming - now).total_seconds())

    def _start_timer(self, wait_seconds: float | None) -> None:
        self._stop_timer()
        if wait_seconds is not None:
            self._timer = asyncio.ensure_future(self._wake_in(wait_seconds))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _wake_in(self, seconds: float) -> None:
        with contextlib.suppress(Stopped):  # nothing more is started
            await self._clock.sleep(seconds)
            self._timer = None  # waking up starts the next timer, and must not cancel this one
            self.wakeup()
