"""Arithmetic of half-open stretches of time `[start, end)`, in Unix milliseconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Window(NamedTuple):
    """A half-open stretch of start times, in Unix milliseconds."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Milliseconds from start to end."""
        return self.end - self.start

    def holds(self, moment: int) -> bool:
        """Whether a moment lies in the window; its end does not."""
        return self.start <= moment < self.end


def merged(windows: Iterable[Window]) -> list[Window]:
    """Return the same stretches in order, those that touch or overlap made one and empty ones left out."""
    result: list[Window] = []
    for window in sorted(window for window in windows if window.length > 0):
        if result and window.start <= result[-1].end:
            result[-1] = Window(result[-1].start, max(result[-1].end, window.end))
        else:
            result.append(window)
    return result


def gaps(within: Window, covered: Iterable[Window]) -> list[Window]:
    """Return what of `within` no window covers, in order."""
    result: list[Window] = []
    here = within.start
    for window in merged(covered):
        if window.end <= here:
            continue
        if window.start >= within.end:
            break
        if window.start > here:
            result.append(Window(here, window.start))
        here = window.end
    if here < within.end:
        result.append(Window(here, within.end))
    return result


def within(windows: Iterable[Window], stretch: Window) -> list[Window]:
    """Return what of the windows lies in a stretch, in their order; what does not is left out."""
    cut = (Window(max(window.start, stretch.start), min(window.end, stretch.end)) for window in windows)
    return [window for window in cut if window.length > 0]


def contiguous_end(start: int, covered: Iterable[Window]) -> int:
    """Return where the coverage that holds `start` ends; `start` itself when nothing covers it."""
    for window in merged(covered):
        if window.start <= start < window.end:
            return window.end
    return start
