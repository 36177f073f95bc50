"""Parked traces: looked at many at a time, fetched whole when they are settled or have waited long enough."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from sync_worker.ledger import TraceNote
from sync_worker.records import Observation
from sync_worker.spans.context import trace_of
from sync_worker.sync.assemble import MAX_HELD_BYTES, Assembly, Patience, Verdict, verdict, waits_for_merge
from sync_worker.sync.lanes import Lanes
from sync_worker.sync.proving import prove
from sync_worker.sync.release import OPEN_FOR_MS, Releaser, Trace, released
from sync_worker.sync.window import held_back, left_waiting, still_waiting, undelivered_note
from sync_worker.windows import Window

#: Parked traces looked at in one go: what one request's list of ids holds.
_AT_ONCE = 150
#: Of a project that Kelet did not know lately, so many are tried before the others are fetched.
_TRIED_OF_A_LANE = 3


class ParkedSync:
    """Looks after the parked traces of one source."""

    def __init__(self, releaser: Releaser, patience: Patience, first_edge_ms: int, lanes: Lanes) -> None:
        self._releaser = releaser
        self._patience = patience
        self._first_edge = first_edge_ms
        self._lanes = lanes
        self._guess = 0  # what time it may be, in Unix ms: whether a trace is quiet, and what to ask for, go by it

    async def look_after(self) -> None:
        """Release each parked trace that may go now; look at each that is due once."""
        releaser = self._releaser
        guess = releaser.clock.now_ms()
        now = releaser.clock.certain_ms()
        self._guess = guess
        never = max(now, guess) + max(self._patience.settle, self._patience.max_open)
        ledger, source, lanes = releaser.ledger, releaser.source_id, self._lanes
        latest, last = max(now, guess), (-1, "")
        for project in lanes.to_try():
            await self._look_at(ledger.parked_due(source, latest, never, _TRIED_OF_A_LANE, project=project), now)
            lanes.tried(project)
        while due := ledger.parked_due(source, latest, never, _AT_ONCE, last, without=lanes.closed()):
            last = due[-1].check_ms, due[-1].trace_id
            await self._look_at(due, now)
        lanes.store()

    async def _look_at(self, due: Sequence[TraceNote], now: int) -> None:
        """Release each of these that may go now."""
        releaser = self._releaser
        releaser.clock.check()
        forced = [note for note in due if now - note.earliest_ms >= self._patience.max_open]
        waiting = [note for note in due if now - note.earliest_ms < self._patience.max_open]
        settled = await self._settled(waiting, now)
        await self.fetch_and_send([*forced, *settled], now)
        chosen = {note.trace_id for note in (*forced, *settled)}
        later = [replace(note, check_ms=now + 1) for note in waiting if note.trace_id not in chosen]
        releaser.ledger.note_traces(releaser.source_id, later)

    async def _settled(self, notes: Sequence[TraceNote], now: int) -> list[TraceNote]:
        """Return the traces whose root is there and that have been quiet; one light request looks up many roots."""
        quiet = {note.trace_id: note for note in notes if self._guess - note.newest_ms >= self._patience.settle}
        if not quiet:
            return []
        roots: dict[str, list[Observation]] = {}
        async for page in self._releaser.reader.roots(list(quiet), self.around(quiet.values(), now)):
            self._releaser.report.rows_read += len(page.rows)
            for row in page.rows:
                roots.setdefault(trace_of(row), []).append(row)
        return [
            note
            for trace_id, note in quiet.items()
            if trace_id in roots and self._may_go(roots[trace_id], note, now) is not Verdict.PARK
        ]

    def _may_go(self, rows: Sequence[Observation], note: TraceNote, now: int) -> Verdict:
        newest = max(note.newest_ms, *(row.last_ms for row in rows))
        rows_are = str(note.context.get("rows_are", ""))
        return verdict(rows, note.earliest_ms, newest, now, self._patience, rows_are, guess_ms=self._guess)

    async def fetch_and_send(self, notes: Sequence[TraceNote], now: int) -> None:
        """Fetch traces whole and send what is new of them. Raises as reader and delivery do."""
        if not notes:
            return
        by_id = {note.trace_id: note for note in notes}
        assembly = Assembly()
        after: dict[str, TraceNote] = {}
        async for page in self._releaser.reader.traces(list(by_id), self.around(notes, now)):
            self._releaser.report.rows_read += len(page.rows)
            assembly.add_page(page, [row for row in page.rows if trace_of(row) in by_id])
            self._releaser.set_aside_unreadable(page.unreadable)
            if assembly.size > MAX_HELD_BYTES:
                await prove(self._releaser.reader, assembly)
                after |= await self._send(assembly.take(), by_id, now)
        await prove(self._releaser.reader, assembly)
        if not after:  # all rows are at hand: what was decided by roots and times can be decided by them
            moved = dict(self._still_moving(assembly.traces, by_id, now))
            after |= moved
            for trace_id in moved:
                del assembly.traces[trace_id]
        after |= await self._send(assembly.take(), by_id, now)
        after |= self._vanished([note for note in notes if note.trace_id not in after], now)
        self._releaser.ledger.note_traces(self._releaser.source_id, after.values())

    async def _send(
        self, taken: Mapping[str, list[Observation]], notes: Mapping[str, TraceNote], now: int
    ) -> dict[str, TraceNote]:
        """Send what of these traces is to be sent; return what to note of them once all their rows are settled.

        A trace of which another run has rows to send waits for them.
        """
        releaser = self._releaser
        sends = Window(self._first_edge, max(now, self._guess) + 1)
        traces = await releaser.introduce(taken, sends)
        left = releaser.left_to_others(taken, sends)
        for trace in traces:
            trace.is_open = True
        held = [(trace, held_back(trace, now, self._patience)) for trace in traces]
        undelivered = await releaser.send([trace for trace in traces if trace.fresh], parked=True)
        releaser.delivery.finish()
        after = {trace_id: releaser.gone(notes[trace_id], rows) for trace_id, rows in taken.items()}
        for trace, rows in held:
            if trace.trace_id in undelivered:
                after[trace.trace_id] = undelivered_note(releaser, trace, now)
            elif rows:
                after[trace.trace_id] = still_waiting(releaser, trace, rows, now, self._patience)
            elif trace.note is not None:
                after[trace.trace_id] = releaser.gone(trace.note, trace.rows)
        return after | {trace_id: left_waiting(after[trace_id], rows, now) for trace_id, rows in left.items()}

    def _still_moving(
        self, taken: Mapping[str, Mapping[str, Observation]], notes: Mapping[str, TraceNote], now: int
    ) -> Iterator[tuple[str, TraceNote]]:
        """Yield traces that turn out, seen whole, not to be settled yet."""
        for trace_id, by_row in taken.items():
            note, rows = notes[trace_id], list(by_row.values())
            said = self._may_go(rows, note, now)
            merging = any(waits_for_merge(row, now, self._patience, note.parked_ms) for row in rows)
            if said is Verdict.PARK or (said is Verdict.RELEASE and merging):
                context = self._releaser.gathered(Trace(trace_id, [], rows, note))
                newest = max(note.newest_ms, *(row.last_ms for row in rows))
                yield trace_id, replace(note, newest_ms=newest, check_ms=now + 1, context=context.as_json())

    def _vanished(self, notes: Iterable[TraceNote], now: int) -> dict[str, TraceNote]:
        """Close traces that are gone at the source; one that is merely not there yet waits on."""
        after: dict[str, TraceNote] = {}
        for note in notes:
            gone = now - note.earliest_ms >= self._patience.max_open
            after[note.trace_id] = replace(released(note), open_ms=None) if gone else replace(note, check_ms=now + 1)
            self._releaser.report.traces_vanished += gone
        return after

    def around(self, notes: Iterable[TraceNote], now: int) -> Window:
        """Return where rows of these traces may start: a root may start long before what was seen of its trace."""
        starts = (note.earliest_ms - (0 if note.open_ms is None else OPEN_FOR_MS) for note in notes)
        return Window(min(starts) - self._releaser.policy.deepest_ms, max(now, self._guess) + 1)
