"""Which requests went out lately, and how long until one more fits."""

from __future__ import annotations

import bisect
import math

WINDOW = 60.0  # seconds; the length of Langfuse's rate-limit window


class Sent:
    """Times of requests by the steady clock, in order."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def add(self, time: float) -> None:
        """Note a request; it may be older than others."""
        bisect.insort(self.times, time)

    def forget(self, before: float) -> None:
        """Forget requests from before a time."""
        del self.times[: bisect.bisect_left(self.times, before)]

    def wait(self, now: float, most: int, window: float = WINDOW) -> float:
        """Return in how many seconds one more request is one of at most so many in a window; not above 0: at once."""
        return -math.inf if len(self.times) < most else self.times[-most] + window - now
