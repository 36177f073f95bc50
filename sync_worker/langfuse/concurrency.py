"""Concurrency limit and circuit of a self-hosted server: fewer requests while it gets slower, none while it is down.

Langfuse Cloud has limits of its own; a self-hosted server has none, and reads are expensive for the database that also
ingests traces.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol
from urllib.parse import urlsplit

from sync_worker.clock import Clock
from sync_worker.waits import waiting

#: Concurrent requests to a self-hosted server.
MOST_AT_ONCE = 2
#: An answer that takes so many times as long as usual, and at least so many seconds, is slow.
_SLOW_FACTOR = 2.5
_SLOW_SECONDS = 1.0
#: After a slow answer the server rests for this share of the time it took.
_REST_SHARE = 0.5
#: Answers at the usual speed after which one request more is tried at once.
_RECOVERED = 16
#: So many requests that fail one after another open the circuit; then one request at a time probes it.
_FAILURES_TO_OPEN = 10
_FIRST_BREAK = 15.0  # seconds; doubled while it stays
_LONGEST_BREAK = 240.0

log = logging.getLogger(__name__)


class Slots(Protocol):
    """What limits the requests to one server at a time: in this process, or in the one that leads it."""

    async def acquire(self) -> None:
        """Wait until a request may go out. Raises Stopped."""

    def release(self, seconds: float | None, *, failed: bool) -> None:
        """Record how long a request took, and whether the server failed on it; None: nobody knows."""


class ServerSlots(Protocol):
    """The `Slots` of each server."""

    def of(self, base_url: str) -> Slots:
        """Return those of a server."""


class ConcurrencyLimit:
    """Limits requests to one server: `await acquire()` before each, `release(seconds, failed)` after it."""

    def __init__(self, clock: Clock, most: int | None = MOST_AT_ONCE) -> None:
        self._clock = clock
        self._most = most
        self.at_once = most or 0
        self._in_flight = 0
        self._typical: float | None = None
        self._at_usual_speed = 0
        self._rest_until = 0.0
        self._failures = 0
        self._break = _FIRST_BREAK
        self._freed = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether the circuit is open: only single probes are sent."""
        return self._failures >= _FAILURES_TO_OPEN

    async def acquire(self) -> None:
        """Wait until a request may go out. Raises Stopped."""
        if self._most is None:
            return
        while True:
            self._clock.check()
            wait = self._rest_until - self._clock.monotonic()
            if wait > 0:
                with waiting("Langfuse, which fails or is slow", wait, after_error=True):
                    await self._clock.sleep(wait)
            elif self._in_flight >= (1 if self.is_open else self.at_once):
                self._freed.clear()
                await self._freed.wait()
            else:
                self._in_flight += 1
                return

    def release(self, seconds: float | None, *, failed: bool) -> None:
        """Record how long a request took, and whether the server failed on it; None: nobody knows."""
        if self._most is None:
            return
        self._in_flight -= 1
        self._freed.set()
        if seconds is None:
            return
        if failed:
            self._record_failure()
            return
        if self.is_open:
            log.info("Langfuse answers again", extra={"action": "recovered"})
        self._failures, self._break = 0, _FIRST_BREAK
        self._record_speed(seconds)

    def _record_failure(self) -> None:
        self._failures += 1
        if self.is_open:
            log.warning(
                "Langfuse failed %d times in a row: no request for %.0f s",
                self._failures, self._break, extra={"action": "circuit open"},
            )  # fmt: skip
            self._rest_until = max(self._rest_until, self._clock.monotonic() + self._break)
            self._break = min(_LONGEST_BREAK, self._break * 2)

    def _record_speed(self, seconds: float) -> None:
        usual = seconds if self._typical is None else self._typical
        if seconds >= _SLOW_SECONDS and seconds > usual * _SLOW_FACTOR:
            self.at_once, self._at_usual_speed = 1, 0
            self._rest_until = max(self._rest_until, self._clock.monotonic() + seconds * _REST_SHARE)
        else:
            self._at_usual_speed += 1
            if self._at_usual_speed >= _RECOVERED:
                self.at_once, self._at_usual_speed = min(self._most or 1, self.at_once + 1), 0
        # Slowly, so that a server that gets slower and slower is still seen to be slow.
        self._typical = usual + (seconds - usual) / (32 if seconds > usual else 8)


class ConcurrencyLimits:
    """The concurrency limits of a process, one per server: all sources on a server share it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limits: dict[str, ConcurrencyLimit] = {}

    def of(self, base_url: str) -> ConcurrencyLimit:
        """Return the limit for a server, made on first use; Langfuse Cloud has none here."""
        is_cloud = is_langfuse_cloud(base_url)
        return self._limits.setdefault(
            urlsplit(base_url).hostname or "" if is_cloud else base_url,
            ConcurrencyLimit(self._clock, None if is_cloud else MOST_AT_ONCE),
        )


def is_langfuse_cloud(base_url: str) -> bool:
    """Whether a server is one of Langfuse Cloud."""
    host = urlsplit(base_url).hostname or ""
    return host == "langfuse.com" or host.endswith(".langfuse.com")
