"""Arrival delay: time from the end of an observation to when it was first seen, as a histogram."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sync_worker.ledger import Ledger, source_scope
from sync_worker.ledger.state_keys import ARRIVAL_DELAY, last_scan
from sync_worker.times import iso_time

#: Upper bounds of the buckets, in seconds; the last bucket has none.
BOUNDS = (30, 60, 120, 300, 660, 1_200, 3_600, 7_200, 21_600, 86_400, 172_800)


@dataclass(slots=True)
class ArrivalDelay:
    """A histogram of observations by arrival delay."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def add(self, seconds: float) -> None:
        """Count an observation."""
        self.counts[bisect.bisect_left(BOUNDS, seconds)] += 1

    @property
    def total(self) -> int:
        """Observations counted."""
        return sum(self.counts)

    def within(self, share: float) -> int | None:
        """Return the bucket bound, in seconds, within which this share of all observations was seen.

        None if there is none.
        """
        seen = 0
        for bound, count in zip(BOUNDS, self.counts, strict=False):
            seen += count
            if self.total and seen >= share * self.total:
                return bound
        return None

    @classmethod
    def from_counts(cls, stored: Sequence[int] | None) -> ArrivalDelay:
        """Return a histogram of stored counts; empty if the buckets were others."""
        stored = stored or ()
        return cls(list(stored)) if len(stored) == len(BOUNDS) + 1 else cls()


def describe(ledger: Ledger, source_id: int, windows_ms: Sequence[int]) -> dict[str, Any]:
    """Return arrival delays and the last lookback scans as JSON values; durations in seconds."""
    state = ledger.state(source_scope(source_id))
    found = ArrivalDelay.from_counts(state.get(ARRIVAL_DELAY))
    scans = {window: state.get(last_scan(window)) for window in windows_ms}
    done = {window // 1000: iso_time(moment) for window, moment in scans.items() if moment}
    return {
        "observations": found.total,
        "within_seconds": {f"{share:.1%}": found.within(share) for share in (0.5, 0.99, 0.999)} if found.total else {},
        "checked_back_seconds": max(done, default=None),
        "last_scans": {str(window): moment for window, moment in sorted(done.items())},
    }
