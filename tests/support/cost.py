"""What work costs as it grows, told without a clock's absolute time: machines are slow, and busy."""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import process_time
from typing import TypeVar

T = TypeVar("T")

_TURNS = 5
_SOON = 0.01  # seconds; what takes less is noise
#: How many times the work the larger size is, and how many times its cost it may have: the square would be 64.
TIMES, MOST = 8, 32


def growth(small: Callable[[], object], large: Callable[[], T]) -> tuple[float, T]:
    """Return how many times as long the large work takes as the small one, by this process's own time, and its result.

    The best of several turns of each counts; the first turns that are well below `MOST` will do.
    """
    least, most = float("inf"), float("inf")
    for _ in range(_TURNS):
        least = min(least, _time(small)[0])
        seconds, result = _time(large)
        most = min(most, seconds)
        if most / max(least, _SOON) < MOST / 2:
            break
    return most / max(least, _SOON), result


def _time(work: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds of a work without those of collecting garbage, which come at any time, and its result."""
    gc.disable()
    try:
        began = process_time()
        result = work()
        return process_time() - began, result
    finally:
        gc.enable()
