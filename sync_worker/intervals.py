"""Arithmetic of half-open intervals `[start, end)`, in Unix milliseconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Interval(NamedTuple):
    """A half-open interval of start times, in Unix milliseconds."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Milliseconds from start to end."""
        return self.end - self.start

    def contains(self, moment: int) -> bool:
        """Whether a moment lies in the interval; its end does not."""
        return self.start <= moment < self.end


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the intervals in order; those that touch or overlap are merged, empty ones are dropped."""
    result: list[Interval] = []
    for interval in sorted(interval for interval in intervals if interval.length > 0):
        if result and interval.start <= result[-1].end:
            result[-1] = Interval(result[-1].start, max(result[-1].end, interval.end))
        else:
            result.append(interval)
    return result


def gaps(within: Interval, completed: Iterable[Interval]) -> list[Interval]:
    """Return the gaps between completed intervals in `within`, in order."""
    result: list[Interval] = []
    here = within.start
    for interval in merged(completed):
        if interval.end <= here:
            continue
        if interval.start >= within.end:
            break
        if interval.start > here:
            result.append(Interval(here, interval.start))
        here = interval.end
    if here < within.end:
        result.append(Interval(here, within.end))
    return result


def clip(intervals: Iterable[Interval], bounds: Interval) -> list[Interval]:
    """Return the intervals clipped to `bounds`, in their order; those outside are dropped."""
    clipped = (Interval(max(interval.start, bounds.start), min(interval.end, bounds.end)) for interval in intervals)
    return [interval for interval in clipped if interval.length > 0]


def contiguous_end(start: int, completed: Iterable[Interval]) -> int:
    """Return the end of the contiguous intervals that contain `start`; `start` itself if none does."""
    for interval in merged(completed):
        if interval.start <= start < interval.end:
            return interval.end
    return start
