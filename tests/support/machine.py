"""Processes on one state file, in simulated time: budgets, leases, and when each request went out."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from sync_worker.langfuse.buckets import PUBLIC_API, RateLimiters
from sync_worker.langfuse.rate_limiter import Quota, RateLimiter
from sync_worker.ledger import Ledger, lease, open_ledger
from tests.simulation.moments import Loop, Moments, SimulatedClock

NOON = 1_795_348_800_000
ORGANIZATION = "organization https://cloud.langfuse.com o1"
TOLERANCE = 0.002  # seconds; the state file holds whole milliseconds


@dataclass
class Machine:
    """A machine whose processes share a clock; `sent` is when requests went out, by the steady clock, and whose."""

    state: Path
    moments: Moments = field(default_factory=lambda: Moments(NOON))
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    sent: list[tuple[float, str]] = field(default_factory=list)

    def run(self, *work: Coroutine[Any, Any, None]) -> None:
        """Do several things at once, in simulated time."""
        loop = Loop(self.moments)
        try:
            loop.run_until_complete(_all(work))
        finally:
            loop.end()

    @contextlib.contextmanager
    def process(
        self, role: str = "", *, limit: int | None = None, share: Fraction = Fraction(4, 5), parts: int = 1
    ) -> Iterator[Process]:
        """Start a process in a role (none: one that only asks), and end it."""
        clock = SimulatedClock(self.moments, self.chance, lambda: None)
        ledger = open_ledger(self.state, clock, busy_timeout=0.05)
        held: lease.Lease | None = None
        try:
            held = lease.take(ledger, role) if role else None
            budgets = RateLimiters(clock, Quota(limit, share, parts), ledger.requests)
            buckets = budgets.of(ORGANIZATION)
            yield Process(self, role, clock, ledger, buckets.overall or buckets.of(PUBLIC_API))
        finally:
            if held is not None:
                lease.release(ledger, held)
            ledger.close()

    def most_in_a_minute(self, *roles: str) -> int:
        """Return the most requests (of some roles) that any 60 seconds held."""
        times = sorted(time for time, role in self.sent if not roles or role in roles)
        return max((sum(1 for time in times if end - 60 + TOLERANCE < time <= end) for end in times), default=0)


@dataclass
class Process:
    """One process."""

    machine: Machine
    role: str
    clock: SimulatedClock
    ledger: Ledger
    budget: RateLimiter

    async def ask(self, times: int = 1, *, between: float = 0.0, longest: float | None = None) -> list[float]:
        """Send so many requests; return how long each waited for the budget."""
        waits = []
        for _ in range(times):
            began = self.clock.monotonic()
            await self.budget.acquire(longest)
            self.machine.sent.append((self.clock.monotonic(), self.role))
            waits.append(self.clock.monotonic() - began)
            if between:
                await self.clock.sleep(between)
        return waits

    async def press(self, until: float, *, at_once: int = 3) -> None:
        """Send as many requests as the budget admits, several at once, up to a time by the steady clock."""

        async def one() -> None:
            while self.clock.monotonic() < until:
                await self.ask()
                await self.clock.sleep(0.05 + self.machine.chance.random() / 10)

        await _all([one() for _ in range(at_once)])

    async def ask_now_and_then(self, until: float) -> None:
        """Send a request every half minute, up to a time by the steady clock."""
        while self.clock.monotonic() < until:
            await self.ask(between=30.0)

    async def heartbeat(self, until: float) -> None:
        """Give signs of life for the lease, up to a time by the steady clock."""
        while self.clock.monotonic() < until:
            if self.ledger.lease is not None:
                lease.heartbeat(self.ledger, self.ledger.lease)
            await self.clock.sleep(lease.HEARTBEAT)


async def _all(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    await asyncio.gather(*work)
