"""Exponential backoff with jitter: never shorter than the server's Retry-After, and always logged."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sync_worker.clock import Clock
from sync_worker.errors import TransientError
from sync_worker.waits import waiting
from sync_worker.wording import counted

INITIAL_INTERVAL = 0.5  # seconds
MAX_INTERVAL = 60.0  # seconds, unless the server asks for more
#: Longest wait of a run without a deadline for an overloaded server, whatever its Retry-After.
MAX_OVERLOAD_INTERVAL = 3_600.0  # seconds
#: Seconds of the first try that count as outage at most. No server is silent for longer in one try (`bounded_client`):
#: in the rest something arrived, or this process was stopped, as a suspended machine is.
_LONGEST_SILENCE = 90.0
_LOGGED_TRIES = 3  # tries that are each logged; then only powers of two, so that a long outage does not flood the log

_Result = TypeVar("_Result")

log = logging.getLogger(__name__)


class RetryDeadlineExceeded(TransientError):
    """The outage exceeded the max elapsed time; another wait for it raises this again."""


class Backoff:
    """Retries against one server. An outage lasts from its first error to the next success.

    `max_elapsed` is how many seconds an outage is retried before its last error is raised; None means no limit.
    """

    def __init__(self, side: str, clock: Clock, max_elapsed: float | None) -> None:
        self._side = side
        self._clock = clock
        self._max_elapsed = max_elapsed
        self._since: float | None = None
        self._tries = 0
        self._not_before = 0.0
        self.on_wait: Callable[[float, TransientError], None] | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the current outage began; 0 if there is none."""
        return 0.0 if self._since is None else self._clock.monotonic() - self._since

    @property
    def remaining(self) -> float | None:
        """Seconds until the retry deadline; None means no limit."""
        return None if self._max_elapsed is None else self._max_elapsed - self.elapsed

    @property
    def is_ready(self) -> bool:
        """Whether the server's last Retry-After has passed."""
        return self._not_before <= self._clock.monotonic()

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Give up after so many seconds of an outage within, where there is no limit."""
        before = self._max_elapsed
        self._max_elapsed = seconds if before is None else before
        try:
            yield
        finally:
            self._max_elapsed = before

    def success(self) -> None:
        """Record a success: the outage, if there was one, is over."""
        if self._since is not None and self._tries >= _LOGGED_TRIES:
            log.info("%s responds again after %.0f s", self._side, self.elapsed, extra={"action": "recovered"})
        self._since = None
        self._tries = 0

    async def ready(self) -> None:
        """Wait until the server's last Retry-After has passed, which holds for every caller. Raises Stopped."""
        while (wait := self._not_before - self._clock.monotonic()) > 0:  # another caller may extend it during the wait
            with waiting(f"{self._side}, as it asked", wait, after_error=True):
                await self._clock.sleep(wait)

    async def wait(self, error: TransientError) -> None:
        """Wait before the next try. Raises RetryDeadlineExceeded if that would begin after the deadline."""
        self._begin(error)
        self._tries += 1
        wait = min(MAX_INTERVAL, INITIAL_INTERVAL * 2 ** min(self._tries - 1, 10)) * (0.5 + self._clock.jitter() / 2)
        if error.retry_after is not None:
            # A Retry-After below the shortest wait means at once, which must not become a tight loop.
            wait = max(error.retry_after, wait if error.retry_after < INITIAL_INTERVAL else 0.0)
            if error.overloaded and self._max_elapsed is None:
                wait = min(wait, MAX_OVERLOAD_INTERVAL)
            self._not_before = max(self._not_before, self._clock.monotonic() + wait)
        self._give_up_after_deadline(error, wait)
        if self._tries <= _LOGGED_TRIES or self._tries & (self._tries - 1) == 0:
            log.warning(
                "%s; try %d in %.1f s, %.0f s since the first error",
                error, self._tries + 1, wait, self.elapsed, extra={"action": "retry", "side": self._side},
            )  # fmt: skip
        if self.on_wait is not None:
            self.on_wait(wait, error)
        with waiting(f"{self._side} after an error, try {self._tries + 1}", wait, after_error=True):
            await self._clock.sleep(wait)

    def check_deadline(self, error: TransientError) -> None:
        """Record an error that is retried at once, with a smaller request.

        Raises RetryDeadlineExceeded after the deadline, so that ever smaller requests come to an end.
        """
        self._begin(error)
        self._give_up_after_deadline(error, 0.0)

    def _begin(self, error: TransientError) -> None:
        if isinstance(error, RetryDeadlineExceeded):
            raise error
        if self._since is None:
            self._since = self._clock.monotonic() - min(error.took, _LONGEST_SILENCE)

    def _give_up_after_deadline(self, error: TransientError, wait: float) -> None:
        if self._max_elapsed is not None and self.elapsed + wait > self._max_elapsed:
            tries = counted(max(1, self._tries), "try", "tries")
            raise RetryDeadlineExceeded(
                f"{error} (gave up after {self.elapsed:.0f} s and {tries}; what was not acknowledged stays open. "
                "Run again, or raise SYNC_PATIENCE)",
                retry_after=error.retry_after,
            ) from error

    async def retry(self, attempt: Callable[[], Awaitable[_Result]]) -> _Result:
        """Await `attempt` until it succeeds, and return what it returns.

        Raises RetryDeadlineExceeded, Stopped, and immediately whatever else `attempt` raises.
        """
        while True:
            self._clock.check()
            await self.ready()
            try:
                result = await attempt()
            except TransientError as error:
                await self.wait(error)
            else:
                self.success()
                return result
