"""Plan: which intervals are due, and how long they are, by the density seen so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sync_worker.intervals import Interval, clip, gaps, merged

#: Target observations of an interval: smaller intervals need more requests and split more traces.
TARGET_OBSERVATIONS = 20_000
#: A lookback scan is due after its lookback window divided by this.
SCANS_PER_WINDOW = 12
_FIRST_LENGTH = 3_600_000  # milliseconds, until a density is known
_SHORTEST = 1_000  # milliseconds
_LEAST_SHARE = 4  # parts of an interval
_MAX_GROWTH = 16  # maximum ratio of an interval's length to the one before


class IntervalPlanner:
    """Splits time into intervals of about `target` observations, by how many earlier ones had."""

    def __init__(self, length_ms: int | None = None, target: int = TARGET_OBSERVATIONS) -> None:
        self._target = target
        self.length = max(_SHORTEST, length_ms or _FIRST_LENGTH)

    def split(self, intervals: Sequence[Interval]) -> Iterator[Interval]:
        """Yield intervals, oldest first; a rest of less than half an interval is added to the last one."""
        for interval in intervals:
            here = interval.start
            while here < interval.end:
                end = here + self.length
                if interval.end - end < self.length // 2:
                    end = interval.end
                yield Interval(here, end)
                here = end

    def adjust(self, interval: Interval, observations: int) -> None:
        """Adjust the length towards the target, by how many observations a finished interval had."""
        wanted = interval.length * self._target // max(observations, 1)
        grown = max(interval.length, self.length) * _MAX_GROWTH
        self.length = max(_SHORTEST, min(wanted, grown))


class DueTime:
    """Time that is due and not handed out: intervals, oldest first, which a planner cuts as they are taken."""

    def __init__(self, gaps: Iterable[Interval], planner: IntervalPlanner) -> None:
        self.planner = planner
        self._left = deque(gaps)

    def __bool__(self) -> bool:
        """Whether anything is left."""
        return bool(self._left)

    @property
    def length(self) -> int:
        """Milliseconds that are left."""
        return sum(interval.length for interval in self._left)

    def before(self, end_ms: int) -> list[Interval]:
        """Return what of it lies before a time, Unix ms."""
        return clip(self._left, Interval(0, end_ms))

    def take(self, sharers: int = 1) -> Interval:
        """Remove and return the next interval, as long as the planner has it.

        Where so many intervals are under way at once, it is no longer than its share of the time that is left, so that
        all end at about the same time, but not shorter than a quarter of what the planner has.
        """
        share = self.length if sharers <= 1 else max(self.planner.length // _LEAST_SHARE, self.length // sharers)
        gap = self._left.popleft()
        interval = next(self.planner.split([gap]))
        if interval.length > share and gap.end - interval.start >= share + share // 2:
            interval = Interval(interval.start, interval.start + share)
        self.put_back(Interval(interval.end, gap.end))
        return interval

    def put_back(self, interval: Interval) -> None:
        """Have an interval taken next; an empty one is none."""
        if interval.length > 0:
            self._left.appendleft(interval)

    def remove(self, intervals: Iterable[Interval]) -> None:
        """Remove intervals: others take them."""
        taken = list(intervals)
        self._left = deque(part for interval in self._left for part in gaps(interval, taken))


@dataclass(slots=True)
class Density:
    """How many observations a millisecond of the intervals that were read had."""

    is_known: bool = False
    observations: int = 0
    milliseconds: int = 0
    highest: float = 0.0  # of the last interval, and of all together

    @property
    def average(self) -> float:
        """That of all intervals together."""
        return self.observations / max(1, self.milliseconds)

    def add(self, interval: Interval, observations: int) -> None:
        """Add an interval that was read."""
        self.is_known = True
        self.observations += observations
        self.milliseconds += interval.length
        self.highest = max(observations / max(1, interval.length), self.average)


def due(first_ms: int, end_ms: int, completed: Sequence[Interval], taken: Sequence[Interval] = ()) -> list[Interval]:
    """Return the gaps in `[first_ms, end_ms)`, without what another run claims (`taken`)."""
    return gaps(Interval(first_ms, end_ms), [*completed, *taken]) if end_ms > first_ms else []


def spread(intervals: Sequence[Interval], parts: int) -> tuple[list[Interval], list[Interval]]:
    """Return intervals cut into about so many parts, and some of these, twice as many at most, spread evenly."""
    length = max(1, -(-sum(interval.length for interval in intervals) // parts))
    cut = [
        Interval(start, min(interval.end, start + length))
        for interval in intervals
        for start in range(interval.start, interval.end, length)
    ]
    return cut, cut[:: max(1, -(-len(cut) // (2 * parts)))]


def live_view(live: Sequence[Interval], backfilled: Sequence[Interval], now_ms: int, deepest_ms: int) -> list[Interval]:
    """Return what the live sync need not read: its completed intervals, and a backfill's final ones.

    A backfill's recent intervals are read again, since observations may still arrive late in them.
    """
    final = now_ms - deepest_ms - deepest_ms // SCANS_PER_WINDOW
    return merged([*live, *(Interval(interval.start, min(interval.end, final)) for interval in backfilled)])
