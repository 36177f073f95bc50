"""Late scans: a cheap second look at time that is covered already.

Langfuse lists rows by their start and has no order of arrival, so a row can turn up in time that was read long ago: a
span shows up when it ends, a row of an old SDK 10 to 15 minutes later, a restored queue hours later. Two kinds of look:

- each cycle, rows that ended lately but started longer ago than the first horizon: the roots of long agents;
- for each horizon H, every H/12, all rows that started since the last completed scan minus H. Horizons that are due
  together are one listing, and what an outage made wait is caught up with, not skipped.

Listings take light fields, a thousand rows a request (v1 has none: there, counts are compared first). What is new or
changed is fetched by id and goes the way of every row. A scan takes a bounded number of requests in a cycle and goes on
in the next one, also in the next process.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from sync_worker.ledger import Ledger, SentRow, TraceNote
from sync_worker.records import Observation
from sync_worker.spans.context import trace_of
from sync_worker.sync.assemble import MAX_HELD_BYTES, Assembly
from sync_worker.sync.lateness import Lateness, last_look_name, source_scope
from sync_worker.sync.plan import PERIODS, Cutter
from sync_worker.sync.recount import Recount
from sync_worker.sync.release import Releaser
from sync_worker.sync.window import WindowSync
from sync_worker.windows import Window, merged

#: Share of the requests a minute that late scans may take, and the limit that is assumed while none is known.
BUDGET_SHARE = 4
_ASSUMED_PER_MINUTE = 1_000
_LEAST_REQUESTS = 8
#: The ledger's name for the start of rows, in Unix ms, before which what was sent may be forgotten.
FORGOTTEN = "forgotten before"
#: The ledger's names for when the last look for rows that ended lately began, and for a scan under way.
_ENDED, _SCAN = "late ended", "late scan"
#: When more than this share of a stretch is missing, it is read whole instead of by ids.
_READ_WHOLE_SHARE = 3


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan under way: what is left of it is `[start, end)`; it began at `began_ms` and serves these horizons."""

    start: int
    end: int
    began_ms: int
    horizons: tuple[int, ...]  # milliseconds


def looks_back_to(ledger: Ledger, source_id: int, horizons: Sequence[int]) -> int | None:
    """Return how old the rows are that a scan may still list; None before the first scan.

    After an outage, and while a scan is under way, that is longer ago than the horizons: what is forgotten before
    the scan has passed would look new to it.
    """
    scope = source_scope(source_id)
    looks = [(ledger.fact(scope, last_look_name(horizon)), horizon) for horizon in horizons]
    looks.append((ledger.fact(scope, _ENDED), min(horizons)))
    return min((int(last) - length for last, length in looks if last), default=None)


class LateScans:
    """Looks again at the covered time of one source."""

    def __init__(
        self,
        releaser: Releaser,
        windows: WindowSync,
        horizons: Sequence[int],
        first_edge_ms: int,
        requests_per_minute: int | None,
        interval_ms: int,
        lateness: Lateness,
    ) -> None:
        self._releaser = releaser
        self._windows = windows
        self._horizons = tuple(sorted(horizons))
        self._first_edge = first_edge_ms
        per_minute = requests_per_minute or _ASSUMED_PER_MINUTE
        self._allowed = max(_LEAST_REQUESTS, per_minute * max(interval_ms, 60_000) // 60_000 // BUDGET_SHARE)
        self._scope = source_scope(releaser.source_id)
        self._lateness = lateness
        self._covered: list[Window] = []
        self._recount = Recount(
            releaser.ledger, self._scope, releaser.reader, self._horizons, releaser.clock, releaser.report
        )

    async def look(self, now: int, covered: Sequence[Window]) -> None:
        """Do what is due of both kinds in the time that is covered. Raises as reader and delivery do.

        What a running backfill has yet to cover is passed over, and does not hide what is covered behind it.
        """
        self._covered = merged(covered)
        edge = max([self._first_edge, *(window.end for window in self._covered)])
        used = self._releaser.report.langfuse_requests_of_late_scans
        await self._ended_lately(now, edge)
        scan = self._stored_scan() or self._due_scan(now, edge)
        cutter = Cutter(self._fact("late_window_ms"))
        while scan is not None and self._releaser.report.langfuse_requests_of_late_scans - used < self._allowed:
            self._releaser.clock.check()
            part = Window(max(scan.start, scan.end - cutter.length), scan.end)
            cutter.learn(part, await self._compare_changed(part))
            scan = self._advance(scan, part)
        self._releaser.ledger.learn(self._scope, "late_window_ms", str(cutter.length))

    def begin(self, now: int) -> None:
        """Count horizons from before the first window is read: what shows up behind it is late, however the run ends.

        A look that lies ahead was made by a clock that has been set back since: all horizons are due at once, since
        what that clock covered may not have happened yet.
        """
        looks = {last_look_name(horizon): horizon // PERIODS for horizon in self._horizons} | {_ENDED: 0}
        for name, period in looks.items():
            last = self._fact(name)
            if last is None:
                self._learn(name, now)
            elif last > now:
                self._learn(name, now - period)
                self._releaser.ledger.learn(self._scope, _SCAN, "")

    def _bound(self) -> int:
        """Return where no look goes beyond: the first edge, and what was forgotten, which would seem new."""
        return max(self._first_edge, self._fact(FORGOTTEN) or 0)

    async def _ended_lately(self, now: int, edge: int) -> None:
        """List rows that ended since the last such look, less the first horizon, but started longer ago."""
        first, deepest = self._horizons[0], self._horizons[-1]
        since = (self._fact(_ENDED) or now) - first
        window = Window(max(self._bound(), since - deepest), min(edge, now - first))
        if window.length > 0:
            await self._compare(window, ended_since_ms=since)
        self._learn(_ENDED, now)

    def _due_scan(self, now: int, edge: int) -> Scan | None:
        due = {
            horizon: last
            for horizon in self._horizons
            if (last := self._fact(last_look_name(horizon))) is not None and now - last >= horizon // PERIODS
        }
        if not due:
            return None
        start = max(self._bound(), min(last - horizon for horizon, last in due.items()))
        if start < edge:
            return self._store(Scan(start, edge, now, tuple(due)))
        self._complete(tuple(due), now)
        return None

    def _advance(self, scan: Scan, done: Window) -> Scan | None:
        """Note a finished part, newest first; a finished scan counts from when it began."""
        rest = replace(scan, end=done.start)
        if rest.start < rest.end:
            return self._store(rest)
        self._complete(scan.horizons, scan.began_ms)
        return None

    def _complete(self, horizons: Sequence[int], began_ms: int) -> None:
        # In this order: after a kill in between, the scan is made again from where its horizons still stand.
        self._releaser.ledger.learn(self._scope, _SCAN, "")
        for horizon in horizons:
            self._learn(last_look_name(horizon), began_ms)

    async def _compare_changed(self, part: Window) -> int:
        """Compare of a stretch what may hold something new; return how many rows were listed."""
        stretches = await self._recount.parts_to_list(part)
        listed = [await self._compare(stretch, ended_since_ms=None) for stretch in stretches]
        self._recount.store()
        return sum(listed)

    async def _compare(self, window: Window, ended_since_ms: int | None) -> int:
        """List a stretch in light fields and send what it shows to be new or changed; return how many rows it held."""
        releaser = self._releaser
        listed = 0
        missing: list[Observation] = []
        async for page in releaser.reader.window(window, light=True, ended_since_ms=ended_since_ms):
            releaser.report.langfuse_requests_of_late_scans += 1
            releaser.report.rows_read += len(page.rows)
            listed += len(page.rows)
            missing += self._unknown([row for row in page.rows if window.holds(row.start_ms) and self._is_covered(row)])
        if missing:
            whole = ended_since_ms is None and len(missing) * _READ_WHOLE_SHARE > listed
            await self._bring_over(missing, whole=whole)
        return listed

    def _is_covered(self, row: Observation) -> bool:
        return any(window.holds(row.start_ms) for window in self._covered)

    def _unknown(self, rows: Sequence[Observation]) -> list[Observation]:
        """Return rows that are new, or changed since they were sent; rows of parked traces update their trace."""
        releaser = self._releaser
        traces = {trace_of(row) for row in rows}
        notes = releaser.ledger.traces(releaser.source_id, traces)
        done = releaser.ledger.done_rows(releaser.source_id, traces)
        now = releaser.clock.now_ms()
        unknown: list[Observation] = []
        waiting: dict[str, TraceNote] = {}
        for row in rows:
            trace = trace_of(row)
            if not self._differs(row, done.get((trace, row.id))):
                continue
            note = waiting.get(trace) or notes.get(trace)
            if note is not None and note.parked:
                if row.last_ms > note.newest_ms or row.start_ms < note.earliest_ms:
                    waiting[trace] = replace(
                        note,
                        newest_ms=max(note.newest_ms, row.last_ms),
                        earliest_ms=min(note.earliest_ms, row.start_ms),
                        check_ms=0,
                    )
                continue
            unknown.append(row)
            if (trace, row.id) not in done and row.end_ms is not None:
                self._lateness.add(max(0, now - row.end_ms) / 1000)
        releaser.ledger.note_traces(releaser.source_id, waiting.values())
        return unknown

    def _differs(self, row: Observation, sent: SentRow | None) -> bool:
        if sent is None:
            return True
        if sent.set_aside or not self._releaser.policy.resend_changed:
            return False
        return row.updated_ms is not None and row.updated_ms > sent.updated_ms

    async def _bring_over(self, missing: Sequence[Observation], *, whole: bool) -> None:
        releaser = self._releaser
        starts = [row.start_ms for row in missing]
        around = Window(min(starts), max(starts) + 1)
        wanted = {(trace_of(row), row.id) for row in missing}
        ids = dict.fromkeys(row.id for row in missing)
        walk = releaser.reader.window(around) if whole else releaser.reader.rows(list(ids), around)
        assembly = Assembly()
        async for page in walk:
            releaser.report.langfuse_requests_of_late_scans += 1
            releaser.report.rows_read += len(page.rows)
            assembly.add([row for row in page.rows if (trace_of(row), row.id) in wanted], page.size)
            releaser.set_aside_unreadable(item for item in page.unreadable if item.row_id in ids)
            if assembly.size > MAX_HELD_BYTES:
                await self._windows.settle_late(assembly.take(), around)
        await self._windows.settle_late(assembly.take(), around)

    def _fact(self, name: str) -> int | None:
        stored = self._releaser.ledger.fact(self._scope, name)
        return int(stored) if stored else None

    def _learn(self, name: str, moment_ms: int) -> None:
        self._releaser.ledger.learn(self._scope, name, str(moment_ms))

    def _stored_scan(self) -> Scan | None:
        stored = self._releaser.ledger.fact(self._scope, _SCAN)
        if not stored:
            return None
        values = json.loads(stored)
        values["horizons"] = tuple(values["horizons"])
        return Scan(**values)

    def _store(self, scan: Scan) -> Scan:
        self._releaser.ledger.learn(self._scope, _SCAN, json.dumps(asdict(scan)))
        return scan
