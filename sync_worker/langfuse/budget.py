"""Requests a minute: what one organisation's limit leaves for this worker.

Langfuse Cloud counts requests per organisation in windows of 60 s, denied ones included, and tells the limit only with
a 429. What was learnt stays, and the worker keeps below it, since the customer's own application shares the limit.
"""

from __future__ import annotations

import math
from collections import deque

from sync_worker.clock import Clock

WINDOW = 60.0  # seconds
#: Of a limit learnt from the server, this share is taken; a limit set by the operator is taken whole.
SHARE_OF_LEARNT_LIMIT = 0.8


class Budget:
    """Spaces requests so that no 60 seconds hold more than the limit; without one, requests go out at once."""

    def __init__(self, clock: Clock, per_minute: int | None = None, parts: int = 1) -> None:
        self._clock = clock
        self._set = per_minute
        self._parts = parts
        self.learnt: int | None = None
        self._sent: deque[float] = deque()
        self._blocked_until = 0.0

    @property
    def per_minute(self) -> int | None:
        """Requests this worker allows itself in 60 seconds; None while no limit is known."""
        whole = self._set
        if whole is None and self.learnt is not None:
            whole = math.floor(self.learnt * SHARE_OF_LEARNT_LIMIT)
        return None if whole is None else max(1, whole // self._parts)

    def learn(self, limit: int) -> None:
        """Take note of the organisation's limit in requests a minute."""
        if limit > 0:
            self.learnt = limit

    def block(self, seconds: float) -> None:
        """Send nothing for so long: the server asked for it."""
        self._blocked_until = max(self._blocked_until, self._clock.monotonic() + seconds)

    async def acquire(self) -> None:
        """Wait until one more request may go out. Raises Stopped."""
        while True:
            now = self._clock.monotonic()
            while self._sent and self._sent[0] <= now - WINDOW:
                self._sent.popleft()
            wait = self._blocked_until - now
            limit = self.per_minute
            if limit is not None and len(self._sent) >= limit:
                wait = max(wait, self._sent[-limit] + WINDOW - now)
            if wait <= 0:
                self._sent.append(now)
                return
            await self._clock.sleep(wait)


class Budgets:
    """The budgets of a process, one an organisation: all of its sources share it.

    `parts` is how many processes share each limit: this one takes its part.
    """

    def __init__(self, clock: Clock, per_minute: int | None, parts: int = 1) -> None:
        self._clock = clock
        self._per_minute = per_minute
        self._parts = parts
        self._budgets: dict[str, Budget] = {}

    def of(self, organization: str) -> Budget:
        """Return the budget of an organisation, made on first use."""
        return self._budgets.setdefault(organization, Budget(self._clock, self._per_minute, self._parts))
