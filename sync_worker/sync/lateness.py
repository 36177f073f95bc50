"""How late rows show up: from their end to when they were first seen, counted in classes."""

from __future__ import annotations

import bisect
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sync_worker.ledger import Ledger, source_scope
from sync_worker.times import iso_time

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


def last_look_name(horizon_ms: int) -> str:
    """Return the ledger's name for when the last completed look back over a horizon began."""
    return f"late {horizon_ms}"


def describe(ledger: Ledger, source_id: int, horizons_ms: Sequence[int]) -> dict[str, Any]:
    """Return as JSON values how late rows turn up, and how far back was looked again; durations in seconds."""
    scope = source_scope(source_id)
    found = Lateness.from_text(ledger.fact(scope, "lateness"))
    looks = {horizon: ledger.fact(scope, last_look_name(horizon)) for horizon in horizons_ms}
    done = {horizon // 1000: iso_time(int(moment)) for horizon, moment in looks.items() if moment}
    return {
        "rows": found.total,
        "within_seconds": {f"{share:.1%}": found.within(share) for share in (0.5, 0.99, 0.999)} if found.total else {},
        "checked_back_seconds": max(done, default=None),
        "last_looks": {str(horizon): moment for horizon, moment in sorted(done.items())},
    }
