"""A project into which traces come at a steady rate, in real time: what `run` is measured on.

Each observation appears when it has ended, so a trace's root comes last. A few of the others come late, some minutes
after their trace. Everything follows from the seed: whoever has a flow's text knows what it will bring, and when.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property

from bench.shape import HOUR_MS, MARKER, Shape, marker_of, tail_of
from bench.template import Row, block_rows, offset_ms

#: Milliseconds from the end of an observation to when it is listed; of a late one, from and to.
WRITTEN_AFTER = 200
LATE_AFTER = (120_000, 240_000)
LATE_SHARE = 0.03

_FEWEST, _MOST = 3, 60  # observations of a trace
_TEMPLATE_ROWS = 6_000
_BLOCK = 1_000  # observations that share the first letters of their ids
_TRACE_FACTOR = 0x9E3779B97F4A7C15F39CC0605CEDC835


@dataclass(frozen=True, slots=True)
class Comes:
    """An observation of a flow; times in Unix milliseconds."""

    number: int  # of all observations of the flow
    template: int  # of the template rows
    trace: int  # number of its trace
    parent: int | None  # number of an observation
    start_ms: int
    end_ms: int | None
    written_ms: int  # from then on it is listed
    shift_ms: int  # from the times of the template
    is_late: bool

    @property
    def trace_id(self) -> str:
        """The id of its trace."""
        return f"{(self.trace + 1) * _TRACE_FACTOR % (1 << 128):032x}"


@dataclass(frozen=True)
class Flow:
    """So many observations a second for so many seconds, from `first_ms` on."""

    rate: float
    seconds: float
    first_ms: int
    seed: int = 20_261

    def as_text(self) -> str:
        """Return it for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Flow:
        """Read what `as_text` gave."""
        return cls(**json.loads(text))

    @cached_property
    def templates(self) -> list[Row]:
        """Rows of which all observations are copies, with other ids and times."""
        return block_rows(Shape(1, _TEMPLATE_ROWS, HOUR_MS, self.first_ms))

    @property
    def shape(self) -> Shape:
        """The shape that has the ids of all observations."""
        return Shape(-(-len(self.all) // _BLOCK), _BLOCK, HOUR_MS, self.first_ms)

    @cached_property
    def all(self) -> list[Comes]:
        """All observations, trace by trace."""
        return list(self._all())

    def id_of(self, number: int) -> str:
        """Return the id of an observation."""
        block, row = divmod(number, _BLOCK)
        return marker_of(block) + tail_of(row)

    def _all(self) -> Iterator[Comes]:
        rng = random.Random(self.seed)
        traces = self._trace_templates()
        first, trace = 0, 0
        while first < self.rate * self.seconds:
            places = rng.choice(traces)
            numbers = {self.templates[place]["id"]: first + at for at, place in enumerate(places)}
            shift = self.first_ms + round(first / self.rate * 1_000) - min(self._offset(place) for place in places)
            for at, place in enumerate(places):
                row = self.templates[place]
                start = shift + self._offset(place)
                end = None if row["endTime"] is None else shift + offset_ms(row["endTime"], HOUR_MS)
                is_late = row["parentObservationId"] is not None and rng.random() < LATE_SHARE
                after = rng.randint(*LATE_AFTER) if is_late else WRITTEN_AFTER
                yield Comes(
                    first + at, place, trace, numbers.get(row["parentObservationId"]), start, end,
                    (end or start) + after, shift, is_late,
                )  # fmt: skip
            first, trace = first + len(places), trace + 1

    def _trace_templates(self) -> list[list[int]]:
        """Return the places of the template rows of each trace that is neither too short nor too long."""
        found: dict[str, list[int]] = {}
        for place, row in enumerate(self.templates):
            found.setdefault(row["traceId"].removeprefix(MARKER), []).append(place)
        return [places for places in found.values() if _FEWEST <= len(places) <= _MOST]

    def _offset(self, place: int) -> int:
        return offset_ms(self.templates[place]["startTime"], HOUR_MS)
