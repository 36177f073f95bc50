"""How far a run is: time that is synced, or read, of the time that is due, and observations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sync_worker.intervals import Interval


@dataclass(frozen=True, slots=True)
class Counts:
    """Milliseconds of history that are due and done, and observations read. Counts of several runs can be added."""

    due_ms: int = 0
    done_ms: int = 0
    observations: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Return the counts of two runs together."""
        return Counts(self.due_ms + other.due_ms, self.done_ms + other.done_ms, self.observations + other.observations)


class Progress:
    """The progress of one source in one run. Observations of an interval come newest first."""

    def __init__(self) -> None:
        self._due_ms = self._completed_ms = self._observations = 0
        self._read: dict[Interval, int] = {}  # milliseconds, of intervals that are not completed

    @property
    def counts(self) -> Counts:
        """How far it is."""
        return Counts(self._due_ms, self._completed_ms + sum(self._read.values()), self._observations)

    def plan(self, intervals: Iterable[Interval]) -> None:
        """Set what is due; nothing of it is done. What was counted before was part of another attempt."""
        self._due_ms = sum(interval.length for interval in intervals)
        self._completed_ms = 0
        self._read = {}

    def read(self, interval: Interval, down_to_ms: int, observations: int) -> None:
        """Count observations of an interval, which has been read from its end down to a time in Unix milliseconds."""
        self._observations += observations
        read = interval.end - max(interval.start, min(interval.end, down_to_ms))
        self._read[interval] = max(read, self._read.get(interval, 0))

    def complete(self, interval: Interval, part: Interval) -> None:
        """Count this part of an interval, or all of it, as synced; the rest was not read."""
        self._read.pop(interval, None)
        self._completed_ms += part.length
