"""Times of recent requests, and the wait until one more fits into the window."""

from __future__ import annotations

import bisect
import math

WINDOW = 60.0  # seconds; the length of Langfuse's rate-limit window


class RequestLog:
    """Times of requests by the monotonic clock, in order."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def add(self, time: float) -> None:
        """Add a request; it may be older than others."""
        bisect.insort(self.times, time)

    def drop_before(self, before: float) -> None:
        """Drop requests from before a time."""
        del self.times[: bisect.bisect_left(self.times, before)]

    def wait(self, now: float, most: int, window: float = WINDOW) -> float:
        """Return the seconds to wait until one more request keeps to `most` per window; 0 or less: none."""
        return -math.inf if len(self.times) < most else self.times[-most] + window - now
