"""How late rows show up: from their end to when they were first seen, counted in classes."""

from __future__ import annotations

import bisect
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

#: Upper bounds of the classes, in seconds; the last class has none.
BOUNDS = (30, 60, 120, 300, 660, 1_200, 3_600, 7_200, 21_600, 86_400, 172_800)


@dataclass(slots=True)
class Lateness:
    """A histogram of rows by lateness."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def add(self, seconds: float) -> None:
        """Count a row."""
        self.counts[bisect.bisect_left(BOUNDS, seconds)] += 1

    @property
    def total(self) -> int:
        """Rows counted."""
        return sum(self.counts)

    def within(self, share: float) -> int | None:
        """Return the class bound, in seconds, that this share of all rows was seen within; None where there is none."""
        seen = 0
        for bound, count in zip(BOUNDS, self.counts, strict=False):
            seen += count
            if self.total and seen >= share * self.total:
                return bound
        return None

    def as_text(self) -> str:
        """Return the counts as they are stored."""
        return json.dumps(self.counts)

    @classmethod
    def from_text(cls, text: str | None) -> Lateness:
        """Read back stored counts; those of other classes are begun anew."""
        stored: Sequence[int] = json.loads(text) if text else []
        return cls(list(stored)) if len(stored) == len(BOUNDS) + 1 else cls()
