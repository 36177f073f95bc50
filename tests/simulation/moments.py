"""Time that passes only when everybody waits, the loop that makes it pass, and the trail of what happened in it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import selectors
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sync_worker.clock import Stopped
from sync_worker.errors import SyncError

BEGIN = 1_000.0  # seconds on the steady clock when the simulation begins
_LONGEST = 40 * 86_400.0  # seconds; no seed needs more

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Moments:
    """True time, which no process sees, and what happened when. `skew_ms` is how wrong the machine's clock is."""

    def __init__(self, start_ms: int) -> None:
        self.start_ms = start_ms
        self.seconds = BEGIN
        self.skew_ms = 0
        self.trail: list[tuple[int, str]] = []

    def true_ms(self) -> int:
        """Return the true time in Unix milliseconds."""
        return self.start_ms + round((self.seconds - BEGIN) * 1000)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds

    def reach(self, moment_ms: int) -> None:
        """Let time pass up to a moment, if that lies ahead."""
        self.seconds = max(self.seconds, BEGIN + (moment_ms - self.start_ms) / 1000)

    def note(self, event: str) -> None:
        """Write an event into the trail."""
        self.trail.append((self.true_ms(), event))


def readable(moment_ms: int) -> str:
    """Return a time for people."""
    return datetime.fromtimestamp(moment_ms / 1000, UTC).strftime("%d %H:%M:%S.%f")[:-3]


class SimulatedClock:
    """The clock of one process; it may stop the process, and is still when the process is dead."""

    def __init__(self, moments: Moments, chance: random.Random, guard: Callable[[], None]) -> None:
        self._moments = moments
        self._chance = chance
        self._guard = guard
        self._stop = asyncio.Event()
        self.skew_ms = 0  # how wrong it is, beside the machine's
        self.stands_at: int | None = None  # where it stands still

    def now_ms(self) -> int:
        """Return wall-clock time in Unix milliseconds, as wrong as this process has it."""
        running = self._moments.true_ms() + self._moments.skew_ms + self.skew_ms
        return running if self.stands_at is None else self.stands_at

    def jump(self, chance: random.Random, *, far: bool) -> None:
        """Go wrong, or right, in some way."""
        self.stands_at = None
        self.skew_ms = chance.choice([0, chance.randint(-120, 120) * SECOND])
        if far:
            kinds = (-HOUR, HOUR, -100 * HOUR, 100 * HOUR, 30 * DAY, HOUR - self._moments.true_ms(), 0)
            self.skew_ms = chance.choice(kinds)
            if chance.random() < 0.15:
                self.stands_at = self.now_ms()
        self._moments.note(f"a clock is wrong by {self.skew_ms} ms{' and stands' * (self.stands_at is not None)}")

    def set_right(self) -> None:
        """Show true time from now on."""
        self.skew_ms, self.stands_at = 0, None

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return self._moments.seconds

    async def sleep(self, seconds: float) -> None:
        """Wait; raises Stopped when the process is asked to stop meanwhile."""
        self.check()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)
        self.check()

    def jitter(self) -> float:
        """Return a number from 0 to 1."""
        return self._chance.random()

    def check(self) -> None:
        """Raise Stopped when the process was asked to stop."""
        self._guard()
        if self._stop.is_set():
            raise Stopped("asked to stop")

    def stop(self) -> None:
        """Ask the process to stop."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether the process was asked to stop."""
        return self._stop.is_set()

    async def stopped(self) -> None:
        """Wait until the process is asked to stop."""
        await self._stop.wait()


class Stuck(Exception):
    """Everybody waits, and nothing will ever happen."""


class _Sleeper(selectors.SelectSelector):
    """Lets time pass instead of waiting for the network."""

    def __init__(self, moments: Moments) -> None:
        super().__init__()
        self._moments = moments

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("everybody waits for something that will not come")
        if timeout > 0:
            self._moments.advance(timeout)
        if self._moments.seconds > BEGIN + _LONGEST:
            raise Stuck("what was begun goes on for months")
        return []


class Loop(asyncio.SelectorEventLoop):
    """An event loop in simulated time."""

    def __init__(self, moments: Moments) -> None:
        self._moments = moments
        self.unheard: list[str] = []  # faults, not of the worker's own kinds, that nobody awaited
        super().__init__(_Sleeper(moments))
        self.set_exception_handler(self._receive)

    def time(self) -> float:
        """Return the steady clock's seconds."""
        return self._moments.seconds

    def _receive(self, _: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        fault = context.get("exception")
        if isinstance(fault, Exception) and not isinstance(fault, SyncError):
            self.unheard.append(f"{context.get('message')}: {fault!r}")

    def end(self) -> None:
        """Cancel what is under way, let it end, and close."""
        try:
            tasks = asyncio.all_tasks(self)
            for task in tasks:
                task.cancel()
            if tasks:
                self.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self.run_until_complete(self.shutdown_asyncgens())
        finally:
            self.close()
