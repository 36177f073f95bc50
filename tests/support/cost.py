"""What work costs as it grows, told without a clock's absolute time: machines are slow, and busy."""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import process_time

_TURNS = 5
_SOON = 0.01  # seconds; what takes less is noise
#: How many times the work the larger size is, and how many times its cost it may have: the square would be 64.
TIMES, MOST = 8, 32


def growth(small: Callable[[], object], large: Callable[[], object]) -> float:
    """Return how many times as long the large work takes as the small one, by this process's own time.

    The best of several turns of each counts; the first turns that are well below `MOST` will do.
    """
    least, most = float("inf"), float("inf")
    for _ in range(_TURNS):
        least, most = min(least, _time(small)), min(most, _time(large))
        if most / max(least, _SOON) < MOST / 2:
            break
    return most / max(least, _SOON)


def _time(work: Callable[[], object]) -> float:
    """Return the seconds of a work without those of collecting garbage, which come at any time."""
    gc.disable()
    try:
        began = process_time()
        work()
        return process_time() - began
    finally:
        gc.enable()
