"""Which parts of a range one of several machines takes, told by the range alone: nobody has to ask the others.

The range is cut where whole intervals of a day begin, into at least `_PARTITIONS_A_SHARD` parts for each shard, so that
busy and quiet times spread, and into no more than it takes, since each border cuts the traces that cross it and each
part costs a request at least. The parts are dealt out in rounds, and each round begins one shard further: without that
a shard would get the same hours of each day where the number of shards fits into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sync_worker.intervals import Interval, merged

_MINUTE, _HOUR = 60_000, 3_600_000
#: Lengths of parts in milliseconds, longest first; each divides a day, so that borders are the same for all ranges.
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
        """Return what of a range this shard takes, in order; parts that touch are one."""
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
