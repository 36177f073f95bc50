"""Rows at hand become spans that arrive: context, project, conversion, batches, sending."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sync_worker.corrected import CorrectedClock
from sync_worker.kelet.batches import pack
from sync_worker.kelet.delivery import Delivery
from sync_worker.langfuse.media import tokens_left
from sync_worker.langfuse.reader import Page, Reader, Unreadable
from sync_worker.ledger import DeadLetter, Ledger, SecondRead, SentRow, TraceNote
from sync_worker.records import Observation
from sync_worker.settings import Route
from sync_worker.spans.context import TraceContext, gather, trace_of
from sync_worker.spans.convert import convert
from sync_worker.spans.encode import encode
from sync_worker.spans.fingerprint import fingerprint, is_retold
from sync_worker.spans.ids import source_trace_id
from sync_worker.spans.model import Conversion, EncodedSpan, RowKey
from sync_worker.sync.assemble import MAX_HELD_BYTES, has_ended
from sync_worker.sync.lanes import Routing
from sync_worker.sync.report import SourceReport
from sync_worker.windows import Window

#: How long after a row its trace's root may start and still be found (clocks of several machines), in milliseconds.
_ROOT_AFTER = 3_600_000

#: How often, and for how long, the root of a trace that went without it is looked for, in milliseconds; so long is
#: remembered what was sent of it.
OPEN_EVERY_MS = 3_600_000
OPEN_FOR_MS = 14 * 24 * 3_600_000
#: What Langfuse lists of a row so soon after its update may be half old, in milliseconds: it is read once more then.
SECOND_READ_MS = 600_000
#: A dead letter that could not be read is tried again by itself after this time, in milliseconds.
FIRST_TRY_MS = 600_000

_Read = Callable[[Sequence[str], Window], AsyncIterator[Page]]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Trace:
    """A trace with the rows at hand: `fresh` are to be sent, `others` only tell of the trace."""

    trace_id: str
    fresh: list[Observation]
    others: list[Observation] = field(default_factory=list)
    note: TraceNote | None = None
    left_out: list[Observation] = field(default_factory=list)  # rows that a direct export would not have
    is_out: bool = False  # whether a span of it was handed to the delivery
    is_open: bool = False  # it goes although no root of it has ended
    context: TraceContext = field(init=False)

    def __post_init__(self) -> None:
        self.context = TraceContext(self.trace_id)

    @property
    def rows(self) -> list[Observation]:
        """All rows at hand."""
        return [*self.fresh, *self.others]

    @property
    def earliest_ms(self) -> int:
        """Start of the first row seen, now or before."""
        starts = [row.start_ms for row in self.rows]
        return min(starts if self.note is None else [*starts, self.note.earliest_ms])

    @property
    def newest_ms(self) -> int:
        """Latest start, end or update of a row seen, now or before."""
        moments = [row.last_ms for row in self.rows]
        return max(moments if self.note is None else [*moments, self.note.newest_ms])


@dataclass(slots=True)
class Piece:
    """Fresh rows of a trace that go out together: all of them, unless what the server keeps elsewhere is too much."""

    trace: Trace
    rows: list[Observation] = field(default_factory=list)
    whole: dict[str, Observation] = field(default_factory=dict)  # rows with what the server keeps elsewhere put in

    @property
    def others(self) -> list[Observation]:
        """All other rows of the trace at hand."""
        own = {row.id for row in self.rows}
        return [row for row in self.trace.rows if row.id not in own]


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings say of sending. Times in milliseconds, sizes in bytes."""

    project: str
    routes: Sequence[Route]
    conversion: Conversion
    resend_changed: bool
    max_batch_spans: int
    max_batch_bytes: int
    deepest_ms: int  # the deepest look-back


class Releaser:
    """Sends rows of one source and keeps what is known of their traces."""

    def __init__(
        self,
        source_id: int,
        policy: Policy,
        ledger: Ledger,
        reader: Reader,
        delivery: Delivery,
        report: SourceReport,
        clock: CorrectedClock,
    ) -> None:
        self.source_id = source_id
        self.policy = policy
        self.ledger = ledger
        self.reader = reader
        self.delivery = delivery
        self.report = report
        self.clock = clock
        self.routing = Routing(policy.project, policy.routes, delivery)
        self.taken: Sequence[Window] = ()  # what another run claims: its rows only tell of their trace

    async def introduce(
        self, taken: Mapping[str, Sequence[Observation]], sends: Window, *, again: bool = False
    ) -> list[Trace]:
        """Return the traces with something to send, with all that is known of them.

        Rows that are done, and rows that start outside `sends`, only tell of their trace. Roots that are not at hand
        are looked up, many at a time. `again` sends rows that are done too. Raises as the reader does.
        """
        notes = self.ledger.traces(self.source_id, taken)
        touched: list[tuple[Observation, int, bytes]] = []
        done = {} if again else self.ledger.done_rows(self.source_id, taken)
        traces = []
        for trace_id, rows in taken.items():
            fresh = [row for row in rows if self._is_ours(row, sends) and not self._is_settled(row, done, touched)]
            if fresh:
                keep = {row.id for row in fresh}
                others = [row for row in rows if row.id not in keep]
                traces.append(Trace(trace_id, fresh, others, notes.get(trace_id)))
        self._touch(touched)
        await self._look_up(traces)
        for trace in traces:
            trace.context = self.gathered(trace)
        return [trace for trace in traces if trace.fresh]

    def gathered(self, trace: Trace) -> TraceContext:
        """Return what the rows of a trace say of it; a row that cannot be asked is taken out, and set aside."""
        note = trace.note
        known = None if note is None else TraceContext.from_json(trace.trace_id, note.context)
        try:
            return gather(trace.trace_id, trace.rows, known)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the rows are tried one by one
            _log_fault("gather", trace.trace_id, fault)
        faults = {row.id: found for row in trace.rows if (found := _fault_of(row)) is not None}
        for row in trace.fresh:
            if row.id in faults:
                self._set_aside(row, "it breaks what is gathered of its trace", faults[row.id])
        trace.fresh = [row for row in trace.fresh if row.id not in faults]
        trace.others = [row for row in trace.others if row.id not in faults]
        try:
            return gather(trace.trace_id, trace.rows, known)
        except Exception as fault:  # noqa: BLE001 - together they break it: the rows go without what they say
            _log_fault("gather", trace.trace_id, fault)
            return TraceContext(trace.trace_id)

    def left_to_others(self, taken: Mapping[str, Sequence[Observation]], sends: Window) -> dict[str, list[Observation]]:
        """Return, by trace, the rows in `sends` that are not done and that another run claims; its trace has to wait.

        A row without a trace cannot wait: the other run reads all that it claims.
        """
        if not self.taken:
            return {}
        done = self.ledger.done_rows(self.source_id, taken)
        left: dict[str, list[Observation]] = {}
        for trace_id, rows in taken.items():
            for row in rows:
                claimed = any(stretch.holds(row.start_ms) for stretch in self.taken)
                if (
                    claimed
                    and row.trace_id is not None
                    and sends.holds(row.start_ms)
                    and (trace_id, row.id) not in done
                ):
                    left.setdefault(trace_id, []).append(row)
        return left

    async def send(self, traces: Sequence[Trace], *, parked: bool = False) -> set[str]:
        """Send the fresh rows of traces, and return when each is accepted or set aside, or cannot be delivered now.

        Returns the traces of which something is left undelivered: Kelet does not know their project, or fails at one
        of their spans. `parked` says that the traces stay parked until it is done. Raises as `Delivery.send_all`.
        """
        undelivered = await self._send(traces, parked=parked)
        lost = [trace for trace in traces if trace.trace_id in undelivered and self.routing.is_left_behind(trace.note)]
        if not lost:
            return undelivered
        self.routing.forsake(trace.note for trace in lost)
        done = self.ledger.done_rows(self.source_id, [trace.trace_id for trace in lost])
        for trace in lost:
            trace.others += [row for row in trace.fresh if (trace.trace_id, row.id) in done]
            trace.fresh = [row for row in trace.fresh if (trace.trace_id, row.id) not in done]
        return undelivered - {trace.trace_id for trace in lost} | await self._send(lost, parked=parked)

    async def _send(self, traces: Sequence[Trace], *, parked: bool) -> set[str]:
        if not traces:
            return set()
        before = {trace.trace_id: trace.note for trace in traces}
        for trace in traces:
            trace.note = self.noted(trace, parked=parked, going=True)
        notes = [trace.note for trace in traces if trace.note is not None]
        followed = [note for note in notes if _goes_elsewhere(before[note.trace_id], note)]
        if followed:
            self.ledger.reroute(self.source_id, followed)
        self.ledger.note_traces(self.source_id, notes)
        undelivered: set[str] = set()
        held = 0
        ready: list[Piece] = []
        for trace in traces:
            piece = Piece(trace)
            ready.append(piece)
            for row in trace.fresh:
                whole = await self.reader.whole(row)
                piece.rows.append(row)
                left = tokens_left(whole)
                if left:
                    self.report.notes["media tokens that stay"] += left
                if whole is not row:
                    piece.whole[row.id] = whole
                    held += len(whole.input or "") + len(whole.output or "")
                if held > MAX_HELD_BYTES:
                    undelivered |= await self._deliver(ready)
                    held, piece = 0, Piece(trace)
                    ready = [piece]
        undelivered |= await self._deliver(ready)
        left_out = [row for trace in traces for row in trace.left_out]
        if left_out:
            done = (
                (RowKey(trace_of(row), row.id), row.start_ms, row.updated_ms or 0, fingerprint(row)) for row in left_out
            )
            self.ledger.leave_out(self.source_id, done)
        return undelivered

    async def _deliver(self, pieces: Sequence[Piece]) -> set[str]:
        left = await self.delivery.send_all(
            pack(self._encoded(pieces), self.policy.max_batch_spans, self.policy.max_batch_bytes)
        )
        return {key.trace for key in left}

    def noted(self, trace: Trace, *, parked: bool, check_ms: int = 0, going: bool = False) -> TraceNote:
        """Return what to remember of a trace. Its project is decided when it first goes (`going`), and kept."""
        before = trace.note
        decision = self.routing.decide(before, trace.context, going=going)
        note = TraceNote(
            trace.trace_id,
            parked=parked,
            earliest_ms=trace.earliest_ms,
            newest_ms=trace.newest_ms,
            check_ms=before.check_ms if going and before is not None and before.open_ms is not None else check_ms,
            parked_ms=(before.parked_ms if before is not None else None)
            or (self.ledger.clock.now_ms() if parked else None),
            project=None if decision is None else decision.project,
            context=trace.context.as_json(),
            open_ms=None if before is None else before.open_ms,
            origin=None if decision is None else decision.origin,
        )
        return self.gone(note, trace.rows, was_open=trace.is_open) if going and not parked else note

    def gone(self, note: TraceNote, rows: Sequence[Observation], *, was_open: bool = True) -> TraceNote:
        """Return the note of a trace that waits no longer; `was_open`: its root is looked for if it has not ended."""
        if has_ended(rows, str(note.context.get("rows_are", ""))):
            return replace(released(note), open_ms=None)
        if not was_open and note.open_ms is None:
            return released(note)
        now = self.ledger.clock.now_ms()
        check = note.check_ms if now < note.check_ms else now + OPEN_EVERY_MS
        return replace(released(note), open_ms=note.open_ms or now, check_ms=check)

    def letter_of(self, item: Unreadable) -> DeadLetter:
        """Return the dead letter of a row that cannot be read."""
        return DeadLetter(
            source_id=self.source_id,
            kind="unreadable",
            reason=item.reason,
            made_ms=self.ledger.clock.now_ms(),
            trace_id=item.trace_id if item.row_id is None else source_trace_id(item.trace_id, item.row_id),
            row_id=item.row_id,
            raw=item.raw,
            start_ms=item.start_ms,
            until_ms=item.until_ms,
            next_try_ms=None
            if item.row_id is None and item.start_ms is None
            else self.ledger.clock.now_ms() + FIRST_TRY_MS,
        )

    def set_aside_unreadable(self, items: Iterable[Unreadable]) -> None:
        """Keep rows that cannot be read as dead letters, where they are not yet: no walk of a window will meet them."""
        letters = [self.letter_of(item) for item in items if item.row_id is not None]
        done = self.ledger.done_rows(self.source_id, {letter.trace_id for letter in letters if letter.trace_id})
        self._keep([letter for letter in letters if (letter.trace_id, letter.row_id) not in done])

    def set_aside_nameless(self, items: Iterable[Unreadable]) -> None:
        """Keep what was not served of a walked stretch, its ids unknown: a dead letter for each that has none yet.

        A row and the dead letter that it has are known by their places alone: both hold the start of the row.
        """
        known = sorted(self.ledger.unserved_windows(self.source_id), key=lambda window: window.length)
        new: list[DeadLetter] = []
        for item in items:
            if item.row_id is not None or item.start_ms is None:
                continue
            start, end = item.start_ms, item.start_ms + 1 if item.until_ms is None else item.until_ms
            own = next((window for window in known if window.start < end and start < window.end), None)
            if own is None:
                new.append(self.letter_of(item))
            else:
                known.remove(own)
        self._keep(new)

    def _keep(self, letters: Sequence[DeadLetter]) -> None:
        if letters:
            self.ledger.commit_answer(self.source_id, (), letters)
            self.report.dead_letters += len(letters)

    def _is_ours(self, row: Observation, sends: Window) -> bool:
        return sends.holds(row.start_ms) and not any(stretch.holds(row.start_ms) for stretch in self.taken)

    def _is_settled(
        self, row: Observation, done: Mapping[tuple[str, str], SentRow], touched: list[tuple[Observation, int, bytes]]
    ) -> bool:
        """Whether nothing is left to do for a row: it is done, or cannot even be compared and is set aside."""
        try:
            return self._is_done(row, done, touched)
        except Exception as fault:  # noqa: BLE001 - whatever it is, it concerns this row alone
            sent = done.get((trace_of(row), row.id))
            if sent is None or not sent.set_aside:
                self._set_aside(row, "it breaks its comparison with what was sent", fault)
            return True

    def _read_again(self, row: Observation) -> int | None:
        """Return when a row that is done now is to be read once more, in Unix ms; None where it need not be.

        Until Langfuse's store has merged the versions of a row, the input and output of one may come with the name,
        end and update of the other, and nothing in the listing shows it. v1 keeps them together. (Langfuse 4.16.0.)
        """
        now = self.ledger.clock.now_ms()
        last = now + SECOND_READ_MS
        due = last if row.unsettled else min(last, (row.updated_ms or 0) + SECOND_READ_MS)
        return due if row.api == "v2" and due > now else None

    def _touch(self, rows: Sequence[tuple[Observation, int, bytes]]) -> None:
        """Note of rows that were sent that they stand as they are (update in Unix ms and fingerprint now).

        Those of which that may not be true yet are read once more; one with two versions keeps the update it was sent
        with, so that the newer one still shows.
        """
        settled = [
            (RowKey(trace_of(row), row.id), updated, now_is) for row, updated, now_is in rows if not row.unsettled
        ]
        reads = [
            SecondRead(trace_of(row), row.id, row.start_ms, due)
            for row, _, _ in rows
            if (due := self._read_again(row)) is not None
        ]
        if settled or reads:
            self.ledger.touch(self.source_id, settled, reads)

    def _is_done(
        self, row: Observation, done: Mapping[tuple[str, str], SentRow], touched: list[tuple[Observation, int, bytes]]
    ) -> bool:
        """Whether a row is settled in this state; one written again with nothing new in it is added to `touched`.

        So is one that was read by another generation of the API when it was sent: what changed cannot be told.
        """
        sent = done.get((trace_of(row), row.id))
        if sent is None:
            return False
        updated = row.updated_ms or 0
        stale = row.updated_ms is not None and updated < sent.updated_ms
        now = fingerprint(row)
        adopted = bool(sent.fingerprint) and is_retold(sent.fingerprint, now)
        if stale or adopted or now == sent.fingerprint:
            self.report.rows_unchanged += 1
            newer = self.policy.resend_changed and not stale and updated > sent.updated_ms
            if not sent.set_aside and (adopted or newer):
                touched.append((row, max(updated, sent.updated_ms), now))
            return True
        unread = sent.set_aside and not sent.fingerprint
        half_old = row.api == "v2" and row.updated_ms == sent.updated_ms  # what was sent was no state of the row
        if not (self.policy.resend_changed or unread or half_old):
            self.report.notes["changed rows left as sent"] += 1
            return True
        self.report.spans_changed += 1
        return False

    async def _look_up(self, traces: Sequence[Trace]) -> None:
        """Fetch the roots of traces whose root is neither at hand nor known."""
        rootless = {
            trace.trace_id: trace
            for trace in traces
            if not any(row.is_trace_root for row in trace.rows)
            and any(row.trace_id is not None for row in trace.fresh)
            and not (trace.note is not None and trace.note.context.get("root_seen"))
        }
        await self._fetch_into(rootless, self.reader.roots)
        # A synthetic root alone does not tell whether its trace came over OpenTelemetry, which decides if it is sent.
        lonely = {
            trace.trace_id: trace
            for trace in traces
            if all(row.is_synthetic_root for row in trace.rows)
            and not (trace.note is not None and trace.note.context.get("rows_are"))
        }
        await self._fetch_into(lonely, lambda ids, around: self.reader.traces(ids, around, light=True))

    async def _fetch_into(self, traces: Mapping[str, Trace], read: _Read) -> None:
        if not traces:
            return
        starts = [row.start_ms for trace in traces.values() for row in trace.fresh]
        around = Window(min(starts) - self.policy.deepest_ms, max(starts) + _ROOT_AFTER)
        held = {trace_id: {row.id for row in trace.rows} for trace_id, trace in traces.items()}
        async for page in read(list(traces), around):
            self.report.rows_read += len(page.rows)
            for row in page.rows:
                trace = traces.get(trace_of(row))
                if trace is not None and row.id not in held[trace.trace_id]:
                    held[trace.trace_id].add(row.id)
                    trace.others.append(row)

    def _encoded(self, pieces: Iterable[Piece]) -> Iterator[list[EncodedSpan]]:
        for piece in pieces:
            note = piece.trace.note
            project = (note.project if note is not None else None) or self.policy.project
            spans = self._converted(piece, project)
            if spans:
                self.report.traces_released += not piece.trace.is_out
                piece.trace.is_out = True
                yield spans

    def _converted(self, piece: Piece, project: str) -> list[EncodedSpan]:
        """Convert rows of a trace; a row that breaks the conversion is set aside alone."""
        try:
            return self._convert(piece.rows, piece.others, piece, project)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the rows are tried one by one
            _log_fault("convert", piece.trace.trace_id, fault)
        spans: list[EncodedSpan] = []
        for row in piece.rows:
            try:
                spans += self._convert([row], (), piece, project)
            except Exception as fault:  # noqa: BLE001 - whatever it is, it concerns this row alone
                self._set_aside(row, "it cannot be converted", fault)
        return spans

    def _convert(
        self, rows: Sequence[Observation], others: Sequence[Observation], piece: Piece, project: str
    ) -> list[EncodedSpan]:
        own = {row.id: row for row in rows}
        sent = [piece.whole.get(row.id, row) for row in rows]
        converted = convert(sent, piece.trace.context, project, self.policy.conversion, others)
        encoded: list[EncodedSpan] = []
        for row, span in converted.spans:
            try:  # what is remembered is the row as it is read, not as it was made whole: so it is known again
                encoded.append(encode(own[row.id], span, project, self._read_again(own[row.id])))
            except Exception as fault:  # noqa: BLE001 - whatever it is, it concerns this row alone
                self._set_aside(own[row.id], "it cannot be serialised", fault)
        for row, broken in converted.failed:
            self._set_aside(own[row.id], "it cannot be converted", broken)
        piece.trace.left_out += converted.dropped
        self.report.notes.update(converted.notes)
        return encoded

    def _set_aside(self, row: Observation, why: str, fault: Exception) -> None:
        _log_fault("dead-letter", trace_of(row), fault)
        letter = DeadLetter(
            source_id=self.source_id,
            kind="unreadable",
            reason=f"{why}: {type(fault).__name__}: {fault}",
            made_ms=self.ledger.clock.now_ms(),
            trace_id=trace_of(row),
            row_id=row.id,
            start_ms=row.start_ms,
            fingerprint=_fingerprint_of(row),
            next_try_ms=self.ledger.clock.now_ms() + FIRST_TRY_MS,
        )
        new = self.ledger.count_new([letter])
        self.ledger.commit_answer(self.source_id, (), [letter])
        self.report.dead_letters += new


def _goes_elsewhere(before: TraceNote | None, now: TraceNote) -> bool:
    """Whether a trace that had a project has another one."""
    return before is not None and before.project is not None and before.project != now.project


def released(note: TraceNote) -> TraceNote:
    """Return the note of a trace that waits no longer."""
    return replace(note, parked=False, parked_ms=None, check_ms=0)


def _fault_of(row: Observation) -> Exception | None:
    """Return what goes wrong when a row alone is asked of its trace."""
    try:
        gather(trace_of(row), [row])
    except Exception as fault:  # noqa: BLE001 - it is handed back
        return fault
    return None


def _fingerprint_of(row: Observation) -> bytes:
    """Return a row's fingerprint, or none of a row that has none, which counts as never read."""
    try:
        return fingerprint(row)
    except Exception as fault:  # noqa: BLE001 - the row is set aside for another fault, or for this one, already
        _log_fault("dead-letter", trace_of(row), fault)
        return b""


def _log_fault(action: str, trace_id: str, fault: Exception) -> None:
    log.warning("trace %s: %s: %s", trace_id, type(fault).__name__, fault, extra={"action": action})
