"""Results of pure functions, remembered for arguments that come again, in a bounded number of bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class Memo(dict[_K, _V]):
    """Results of a function by its argument: `memo[argument]` calls it where the result is not at hand.

    Arguments are what strangers write, so what is kept is bounded by bytes and not by a number of entries: `weigh`
    returns what an entry takes. What takes more than a hundredth of `max_bytes` is not kept; a memo that is full is
    emptied, which costs less than to look for the oldest entry. Arguments and results must be immutable, and
    arguments that are equal must have the same result: 1, 1.0 and true are equal to Python.
    """

    def __init__(self, function: Callable[[_K], _V], weigh: Callable[[_K, _V], int], max_bytes: int) -> None:
        super().__init__()
        self.kept_bytes = 0
        self._function = function
        self._weigh = weigh
        self._max_bytes = max_bytes

    def __missing__(self, argument: _K) -> _V:
        """Compute a result, and keep it where it is small."""
        result = self._function(argument)
        size = self._weigh(argument, result)
        if size * 100 <= self._max_bytes:
            if self.kept_bytes + size > self._max_bytes:
                self.clear()
                self.kept_bytes = 0
            self[argument] = result
            self.kept_bytes += size
        return result
