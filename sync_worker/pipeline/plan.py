"""Which intervals of time are due, cut into intervals whose size follows the density met so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sync_worker.intervals import Interval, gaps, merged

#: Observations an interval should hold, where so many are due: fewer make more requests and cut more traces.
TARGET_OBSERVATIONS = 20_000
#: A look back over a horizon is due after this part of its length.
SCANS_PER_WINDOW = 12
_FIRST_LENGTH = 3_600_000  # milliseconds, while no density is known
_SHORTEST = 1_000  # milliseconds
_MAX_GROWTH = 16  # an interval is at most so many times as long as the one before


class IntervalPlanner:
    """Cuts time into intervals of about `target` observations; `adjust` takes how many each held."""

    def __init__(self, length_ms: int | None = None, target: int = TARGET_OBSERVATIONS) -> None:
        self._target = target
        self.length = max(_SHORTEST, length_ms or _FIRST_LENGTH)

    def split(self, intervals: Sequence[Interval]) -> Iterator[Interval]:
        """Yield intervals, oldest first; a rest of less than half an interval goes with the last one."""
        for interval in intervals:
            here = interval.start
            while here < interval.end:
                end = here + self.length
                if interval.end - end < self.length // 2:
                    end = interval.end
                yield Interval(here, end)
                here = end

    def adjust(self, interval: Interval, observations: int) -> None:
        """Take note of a finished interval: the next ones grow or shrink towards the target."""
        wanted = interval.length * self._target // max(observations, 1)
        grown = max(interval.length, self.length) * _MAX_GROWTH
        self.length = max(_SHORTEST, min(wanted, grown))


def due(first_ms: int, end_ms: int, covered: Sequence[Interval], taken: Sequence[Interval] = ()) -> list[Interval]:
    """Return the gaps of coverage in `[first_ms, end_ms)`, without what another run is at work on (`taken`)."""
    return gaps(Interval(first_ms, end_ms), [*covered, *taken]) if end_ms > first_ms else []


def live_view(live: Sequence[Interval], backfilled: Sequence[Interval], now_ms: int, deepest_ms: int) -> list[Interval]:
    """Return what the live sync need not read: its own coverage, and a backfill's where nothing late comes any more.

    A backfill's recent intervals are read again: it takes observations as it finds them, and late ones follow.
    """
    final = now_ms - deepest_ms - deepest_ms // SCANS_PER_WINDOW
    return merged([*live, *(Interval(interval.start, min(interval.end, final)) for interval in backfilled)])
