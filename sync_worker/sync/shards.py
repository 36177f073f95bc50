"""The partitions of a range for one of several machines, by the range alone: no coordination is needed.

The range is split at fixed fractions of a day, into at least `_PARTITIONS_A_SHARD` partitions for each shard, so that
busy and quiet times are spread, and no more than needed, since each border splits the traces that cross it and each
partition costs a request at least. They are assigned in rounds, and each round begins one shard further: otherwise a
shard would get the same hours of each day if the number of shards divides it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sync_worker.intervals import Interval, merged

_MINUTE, _HOUR = 60_000, 3_600_000
#: Lengths of partitions in milliseconds, longest first; each divides a day, so that borders are the same for all
#: ranges.
_LENGTHS = (
    *(hours * _HOUR for hours in (24, 12, 8, 6, 4, 3, 2, 1)),
    *(minutes * _MINUTE for minutes in (30, 15, 10, 5, 2, 1)),
)
_PARTITIONS_A_SHARD = 32


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `of` machines that share a range, counted from 0."""

    index: int
    of: int

    def partitions(self, whole: Interval) -> list[Interval]:
        """Return this shard's partitions of a range, in order; adjacent ones are merged."""
        numbered = enumerate(_split(whole, _length(whole, self.of)))
        return merged(
            partition for number, partition in numbered if (number + number // self.of) % self.of == self.index
        )


def _length(whole: Interval, shards: int) -> int:
    enough = (length for length in _LENGTHS if whole.length >= length * shards * _PARTITIONS_A_SHARD)
    return next(enough, _LENGTHS[-1])


def _split(whole: Interval, length: int) -> Iterator[Interval]:
    here = whole.start
    while here < whole.end:
        end = min(whole.end, here - here % length + length)
        yield Interval(here, end)
        here = end
