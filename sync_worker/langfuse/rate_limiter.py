"""Rate limiter: spaces requests to Langfuse within this worker's quota of one of an organisation's limits.

Langfuse Cloud counts requests in windows, most of 60 s, denied ones included, and reports the limit only with a 429.
The worker stays below the reported limit, since the customer's own application shares it. The estimate is raised by a
tenth for each hour without a 429, since the limit may have become larger; the next 429 corrects it.

All processes on one state file share the limit. Each keeps the times of its own requests, and of those it has read of
the others, by its monotonic clock; in the state file, where they exchange them, times are wall-clock. So a clock that
is set affects only what has not been read yet. While no limit is known, nothing is written.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from sync_worker.clock import Clock
from sync_worker.errors import StateError, TransientError
from sync_worker.langfuse.request_log import WINDOW, RequestLog
from sync_worker.request_snapshot import RequestSnapshot
from sync_worker.waits import waiting

#: While a live sync runs, all other runs together take at most this share of the quota, and leave it at least
#: one request a minute.
_SHARE_BESIDE = Fraction(3, 4)
#: Lead of the live sync over other runs, in seconds, after a wait (of a 429, say) that all of them have.
LEAD = 2.0
#: Lengths of rate-limit windows, in seconds.
_WINDOWS = (60, 3600, 86_400)
#: A reported limit is raised by so much for each hour since, or each window if that is longer, so often at most.
_RAISE, _HOUR, _MOST_RAISES = 1.1, 3600.0, 48
#: While the state file is busy: tries and seconds between them, before a request goes by what is known here.
_TRIES, _PAUSE = 10, 0.4

log = logging.getLogger(__name__)


class RateLimited(TransientError):
    """One of the organisation's request limits is reached (429)."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit as Langfuse reported it: requests per `window` seconds, and when, in Unix milliseconds."""

    requests: int
    window: int
    reported_ms: int


class SharedStore(Protocol):
    """Where the processes on one state file share an organisation's requests and limits. Raises StateError."""

    @property
    def is_live(self) -> bool:
        """Whether this process is the live sync."""

    def snapshot(self, last: int) -> RequestSnapshot:
        """Return the requests after a number, and the current limit and wait."""

    def transaction(self) -> AbstractContextManager[None]:
        """Open a write transaction: other processes cannot write; an error rolls it back."""

    def store_requests(self, times: Iterable[int]) -> int:
        """Store requests of this process, within a transaction; return the number of the last one."""

    def store_limit(self, requests: int, window: int, reported_ms: int) -> None:
        """Store the limit that Langfuse reported, within a transaction."""

    def store_block(self, since: int, until: int) -> None:
        """Store the wait that Langfuse asked for, within a transaction."""

    def delete_outside(self, start: int, end: int) -> None:
        """Delete requests from before `start` or after `end`, within a transaction."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How much of an organisation's limit a process may take.

    `per_minute` is a limit set by the operator, taken whole; without one, `share` is taken of what Langfuse reports.
    `parts` divides either: a process that is one of so many with state files of their own, which cannot know of each
    other, takes one part of it, and at least one request a minute.
    """

    per_minute: int | None
    share: Fraction
    parts: int = 1

    def of(self, estimated_limit: int | None) -> int | None:
        """Return the requests in a window; None while no limit is known."""
        limit = (
            self.per_minute
            if self.per_minute is not None or estimated_limit is None
            else math.floor(estimated_limit * self.share)
        )
        return None if limit is None else max(1, limit // self.parts)


class RateLimiter:
    """Spaces requests so that no window holds more than the limit; without one, requests go out at once.

    Without a quota no limit is applied, whatever is reported. `window` is the least length of one in seconds.
    """

    def __init__(
        self, clock: Clock, quota: Quota | None, store: SharedStore | None = None, window: float = WINDOW
    ) -> None:
        self._clock = clock
        self._quota = quota
        self._store = store
        self.limit: Limit | None = None
        self._least_window = window
        self._all = RequestLog()
        self._of_others = RequestLog()  # those that are not of the live sync
        self._unwritten = RequestLog()  # those of this process that are not in the shared store yet
        self._blocked_until = -math.inf
        self._live_runs = False
        self._last = 0
        self._last_block: tuple[int, int] | None = None
        self._last_cleanup = -math.inf
        self._limit_is_stored = self._block_is_stored = True
        self._alone = False  # the shared store could not be used lately

    @property
    def estimated_limit(self) -> int | None:
        """Requests in a window as reported, raised for the time since then; None while no limit is known."""
        if self.limit is None:
            return None
        times = max(0, self._clock.now_ms() - self.limit.reported_ms) / 1000 // max(_HOUR, self.window)
        return int(self.limit.requests * _RAISE ** min(times, _MOST_RAISES))

    @property
    def window(self) -> float:
        """Seconds over which requests are counted."""
        return self._least_window if self.limit is None else max(self._least_window, self.limit.window)

    @property
    def allowed(self) -> int | None:
        """Requests this worker allows itself in a window; None while no limit is known."""
        return None if self._quota is None else self._quota.of(self.estimated_limit)

    @property
    def per_minute(self) -> int | None:
        """Requests this worker allows itself in a minute, at least one; None while no limit is known."""
        return None if self.allowed is None else max(1, math.floor(self.allowed * WINDOW / self.window))

    def set_limit(self, requests: int, resets_in: float = 0.0) -> None:
        """Set the limit that a 429 reported, and share it with the other processes.

        `resets_in` is the time to the end of the window in seconds, so the least length of it. For the same limit the
        length never becomes shorter, since the window may be near its end.
        """
        if requests <= 0:
            return
        known = self.window if self.limit is not None and self.limit.requests == requests else self._least_window
        window = next((length for length in _WINDOWS if length >= max(known, resets_in)), _WINDOWS[-1])
        self.limit = Limit(requests, window, self._clock.now_ms())
        self._limit_is_stored = False
        self._store_if_possible()

    def block(self, seconds: float) -> None:
        """Send nothing for so many seconds, in any process: the server asked for it."""
        until = self._clock.monotonic() + seconds
        if until > self._blocked_until:
            self._blocked_until = until
            self._block_is_stored = False
            self._store_if_possible()

    def refresh(self) -> None:
        """Read limits and waits of the other processes; does nothing when the state file is busy."""
        if self._store is not None:
            with contextlib.suppress(StateError):
                self._read(self._store)

    def adopt(self, before: RateLimiter) -> None:
        """Take over requests, limits and waits from before the organisation was known."""
        for time in before._unwritten.times:
            self._count(time, live=self._is_live)
            self._unwritten.add(time)
        before._unwritten = RequestLog()
        if before.limit is not None:
            self.limit, self._limit_is_stored = before.limit, False
            self._store_if_possible()
        self.block(before._blocked_until - self._clock.monotonic())

    async def acquire(self, longest: float | None = None) -> None:
        """Wait until one more request may go out.

        Raises Stopped, and RateLimited when Langfuse asked for a wait of more than `longest` seconds.
        """
        tries = 0
        while True:
            try:
                wait = self._attempt()
                self._alone = False
            except StateError as error:
                tries += 1
                wait = _PAUSE
                if self._alone or tries == _TRIES:
                    self._start_alone(error)
                    wait = self._attempt_alone()
            if wait <= 0:
                return
            # A wait within a minute is normal spacing; a longer one was asked for, or counts as that.
            blocked = wait if self.window > WINDOW else self._blocked_until - self._clock.monotonic()
            if longest is not None and blocked > max(0.0, longest):
                raise RateLimited("Langfuse's rate limit is reached, and it asked to wait", retry_after=blocked)
            with waiting("Langfuse's rate limit", wait):
                await self._clock.sleep(wait)

    def _attempt(self) -> float:
        """Take a request if there is one left; else return how many seconds to wait. Raises StateError."""
        store = self._store
        if store is None:
            return self._attempt_alone()
        if not (self._limit_is_stored and self._block_is_stored):
            self._store_changes(store)
        elif self.allowed is None:
            self._read(store)
        wait = self._wait()
        if self.allowed is None or wait > 0:
            return self._attempt_alone()
        with store.transaction():
            self._read(store)
            wait = self._wait()
            if wait > 0:
                return wait
            now = self._clock.monotonic()
            last = store.store_requests(self._wall_ms(time) for time in (*self._unwritten.times, now))
            self._clean_up(store, now)
        self._last = last
        self._unwritten = RequestLog()
        self._count(now, live=self._is_live)
        return 0.0

    def _attempt_alone(self) -> float:
        """Take a request by what this process knows; else return how many seconds to wait."""
        wait = self._wait()
        if wait <= 0:
            now = self._clock.monotonic()
            self._count(now, live=self._is_live)
            self._unwritten.add(now)
            self._unwritten.drop_before(now - self.window)
        return wait

    def _wait(self) -> float:
        now = self._clock.monotonic()
        window = self.window
        self._all.drop_before(now - window - LEAD)
        self._of_others.drop_before(now - window)
        lead = LEAD if self._live_runs else 0.0
        wait = self._blocked_until + lead - now
        allowed = self.allowed
        if allowed is not None:
            wait = max(wait, self._all.wait(now, allowed, window + lead))
            if self._live_runs:
                wait = max(wait, self._of_others.wait(now, quota_beside_live(allowed), window))
        return wait

    def _read(self, store: SharedStore) -> None:
        snapshot = store.snapshot(self._last)
        self._last = snapshot.last
        self._live_runs = snapshot.live_runs
        now, wall = self._clock.monotonic(), self._clock.now_ms()
        if snapshot.limit is not None and self._limit_is_stored:
            self.limit = Limit(*snapshot.limit)
        for sent, live in snapshot.sent:
            age = (wall - sent) / 1000
            if -WINDOW <= age < self.window + LEAD:  # anything further ahead was written by a wrong clock
                self._count(now - max(0.0, age), live=live)
        if snapshot.blocked is not None and snapshot.blocked != self._last_block:
            self._last_block = since, until = snapshot.blocked
            left = min(until - wall, until - since) / 1000
            if since - wall <= WINDOW * 1000 and now + left > self._blocked_until:
                self._blocked_until = now + left
                if left > 0:
                    log.info("Langfuse asked another run to wait: %.0f s", left, extra={"action": "rate limit"})

    def _store_if_possible(self) -> None:
        """Share changes with the other processes; what cannot be stored now is stored before the next request."""
        if self._store is not None:
            with contextlib.suppress(StateError):
                self._store_changes(self._store)

    def _store_changes(self, store: SharedStore) -> None:
        with store.transaction():
            self._read(store)  # another process may have been asked to wait longer
            now, wall = self._clock.monotonic(), self._clock.now_ms()
            if not self._limit_is_stored and self.limit is not None:
                store.store_limit(self.limit.requests, self.limit.window, self.limit.reported_ms)
            if not self._block_is_stored and self._blocked_until > now:
                store.store_block(wall, wall + math.ceil((self._blocked_until - now) * 1000))
        self._limit_is_stored = self._block_is_stored = True

    def _count(self, time: float, *, live: bool) -> None:
        self._all.add(time)
        if not live:
            self._of_others.add(time)

    def _clean_up(self, store: SharedStore, now: float) -> None:
        if now - self._last_cleanup >= WINDOW:
            wall = self._clock.now_ms()
            store.delete_outside(wall - round((self.window + LEAD) * 1000), wall + round(WINDOW * 1000))
            self._last_cleanup = now

    def _start_alone(self, error: StateError) -> None:
        if not self._alone:
            log.warning(
                "the requests of other runs cannot be read for now, so this run applies the limit alone: %s",
                error, extra={"action": "rate limit"},
            )  # fmt: skip
        self._alone = True

    @property
    def _is_live(self) -> bool:
        return self._store is not None and self._store.is_live

    def _wall_ms(self, time: float) -> int:
        return self._clock.now_ms() - round((self._clock.monotonic() - time) * 1000)


def quota_beside_live(limit: int) -> int:
    """Return how many of `limit` requests all other runs may take while a live sync runs."""
    return max(1, min(math.floor(limit * _SHARE_BESIDE), limit - 1))
