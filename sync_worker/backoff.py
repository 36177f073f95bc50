"""Waiting between tries: exponential with jitter, never shorter than the other side asked, and never silent."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sync_worker.clock import Clock
from sync_worker.errors import TransientError

INITIAL_INTERVAL = 0.5  # seconds
MAX_INTERVAL = 60.0  # seconds, unless the other side asked for more
#: An overloaded server is asked again after so long by a run without end, whatever it asked for.
MAX_OVERLOAD_INTERVAL = 3_600.0  # seconds
_LOGGED_TRIES = 3  # tries that are each logged; afterwards only powers of two, so that a long outage is no flood

_Result = TypeVar("_Result")

log = logging.getLogger(__name__)


class RetryDeadlineExceeded(TransientError):
    """The outage lasts for longer than patience; waiting for it once more raises it again."""


class Backoff:
    """Tries against one side. One outage lasts from its first error to the next success.

    `max_elapsed` is how many seconds an outage may last before the last error is raised; None means for ever.
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
        """Seconds since the present outage began; 0 when there is none."""
        return 0.0 if self._since is None else self._clock.monotonic() - self._since

    @property
    def remaining(self) -> float | None:
        """Seconds of patience that are left; None means for ever."""
        return None if self._max_elapsed is None else self._max_elapsed - self.elapsed

    def success(self) -> None:
        """Note that the other side answered as it should: the outage, if there was one, is over."""
        if self._since is not None and self._tries >= _LOGGED_TRIES:
            log.info("%s answers again after %.0f s", self._side, self.elapsed, extra={"action": "recovered"})
        self._since = None
        self._tries = 0

    async def ready(self) -> None:
        """Wait as long as the other side asked every caller to wait. Raises Stopped."""
        while (wait := self._not_before - self._clock.monotonic()) > 0:  # it may be asked for more meanwhile
            await self._clock.sleep(wait)

    async def wait(self, error: TransientError) -> None:
        """Wait before the next try. Raises RetryDeadlineExceeded when patience ends before the next try could begin."""
        self._begin(error)
        self._tries += 1
        wait = min(MAX_INTERVAL, INITIAL_INTERVAL * 2 ** min(self._tries - 1, 10)) * (0.5 + self._clock.jitter() / 2)
        if error.retry_after is not None:
            # Less than the shortest wait is "at once", and at once over and over is no kindness.
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
        await self._clock.sleep(wait)

    def check_deadline(self, error: TransientError) -> None:
        """Note a error after which the next try goes out at once, since it asks for less.

        Raises RetryDeadlineExceeded when patience is over, so that tries that ask for less and less have an end.
        """
        self._begin(error)
        self._give_up_after_deadline(error, 0.0)

    def _begin(self, error: TransientError) -> None:
        if isinstance(error, RetryDeadlineExceeded):
            raise error
        if self._since is None:
            self._since = self._clock.monotonic() - error.took

    def _give_up_after_deadline(self, error: TransientError, wait: float) -> None:
        if self._max_elapsed is not None and self.elapsed + wait > self._max_elapsed:
            tries = max(1, self._tries)
            raise RetryDeadlineExceeded(
                f"{error} (gave up after {self.elapsed:.0f} s and {tries} tries; what was not answered stays undone. "
                "Run again, or raise SYNC_PATIENCE)",
                retry_after=error.retry_after,
            ) from error

    async def retry(self, attempt: Callable[[], Awaitable[_Result]]) -> _Result:
        """Await `attempt` until it succeeds, and return what it returns.

        Raises RetryDeadlineExceeded, Stopped, and at once whatever else `attempt` raises.
        """
        while True:
            try:
                result = await attempt()
            except TransientError as error:
                await self.wait(error)
            else:
                self.success()
                return result
