"""Time that a test owns: waits pass at once, and every wait is kept."""

from __future__ import annotations

import asyncio

from sync_worker.clock import Stopped


class VirtualClock:
    """A clock that stands still until somebody sleeps or a test moves it. Wall-clock time in Unix milliseconds."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.wall_ms = now_ms
        self.seconds = 1_000.0
        self.waits: list[float] = []
        self.stopping = False
        self.chance = 1.0
        self._waiting: list[asyncio.Future[None]] = []

    def now_ms(self) -> int:
        """Return wall-clock time in Unix milliseconds."""
        return self.wall_ms

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Let the time pass at once; others on the loop get their turn."""
        self.check()
        self.waits.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0)
        self.check()

    def jitter(self) -> float:
        """Return what the test says; 1, as long as it says nothing: waits are as long as they can be."""
        return self.chance

    def check(self) -> None:
        """Raise Stopped when the test asked for it."""
        if self.stopping:
            raise Stopped("asked to stop")

    def advance(self, seconds: float) -> None:
        """Move both clocks."""
        self.seconds += seconds
        self.wall_ms += round(seconds * 1000)

    def jump(self, seconds: float) -> None:
        """Move the wall clock alone, as a time server does."""
        self.wall_ms += round(seconds * 1000)

    def stop(self) -> None:
        """Ask the run to stop."""
        self.stopping = True
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def stopped(self) -> None:
        """Wait until the run is asked to stop."""
        if not self.stopping:  # of whatever loop: a test may have several, one after the other
            self._waiting = [waiting for waiting in self._waiting if not waiting.done()]
            self._waiting.append(asyncio.get_running_loop().create_future())
            await self._waiting[-1]
