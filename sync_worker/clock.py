"""Time, waits and randomness, passed in so that tests control them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from sync_worker.errors import SyncError


class Stopped(SyncError):
    """The run was asked to stop; what was in flight is finished and committed."""


class Clock(Protocol):
    """The time, waits and stop requests that the worker depends on."""

    def now_ms(self) -> int:
        """Return wall-clock time in Unix milliseconds."""

    def monotonic(self) -> float:
        """Return monotonic seconds."""

    async def sleep(self, seconds: float) -> None:
        """Wait; raises Stopped when the run is asked to stop during the wait."""

    def jitter(self) -> float:
        """Return a number from 0 to 1."""

    def check(self) -> None:
        """Raise Stopped when the run was asked to stop."""

    async def stopped(self) -> None:
        """Wait until the run is asked to stop."""


class RunClock(Clock, Protocol):
    """A clock that can be asked to stop what it drives."""

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to stop."""

    def stop(self) -> None:
        """Ask the run to stop: waits end, and the next check raises."""


class ClockOnMachine:
    """Base of clocks that differ from the machine's in wall-clock time only."""

    def __init__(self, machine: Clock) -> None:
        self._machine = machine
        self.monotonic = machine.monotonic
        self.sleep = machine.sleep
        self.jitter = machine.jitter
        self.check = machine.check
        self.stopped = machine.stopped


class SystemClock:
    """The machine's clock, whose waits end when the run is asked to stop."""

    def __init__(self) -> None:
        self._stop: asyncio.Event | None = None
        self._stopped = False

    def now_ms(self) -> int:
        """Return wall-clock time in Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait; raises Stopped when the run is asked to stop during the wait."""
        self.check()
        try:
            await asyncio.wait_for(self.stopped(), seconds)
        except TimeoutError:
            return
        self.check()

    def jitter(self) -> float:
        """Return a number from 0 to 1."""
        return random.random()  # noqa: S311 - spreads retries, no security

    def check(self) -> None:
        """Raise Stopped when the run was asked to stop."""
        if self._stopped:
            raise Stopped("asked to stop")

    def stop(self) -> None:
        """Ask the run to stop: waits end, and the next check raises."""
        self._stopped = True
        if self._stop is not None:
            self._stop.set()

    async def stopped(self) -> None:
        """Wait until the run is asked to stop."""
        if self._stop is None:
            self._stop = asyncio.Event()
        if not self._stopped:
            await self._stop.wait()

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to stop."""
        return self._stopped


@asynccontextmanager
async def first_of(*waits: Awaitable[Any]) -> AsyncIterator[Sequence[asyncio.Future[Any]]]:
    """Wait until one of several waits has ended, and yield all as futures; what has not ended by then is cancelled."""
    futures = list(map(asyncio.ensure_future, waits))
    try:
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        yield futures
    finally:
        for future in futures:
            future.cancel()
        await asyncio.gather(*futures, return_exceptions=True)
