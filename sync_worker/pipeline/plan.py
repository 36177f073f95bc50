"""Which stretches of time are due, cut into windows whose size follows the density met so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sync_worker.windows import Window, gaps, merged

#: Observations an interval should hold, where so many are due: fewer make more requests and cut more traces.
TARGET_OBSERVATIONS = 20_000
#: A look back over a horizon is due after this part of its length.
PERIODS = 12
_FIRST_LENGTH = 3_600_000  # milliseconds, while no density is known
_SHORTEST = 1_000  # milliseconds
_MAX_GROWTH = 16  # a window is at most so many times as long as the one before


class Cutter:
    """Cuts time into intervals of about `target` observations; `learn` takes how many each held."""

    def __init__(self, length_ms: int | None = None, target: int = TARGET_OBSERVATIONS) -> None:
        self._target = target
        self.length = max(_SHORTEST, length_ms or _FIRST_LENGTH)

    def cut(self, stretches: Sequence[Window]) -> Iterator[Window]:
        """Yield windows, oldest first; a rest of less than half a window goes with the last one."""
        for stretch in stretches:
            here = stretch.start
            while here < stretch.end:
                end = here + self.length
                if stretch.end - end < self.length // 2:
                    end = stretch.end
                yield Window(here, end)
                here = end

    def learn(self, window: Window, rows: int) -> None:
        """Take note of a finished window: the next ones grow or shrink towards the target."""
        wanted = window.length * self._target // max(rows, 1)
        grown = max(window.length, self.length) * _MAX_GROWTH
        self.length = max(_SHORTEST, min(wanted, grown))


def due(first_ms: int, end_ms: int, covered: Sequence[Window], taken: Sequence[Window] = ()) -> list[Window]:
    """Return the gaps of coverage in `[first_ms, end_ms)`, without what another run is at work on (`taken`)."""
    return gaps(Window(first_ms, end_ms), [*covered, *taken]) if end_ms > first_ms else []


def live_view(live: Sequence[Window], backfilled: Sequence[Window], now_ms: int, deepest_ms: int) -> list[Window]:
    """Return what the live sync need not read: its own coverage, and a backfill's where nothing late comes any more.

    A backfill's recent windows are read again: it takes rows as it finds them, and late ones follow.
    """
    final = now_ms - deepest_ms - deepest_ms // PERIODS
    return merged([*live, *(Window(window.start, min(window.end, final)) for window in backfilled)])
