"""One window's way: read, assemble, send what may go, park the rest, and only then count the window as covered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sync_worker.ledger import DeadLetter, TraceNote
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.records import Observation
from sync_worker.sync.assemble import MAX_HELD_BYTES, Assembly, Patience, Verdict, verdict, waits_for_merge, withheld
from sync_worker.sync.lanes import check_room
from sync_worker.sync.lateness import Lateness
from sync_worker.sync.plan import TARGET_ROWS
from sync_worker.sync.proving import prove
from sync_worker.sync.release import Releaser, Trace
from sync_worker.windows import Window

#: A trace that still waits for single rows is looked at again after this share of its age.
_RECHECK_SHARE = 4
_RECHECK_MS = 60_000
_LONGEST_RECHECK_MS = 3_600_000
#: After so many rows of a window, what was read of it is settled and covered.
_ROWS_BEGUN_ANEW = TARGET_ROWS
#: Rows of a window that begins no longer ago than this were seen about as soon as they could be.
_FRESH_MS = 600_000


@dataclass(slots=True)
class Settled:
    """What is to be noted of traces, and where rows were left undelivered that no parked trace stands for."""

    notes: list[TraceNote] = field(default_factory=list)
    undelivered: list[Window] = field(default_factory=list)

    def add(self, other: Settled) -> None:
        """Add what was settled after it."""
        self.notes += other.notes
        self.undelivered += other.undelivered


class WindowSync:
    """Brings windows of one source over, for the live sync or for a backfill."""

    def __init__(
        self,
        releaser: Releaser,
        role: str,
        patience: Patience,
        max_held: int = MAX_HELD_BYTES,
        lateness: Lateness | None = None,
    ) -> None:
        self._releaser = releaser
        self._role = role
        self._patience = patience
        self._max_held = max_held
        self._lateness = lateness

    async def bring_over(self, window: Window) -> int:
        """Do a whole window and return how many rows it held. Raises as reader and delivery do.

        Nothing is noted as covered unless all of it is settled: a fault in the middle repeats the reading, and skips
        what was sent. Rows come newest first, so a trace whose root was read is whole and goes while the walk goes on.
        When more is held than may be, or many rows were read, what is held goes too, and the time after the oldest row
        read is covered: a window of millions of rows is not begun anew.
        """
        releaser = self._releaser
        assembly = Assembly()
        letters: list[DeadLetter] = []
        settled = Settled()
        count, since, upper, oldest = 0, 0, window.end, window.end
        async for page in releaser.reader.window(window):
            count += len(page.rows)
            since += len(page.rows)
            releaser.report.rows_read += len(page.rows)
            rows = [row for row in page.rows if window.holds(row.start_ms)]
            oldest = min([oldest, *(row.start_ms for row in rows)])
            assembly.add_page(page, rows)
            self._count_lateness(rows, window)
            letters += [releaser.letter_of(item) for item in page.unreadable]
            if assembly.size > self._max_held or since > _ROWS_BEGUN_ANEW:
                upper = await self._cover(Window(min(oldest + 1, upper), upper), assembly, settled, letters, window)
                below = [part for part in settled.undelivered if part.start < upper]  # of the moment that was cut
                settled, letters, since = Settled(undelivered=below), [], 0
            else:
                settled.add(await self._settle(assembly.take_whole(), window))
        await self._cover(Window(window.start, upper), assembly, settled, letters, window)
        releaser.report.windows += 1
        return count

    def _count_lateness(self, rows: Sequence[Observation], window: Window) -> None:
        """Count how soon after their end rows were seen; a window that waited long itself tells nothing of that."""
        now = self._releaser.clock.now_ms()
        if self._lateness is None or now - window.start > _FRESH_MS:
            return
        for row in rows:
            if row.end_ms is not None:
                self._lateness.add(max(0, now - row.end_ms) / 1000)

    async def _cover(
        self,
        done: Window,
        assembly: Assembly,
        settled: Settled,
        letters: Sequence[DeadLetter],
        window: Window,
    ) -> int:
        """Settle what is held of a window, note `done` of it as covered, and return where that begins.

        Where something was left undelivered that no parked trace stands for, it is not covered.
        """
        releaser = self._releaser
        await prove(releaser.reader, assembly)
        settled.add(await self._settle(assembly.take(), window))
        releaser.delivery.finish()
        new = releaser.ledger.count_new(letters)
        is_open = any(part.end > done.start for part in settled.undelivered)
        covered = Window(done.start, done.start) if is_open else self._certain(done)
        releaser.ledger.commit_window(releaser.source_id, self._role, covered, settled.notes, letters)
        releaser.report.dead_letters += new
        return done.start

    def _certain(self, done: Window) -> Window:
        """Return what of a window has passed for certain: rows of the rest are yet to come.

        A clock that runs ahead would else cover time in which rows then turn up. An empty window covers nothing.
        """
        passed = self._releaser.clock.certain_ms() - (self._patience.settle if self._role == LIVE else 0)
        return Window(done.start, max(done.start, min(done.end, passed)))

    async def settle_late(self, taken: Mapping[str, Sequence[Observation]], around: Window) -> None:
        """Send rows that turned up in time that is covered, or park their traces, as those that another run claims."""
        releaser = self._releaser
        settled = await self._settle(taken, around)
        notes = {note.trace_id: note for note in settled.notes}
        releaser.delivery.finish()
        now = releaser.clock.certain_ms()
        left = releaser.left_to_others(taken, around)
        known = releaser.ledger.traces(releaser.source_id, left) | notes
        for trace_id, rows in left.items():
            note = known.get(trace_id) or TraceNote(trace_id, parked=True, earliest_ms=now, newest_ms=0)
            notes[trace_id] = left_waiting(note, rows, now)
        releaser.ledger.note_traces(releaser.source_id, notes.values())
        for window in settled.undelivered:
            releaser.ledger.uncover(releaser.source_id, self._role, window)

    async def _settle(self, taken: Mapping[str, Sequence[Observation]], window: Window) -> Settled:
        """Send what may go; return what is to be noted of traces once the window is covered."""
        releaser = self._releaser
        if not taken:
            return Settled()
        traces = await releaser.introduce(taken, window)
        if self._role == BACKFILL:
            left = await releaser.send(traces)
            return Settled(undelivered=_moments(trace for trace in traces if trace.trace_id in left))
        now = releaser.clock.certain_ms()
        going, notes = list[Trace](), list[TraceNote]()
        for trace in traces:
            decided = self._decide(trace, now)
            if decided is None:
                trace.is_open = trace.note is None and any(row.trace_id is not None for row in trace.fresh)
                going.append(trace)
            else:
                notes.append(decided)
        waiting = [(trace, held_back(trace, now, self._patience)) for trace in going]
        left = await releaser.send([trace for trace in going if trace.fresh])
        notes += [still_waiting(releaser, trace, rows, now, self._patience) for trace, rows in waiting if rows]
        undelivered = [trace for trace in going if trace.trace_id in left]
        # A row without a trace cannot be fetched by it: no note can stand for it, so its time stays open.
        lone = [trace for trace in undelivered if any(row.trace_id is None for row in trace.fresh)]
        notes += [
            undelivered_note(releaser, trace, now)
            for trace in undelivered
            if all(row.trace_id is not None for row in trace.fresh)
        ]
        return Settled(notes, _moments(lone))

    def _decide(self, trace: Trace, now: int) -> TraceNote | None:
        """Return the note of a trace that has to wait, or None when it goes now."""
        note = trace.note
        if all(row.trace_id is None for row in trace.fresh):
            return None
        if note is not None and not note.parked:
            return None  # released before: its rows go as they come
        said = verdict(
            trace.rows, trace.earliest_ms, trace.newest_ms, now, self._patience, trace.context.rows_are,
            guess_ms=self._releaser.clock.now_ms(),
        )  # fmt: skip
        if said is Verdict.PARK:
            return self._releaser.noted(trace, parked=True, check_ms=now + self._patience.settle)
        if said is Verdict.RELEASE and merging(trace, now, self._patience):
            return self._releaser.noted(trace, parked=True, check_ms=now + self._patience.settle)
        if note is not None:
            return self._releaser.noted(trace, parked=True)  # fetched whole, and sent, at the end of this cycle
        return None


def _moments(traces: Iterable[Trace]) -> list[Window]:
    """Return where the rows that these traces were to send begin, each for itself."""
    return [Window(row.start_ms, row.start_ms + 1) for trace in traces for row in trace.fresh]


def undelivered_note(releaser: Releaser, trace: Trace, now_ms: int) -> TraceNote:
    """Return the note of a trace that could not be delivered whole: it waits for its lane, or for its next try.

    Raises SourcePaused when more wait for their lanes than a state file should hold.
    """
    if not releaser.routing.has_lane(trace.note):
        check_room(releaser.ledger, releaser.source_id, releaser.delivery)
        return releaser.noted(trace, parked=True, check_ms=now_ms + 1)
    wait = min(_LONGEST_RECHECK_MS, max(_RECHECK_MS, (now_ms - trace.earliest_ms) // _RECHECK_SHARE))
    return releaser.noted(trace, parked=True, check_ms=now_ms + wait)


def merging(trace: Trace, now_ms: int, patience: Patience) -> bool:
    """Whether a trace has rows to be sent that may yet come once: all of it waits for them, to go whole."""
    since = None if trace.note is None else trace.note.parked_ms
    return any(waits_for_merge(row, now_ms, patience, since) for row in trace.fresh)


def held_back(trace: Trace, now_ms: int, patience: Patience) -> list[Observation]:
    """Take the rows out of a trace that still wait alone, and return them."""
    rows = withheld(trace.fresh, now_ms, patience, None if trace.note is None else trace.note.parked_ms)
    if rows:
        waiting = {row.id for row in rows}
        trace.fresh = [row for row in trace.fresh if row.id not in waiting]
        trace.others += rows
    return rows


def still_waiting(
    releaser: Releaser, trace: Trace, rows: Sequence[Observation], now_ms: int, patience: Patience
) -> TraceNote:
    """Return the note of a trace that went but for these rows."""
    first = min(row.start_ms for row in rows)
    check = min(_next_check(row, now_ms, patience) for row in rows)
    return replace(releaser.noted(trace, parked=True, check_ms=check), earliest_ms=first)


def left_waiting(note: TraceNote, rows: Sequence[Observation], now_ms: int) -> TraceNote:
    """Return the note of a trace that waits until another run has done with these rows, which it claims."""
    return replace(
        note,
        parked=True,
        parked_ms=note.parked_ms or now_ms,
        earliest_ms=min([note.earliest_ms, *(row.start_ms for row in rows)]),
        newest_ms=max([note.newest_ms, *(row.last_ms for row in rows)]),
        check_ms=now_ms + _RECHECK_MS,
    )


def _next_check(row: Observation, now_ms: int, patience: Patience) -> int:
    """Return when a row that waits alone is looked at again: seldom while little may have happened."""
    is_open = row.is_open and now_ms - row.start_ms < patience.max_open
    since = row.start_ms if is_open else min(now_ms, row.last_ms)
    wait = max(_RECHECK_MS, (now_ms - since) // _RECHECK_SHARE)
    return min(now_ms + wait, max(now_ms + 1, since + patience.max_open))
