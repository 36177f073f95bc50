"""Arithmetic of half-open intervals of time `[start, end)`, in Unix milliseconds."""

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
    """Return the same intervals in order, those that touch or overlap made one and empty ones left out."""
    result: list[Interval] = []
    for interval in sorted(interval for interval in intervals if interval.length > 0):
        if result and interval.start <= result[-1].end:
            result[-1] = Interval(result[-1].start, max(result[-1].end, interval.end))
        else:
            result.append(interval)
    return result


def gaps(within: Interval, covered: Iterable[Interval]) -> list[Interval]:
    """Return what of `within` no interval covers, in order."""
    result: list[Interval] = []
    here = within.start
    for interval in merged(covered):
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


def clip(intervals: Iterable[Interval], whole: Interval) -> list[Interval]:
    """Return what of the intervals lies in a whole, in their order; what does not is left out."""
    cut = (Interval(max(interval.start, whole.start), min(interval.end, whole.end)) for interval in intervals)
    return [interval for interval in cut if interval.length > 0]


def contiguous_end(start: int, covered: Iterable[Interval]) -> int:
    """Return where the coverage that holds `start` ends; `start` itself when nothing covers it."""
    for interval in merged(covered):
        if interval.start <= start < interval.end:
            return interval.end
    return start
