"""Lists covered time once more and compares it with the ledger, to find what is there and was never sent.

Within the look-back the ledger knows every row by name. What is older it has forgotten, but for how many rows of each
hour were done; there, hours that hold more rows than were done are told, and cannot be mended without sending others
of their rows again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
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
    again: int = 0  # rows that would go out again with those that are missing, since they are not known by name
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
    resent: list[Window] = field(default_factory=list)  # hours, as far as they are covered, whose missing rows went out
    spans_sent: int = 0  # of them
    refused: int = 0  # hours that are not sent unless sending other rows again is allowed

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
                    "again": hour.again,
                    "examples": [{"trace_id": trace, "row_id": row} for trace, row in list(hour.rows)[:_EXAMPLES]],
                }
                for hour in self.hours
            ],
            "reopened": [_stretch(window) for window in self.reopened],
            "resent": [_stretch(window) for window in self.resent],
            "spans_sent": self.spans_sent,
            "refused": self.refused,
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
        self._now = clock.now_ms()  # one moment for all of the listing
        self._look_back = look_back_ms

    async def run(self, stretch: Window | None) -> Verdict:
        """List the covered part of a stretch (all of the look-back where none is given) and compare it.

        Forgotten rows are counted by whole hours, so the stretch is widened to them.
        """
        found = Verdict(self._name)
        live, backfilled = self._coverage(LIVE), self._coverage(BACKFILL)
        edge = contiguous_end(self._state.first_edge_ms or 0, [*live, *backfilled])
        stretch = _whole_hours(stretch) if stretch is not None else self._default_stretch(live, backfilled)
        found.gaps = self._live_gaps(live, backfilled, stretch)
        hours: dict[int, Hour] = {}
        seen: Counter[int] = Counter()
        named: Counter[int] = Counter()
        for window in within(merged([*live, *backfilled]), stretch):
            await self._list(window, hours, found, seen, named)
        self._compare_counts(seen, named, hours)
        found.hours = sorted((hour for hour in hours.values() if hour.missing), key=lambda hour: hour.start_ms)
        found.missing = sum(hour.missing for hour in found.hours)
        first_wrong = [window.start for window in found.gaps] + [hour.start_ms for hour in found.hours]
        found.complete_to_ms = min([edge, *first_wrong]) if self._state.first_edge_ms is not None else None
        return found

    def _coverage(self, role: str) -> list[Window]:
        return self._ledger.coverage(self._state.id, role)

    def _default_stretch(self, live: Sequence[Window], backfilled: Sequence[Window]) -> Window:
        everything = merged([*live, *backfilled])
        if not everything:
            return Window(0, 0)
        return Window(max(everything[0].start, self._remembered_from), everything[-1].end)

    @property
    def _remembered_from(self) -> int:
        """From which start on rows must be known by name."""
        return self._now - self._look_back

    def _live_gaps(self, live: Sequence[Window], backfilled: Sequence[Window], stretch: Window) -> list[Window]:
        first = self._state.first_edge_ms
        if first is None or not live:
            return []
        shown = Window(max(first, stretch.start), min(live[-1].end, stretch.end))
        return gaps(shown, [*live, *backfilled])

    async def _list(
        self, window: Window, hours: dict[int, Hour], found: Verdict, seen: Counter[int], named: Counter[int]
    ) -> None:
        known: set[tuple[str, str]] = set()
        async for page in self._reader.window(window, light=True):
            found.requests += 1
            found.rows_listed += len(page.rows)
            rows = [row for row in page.rows if window.holds(row.start_ms)]
            self._compare([row for row in rows if row.start_ms >= self._remembered_from], hours)
            old = [row for row in rows if row.start_ms // HOUR_MS * HOUR_MS < self._remembered_from]
            new = {(trace_of(row), row.id): row for row in old if (trace_of(row), row.id) not in known}
            known |= new.keys()
            self._count(new.values(), seen, named)

    def _count(self, rows: Collection[Observation], seen: Counter[int], named: Counter[int]) -> None:
        """Count rows that may be forgotten by the hour; those of traces that wait are not due yet."""
        traces = {trace_of(row) for row in rows}
        done = self._ledger.done_rows(self._state.id, traces)
        notes = self._ledger.traces(self._state.id, traces)
        for row in rows:
            trace = trace_of(row)
            is_done = (trace, row.id) in done
            if is_done or trace not in notes or not notes[trace].parked:
                seen[row.start_ms // HOUR_MS] += 1
                named[row.start_ms // HOUR_MS] += is_done

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

    def _compare_counts(self, seen: Counter[int], named: Counter[int], hours: dict[int, Hour]) -> None:
        """Compare hours whose rows may be forgotten by how many were done; what is missing by name tells more."""
        done = self._ledger.rows_done_by_hour(self._state.id) if seen else Counter[int]()
        for number, listed in seen.items():
            missing = listed - done[number]
            by_name = hours[number].missing if number in hours else 0
            if missing > by_name:
                again = listed - missing - named[number]
                hours[number] = Hour(number * HOUR_MS, listed, missing, forgotten=again > 0, again=max(0, again))

    def reopen(self, hours: Sequence[Hour]) -> list[Window]:
        """Open hours again that lack rows that the ledger would know, and return them: the next run sends them."""
        reopened = [
            part
            for hour in hours
            if not hour.forgotten
            for part in within(self.covered(), Window(self._sure_from(hour), hour.start_ms + HOUR_MS))
        ]
        for window in reopened:
            for role in (LIVE, BACKFILL):
                self._ledger.uncover(self._state.id, role, window)
        return reopened

    def _sure_from(self, hour: Hour) -> int:
        """Return from where on nothing of an hour was forgotten."""
        return max(hour.start_ms, self._remembered_from) if hour.rows else hour.start_ms

    def covered(self) -> list[Window]:
        """Return the time that is covered by either role."""
        return merged([*self._coverage(LIVE), *self._coverage(BACKFILL)])


def _hour_after(moment_ms: int) -> int:
    return -(-moment_ms // HOUR_MS) * HOUR_MS


def _whole_hours(stretch: Window) -> Window:
    return Window(stretch.start // HOUR_MS * HOUR_MS, _hour_after(stretch.end))


def _stretch(window: Window) -> dict[str, str]:
    return {"from": iso_time(window.start), "to": iso_time(window.end)}
