"""What a process counts of itself: requests, bytes, cycles, and how long they took.

Plain numbers that any thread may read; they begin at nothing with the process, unless stored ones are loaded.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

CYCLES: Final = "cycles"  # source, outcome
CYCLE_SECONDS: Final = "cycle_seconds"  # source
LANGFUSE_REQUESTS: Final = "langfuse_requests"  # source, endpoint, code
TARGET_REQUESTS: Final = "target_requests"  # source, kelet_project, endpoint, code
RECEIVED_BYTES: Final = "received_bytes"  # source
SENT_BYTES: Final = "sent_bytes"  # source
DELIVERY_SECONDS: Final = "delivery_seconds"  # source
REQUEST_SPANS: Final = "request_spans"  # source

#: Upper bounds of the buckets of each histogram; one more bucket has none.
BOUNDS: Final[Mapping[str, tuple[float, ...]]] = {
    CYCLE_SECONDS: (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0),
    DELIVERY_SECONDS: (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    REQUEST_SPANS: (1.0, 8.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0),
}
#: Values of the labels that are kept of one counter; what comes later is counted under `other` in each label but the
#: first, which is the source.
_MOST_SERIES = 2_000

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts by bucket, not cumulative, the last without an upper bound; `total` is the sum of what was observed.

    A `total` of None: it is not known.
    """

    counts: tuple[int, ...]
    total: float | None


class Measurements:
    """Counters and histograms by name and labels."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, dict[Labels, int]] = {}
        self._histograms: dict[str, dict[Labels, Histogram]] = {name: {} for name in BOUNDS}

    def count(self, name: str, *labels: str, by: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            series = self._counters.setdefault(name, {})
            if labels not in series and len(series) >= _MOST_SERIES:
                labels = (labels[0], *("other" for _ in labels[1:]))
            series[labels] = series.get(labels, 0) + by

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Add a value to a histogram."""
        with self._lock:
            bounds, series = BOUNDS[name], self._histograms[name]
            before = series.get(labels) or Histogram((0,) * (len(bounds) + 1), 0.0)
            at = bisect.bisect_left(bounds, value)
            counts = tuple(count + (place == at) for place, count in enumerate(before.counts))
            series[labels] = Histogram(counts, (before.total or 0.0) + value)

    def counters(self, name: str) -> dict[Labels, int]:
        """Return a counter's values, by its labels."""
        with self._lock:
            return dict(self._counters.get(name, {}))

    def histograms(self, name: str) -> dict[Labels, Histogram]:
        """Return the histograms of a name, by their labels."""
        with self._lock:
            return dict(self._histograms[name])

    def as_json(self) -> dict[str, Any]:
        """Return everything as a JSON value, for `load`."""
        with self._lock:
            return {
                "counters": {name: [[*key, by] for key, by in one.items()] for name, one in self._counters.items()},
                "histograms": {
                    name: [[*key, list(one.counts), one.total] for key, one in series.items()]
                    for name, series in self._histograms.items()
                },
            }

    def add(self, stored: Mapping[str, Any]) -> None:
        """Add what another process has counted, as `as_json` returned it there."""
        for name, rows in stored["counters"].items():
            for *key, by in rows:
                self.count(name, *key, by=by)
        with self._lock:
            for name, rows in stored["histograms"].items():
                series = self._histograms[name]
                for *key, counts, total in rows:
                    before = series.get(tuple(key)) or Histogram((0,) * len(counts), 0.0)
                    together = tuple(map(sum, zip(before.counts, counts, strict=True)))
                    series[tuple(key)] = Histogram(together, (before.total or 0.0) + (total or 0.0))

    def load(self, stored: Mapping[str, Any]) -> None:
        """Go on from what `as_json` returned; a histogram with other buckets is left out."""
        with self._lock:
            for name, rows in stored["counters"].items():
                self._counters[name] = {tuple(key): by for *key, by in rows}
            for name, rows in stored["histograms"].items():
                if name in BOUNDS:
                    self._histograms[name] = {
                        tuple(key): Histogram(tuple(counts), total)
                        for *key, counts, total in rows
                        if len(counts) == len(BOUNDS[name]) + 1
                    }


class Tick:
    """When the event loop last ran, by the monotonic clock. `note` is called in the loop, `age` anywhere."""

    def __init__(self, monotonic: Any) -> None:
        self._monotonic = monotonic
        self._at: float = monotonic()

    def note(self) -> None:
        """Note that the loop runs."""
        self._at = self._monotonic()

    def age(self) -> float:
        """Return the seconds since it last ran."""
        return float(self._monotonic() - self._at)
