"""Lists covered time once more and compares it with the ledger, to find what is there and was never sent.

Within the look-back the ledger knows every row by name. What is older it has forgotten, but for how many rows of each
hour were done; there, hours that hold more rows than were done are told, and cannot be mended without sending twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sync_worker.clock import Clock
from sync_worker.langfuse.reader import Reader
from sync_worker.ledger import Ledger, SourceState
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.ledger.tallies import HOUR_MS
from sync_worker.records import Observation
from sync_worker.spans.context import trace_of
from sync_worker.times import iso_time
from sync_worker.windows import Window, contiguous_end, gaps, merged, within

_EXAMPLES = 5  # rows named for an hour


@dataclass(slots=True)
class Hour:
    """What was found in an hour, `[start, start + 1 h)` by start of rows."""

    start_ms: int
    listed: int = 0
    missing: int = 0
    forgotten: bool = False  # compared by count: the rows are not known by name any more
    rows: dict[tuple[str, str], None] = field(default_factory=dict)  # what is missing, by (trace id, row id)


@dataclass(slots=True)
class Verdict:
    """What a verification found. Times in Unix milliseconds."""

    source: str
    rows_listed: int = 0
    requests: int = 0
    missing: int = 0
    gaps: list[Window] = field(default_factory=list)
    hours: list[Hour] = field(default_factory=list)  # those with differences
    complete_to_ms: int | None = None
    reopened: list[Window] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return not self.gaps and not self.missing

    def as_json(self) -> dict[str, Any]:
        """Return the findings as a JSON object."""
        return {
            "source": self.source,
            "complete": self.complete,
            "complete_to": None if self.complete_to_ms is None else iso_time(self.complete_to_ms),
            "rows_listed": self.rows_listed,
            "requests": self.requests,
            "missing": self.missing,
            "gaps": [_stretch(gap) for gap in self.gaps],
            "hours": [
                {
                    "from": iso_time(hour.start_ms),
                    "listed": hour.listed,
                    "missing": hour.missing,
                    "forgotten": hour.forgotten,
                    "examples": [{"trace_id": trace, "row_id": row} for trace, row in list(hour.rows)[:_EXAMPLES]],
                }
                for hour in self.hours
            ],
            "reopened": [_stretch(window) for window in self.reopened],
        }


class Verification:
    """Compares one source's covered time with Langfuse."""

    def __init__(
        self, name: str, state: SourceState, ledger: Ledger, reader: Reader, clock: Clock, look_back_ms: int
    ) -> None:
        self._name = name
        self._state = state
        self._ledger = ledger
        self._reader = reader
        self._clock = clock
        self._look_back = look_back_ms
        self._done: Counter[int] | None = None

    async def run(self, stretch: Window | None, *, repair: bool) -> Verdict:
        """List the covered part of a stretch (all of the look-back where none is given) and compare it.

        With `repair`, what lacks rows that the ledger would know is opened again: the next run sends them.
        """
        found = Verdict(self._name)
        live, backfilled = self._coverage(LIVE), self._coverage(BACKFILL)
        edge = contiguous_end(self._state.first_edge_ms or 0, [*live, *backfilled])
        stretch = stretch or self._default_stretch(live, backfilled)
        found.gaps = self._live_gaps(live, backfilled, stretch)
        hours: dict[int, Hour] = {}
        for window in within(merged([*live, *backfilled]), stretch):
            await self._list(window, hours, found)
        found.hours = sorted((hour for hour in hours.values() if hour.missing), key=lambda hour: hour.start_ms)
        found.missing = sum(hour.missing for hour in found.hours)
        first_wrong = [window.start for window in found.gaps] + [hour.start_ms for hour in found.hours]
        found.complete_to_ms = min([edge, *first_wrong]) if self._state.first_edge_ms is not None else None
        if repair:
            found.reopened = self._reopen(found.hours, merged([*live, *backfilled]))
        return found

    def _coverage(self, role: str) -> list[Window]:
        return self._ledger.coverage(self._state.id, role)

    def _default_stretch(self, live: Sequence[Window], backfilled: Sequence[Window]) -> Window:
        everything = merged([*live, *backfilled])
        if not everything:
            return Window(0, 0)
        return Window(max(everything[0].start, self._remembered_from()), everything[-1].end)

    def _remembered_from(self) -> int:
        return self._clock.now_ms() - self._look_back

    def _live_gaps(self, live: Sequence[Window], backfilled: Sequence[Window], stretch: Window) -> list[Window]:
        first = self._state.first_edge_ms
        if first is None or not live:
            return []
        shown = Window(max(first, stretch.start), min(live[-1].end, stretch.end))
        return gaps(shown, [*live, *backfilled])

    async def _list(self, window: Window, hours: dict[int, Hour], found: Verdict) -> None:
        seen: Counter[int] = Counter()
        known: set[tuple[str, str]] = set()
        async for page in self._reader.window(window, light=True):
            found.requests += 1
            found.rows_listed += len(page.rows)
            rows = [row for row in page.rows if window.holds(row.start_ms)]
            self._compare([row for row in rows if row.start_ms >= self._remembered_from()], hours)
            for row in rows:
                key = (trace_of(row), row.id)
                if row.start_ms < self._remembered_from() and key not in known:
                    seen[row.start_ms // HOUR_MS] += 1
                    known.add(key)
        self._compare_counts(window, seen, hours)

    def _compare(self, rows: Sequence[Observation], hours: dict[int, Hour]) -> None:
        """Compare rows that the ledger must know by name."""
        traces = {trace_of(row) for row in rows}
        done = self._ledger.done_rows(self._state.id, traces)
        notes = self._ledger.traces(self._state.id, traces)
        first = self._state.first_edge_ms
        backfilled = self._coverage(BACKFILL)
        for row in rows:
            trace = trace_of(row)
            hour = hours.setdefault(row.start_ms // HOUR_MS, Hour(row.start_ms // HOUR_MS * HOUR_MS))
            hour.listed += 1
            note = notes.get(trace)
            waits = note is not None and note.parked
            not_due = first is not None and row.start_ms < first and not any(w.holds(row.start_ms) for w in backfilled)
            hidden = row.is_synthetic_root and note is not None and note.context.get("rows_are") == "otel"
            if (trace, row.id) in done or waits or not_due or hidden:
                continue
            hour.rows[trace, row.id] = None
            hour.missing = len(hour.rows)

    def _compare_counts(self, window: Window, seen: Counter[int], hours: dict[int, Hour]) -> None:
        """Compare hours whose rows are forgotten by how many were done, where the whole hour was listed."""
        for number, listed in seen.items():
            whole = Window(number * HOUR_MS, (number + 1) * HOUR_MS)
            if whole.start < window.start or whole.end > min(window.end, self._remembered_from()):
                continue
            if self._done is None:
                self._done = self._ledger.rows_done_by_hour(self._state.id)
            done = self._done[number]
            if listed > done:
                hours[number] = Hour(whole.start, listed, listed - done, forgotten=True)

    def _reopen(self, hours: Sequence[Hour], covered: Sequence[Window]) -> list[Window]:
        reopened = [
            part
            for hour in hours
            if not hour.forgotten
            for part in within(covered, Window(hour.start_ms, hour.start_ms + HOUR_MS))
        ]
        for window in reopened:
            for role in (LIVE, BACKFILL):
                self._ledger.uncover(self._state.id, role, window)
        return reopened


def _stretch(window: Window) -> dict[str, str]:
    return {"from": iso_time(window.start), "to": iso_time(window.end)}
