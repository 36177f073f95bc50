"""Waiting between tries: exponential with jitter, never shorter than the other side asked, and never silent."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sync_worker.clock import Clock
from sync_worker.errors import TransientError

FIRST_WAIT = 0.5  # seconds
LONGEST_WAIT = 60.0  # seconds, unless the other side asked for more
#: An overloaded server is asked again after so long by a run without end, whatever it asked for.
LONGEST_OVERLOAD = 3_600.0  # seconds
_LOG_FIRST = 3  # tries that are each logged; afterwards only powers of two, so that a long outage is no flood

_Result = TypeVar("_Result")

log = logging.getLogger(__name__)


class PatienceEnded(TransientError):
    """The outage lasts for longer than patience; waiting for it once more raises it again."""


class Backoff:
    """Tries against one side. One outage lasts from its first fault to the next success.

    `patience` is how many seconds an outage may last before the last fault is raised; None means for ever.
    """

    def __init__(self, side: str, clock: Clock, patience: float | None) -> None:
        self._side = side
        self._clock = clock
        self._patience = patience
        self._since: float | None = None
        self._tries = 0
        self._not_before = 0.0
        self.on_wait: Callable[[float, TransientError], None] | None = None

    @property
    def age(self) -> float:
        """Seconds since the present outage began; 0 when there is none."""
        return 0.0 if self._since is None else self._clock.monotonic() - self._since

    @property
    def left(self) -> float | None:
        """Seconds of patience that are left; None means for ever."""
        return None if self._patience is None else self._patience - self.age

    def success(self) -> None:
        """Note that the other side answered as it should: the outage, if there was one, is over."""
        if self._since is not None and self._tries >= _LOG_FIRST:
            log.info("%s answers again after %.0f s", self._side, self.age, extra={"action": "recovered"})
        self._since = None
        self._tries = 0

    async def ready(self) -> None:
        """Wait as long as the other side asked every caller to wait. Raises Stopped."""
        while (wait := self._not_before - self._clock.monotonic()) > 0:  # it may be asked for more meanwhile
            await self._clock.sleep(wait)

    async def wait(self, fault: TransientError) -> None:
        """Wait before the next try. Raises PatienceEnded when patience ends before the next try could begin."""
        self._begin(fault)
        self._tries += 1
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(self._tries - 1, 10)) * (0.5 + self._clock.jitter() / 2)
        if fault.retry_after is not None:
            # Less than the shortest wait is "at once", and at once over and over is no kindness.
            wait = max(fault.retry_after, wait if fault.retry_after < FIRST_WAIT else 0.0)
            if fault.overloaded and self._patience is None:
                wait = min(wait, LONGEST_OVERLOAD)
            self._not_before = max(self._not_before, self._clock.monotonic() + wait)
        self._give_up_beyond_patience(fault, wait)
        if self._tries <= _LOG_FIRST or self._tries & (self._tries - 1) == 0:
            log.warning(
                "%s; try %d in %.1f s, %.0f s since the first fault",
                fault, self._tries + 1, wait, self.age, extra={"action": "retry", "side": self._side},
            )  # fmt: skip
        if self.on_wait is not None:
            self.on_wait(wait, fault)
        await self._clock.sleep(wait)

    def endure(self, fault: TransientError) -> None:
        """Note a fault after which the next try goes out at once, since it asks for less.

        Raises PatienceEnded when patience is over, so that tries that ask for less and less have an end.
        """
        self._begin(fault)
        self._give_up_beyond_patience(fault, 0.0)

    def _begin(self, fault: TransientError) -> None:
        if isinstance(fault, PatienceEnded):
            raise fault
        if self._since is None:
            self._since = self._clock.monotonic() - fault.took

    def _give_up_beyond_patience(self, fault: TransientError, wait: float) -> None:
        if self._patience is not None and self.age + wait > self._patience:
            tries = max(1, self._tries)
            raise PatienceEnded(
                f"{fault} (gave up after {self.age:.0f} s and {tries} tries; what was not answered stays undone. "
                "Run again, or raise SYNC_PATIENCE)",
                retry_after=fault.retry_after,
            ) from fault

    async def retry(self, attempt: Callable[[], Awaitable[_Result]]) -> _Result:
        """Await `attempt` until it succeeds, and return what it returns.

        Raises PatienceEnded, Stopped, and at once whatever else `attempt` raises.
        """
        while True:
            try:
                result = await attempt()
            except TransientError as fault:
                await self.wait(fault)
            else:
                self.success()
                return result
