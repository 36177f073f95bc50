"""Pending traces: looked at many at a time, fetched whole when they are ready or have waited long enough."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace

from sync_worker.intervals import Interval
from sync_worker.langfuse.reader import Page
from sync_worker.ledger import TraceNote
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.job import Choice, Group, Job
from sync_worker.pipeline.lanes import Lanes
from sync_worker.pipeline.notes import OPEN_FOR_MS, hold_back, left_to_others, no_longer_pending
from sync_worker.pipeline.readiness import Readiness, readiness, waits_for_merge
from sync_worker.pipeline.trace import Trace
from sync_worker.records import Observation
from sync_worker.spans.context import trace_of

#: Of a project that Kelet did not know lately, so many are tried before the others are fetched.
_TRIED_OF_A_LANE = 3


class PendingTraces:
    """Looks after the pending traces of one source.

    Whether a trace is quiet, and what to ask for, go by what time it may be; all else by what time it is for certain.
    """

    def __init__(self, pipeline: Pipeline, sync_start_ms: int) -> None:
        self._pipeline = pipeline
        self._session = pipeline.session
        self._sync_start = sync_start_ms

    async def send_ready(self, lanes: Lanes) -> None:
        """Send each pending trace that is ready now; look at each that is due once."""
        session = self._session
        guess = session.clock.now_ms()
        now = session.clock.certain_ms()
        never = max(now, guess) + max(session.waits.quiet, session.waits.max_open)
        latest, last = max(now, guess), (-1, "")
        find = session.ledger.pending_due
        for project in lanes.to_try():
            due = find(session.source_id, latest, never, _TRIED_OF_A_LANE, project=project)
            await self._look_at(due, now, guess)
            lanes.tried(project)
        while due := find(
            session.source_id, latest, never, session.limits.pending_traces, last, without=lanes.closed()
        ):
            last = due[-1].check_ms, due[-1].trace_id
            await self._look_at(due, now, guess)
        lanes.store()

    async def send(self, notes: Sequence[TraceNote], now: int, guess: int) -> None:
        """Fetch traces whole and send what is new of them. Raises as reader and delivery do."""
        if notes:
            await self._pipeline.run(_Whole(self._pipeline, notes, self._sync_start, now, guess))

    async def roots(self, notes: Sequence[TraceNote], now: int, guess: int) -> dict[str, list[Observation]]:
        """Return the roots of traces, by trace; one light request looks up many."""
        found: dict[str, list[Observation]] = {}
        if notes:
            around = _around(notes, self._session.policy.deepest_ms, max(now, guess))
            async for page in self._session.reader.roots([note.trace_id for note in notes], around):
                self._session.report.observations_read += len(page.observations)
                for observation in page.observations:
                    found.setdefault(trace_of(observation), []).append(observation)
        return found

    async def _look_at(self, due: Sequence[TraceNote], now: int, guess: int) -> None:
        """Send each of these that is ready now."""
        session = self._session
        session.clock.check()
        overdue = [note for note in due if now - note.earliest_ms >= session.waits.max_open]
        younger = [note for note in due if now - note.earliest_ms < session.waits.max_open]
        quiet = [note for note in younger if guess - note.newest_ms >= session.waits.quiet]
        roots = await self.roots(quiet, now, guess)
        ready = [
            note
            for note in quiet
            if note.trace_id in roots
            and _readiness(self._pipeline, roots[note.trace_id], note, now, guess) is not Readiness.PENDING
        ]
        await self.send([*overdue, *ready], now, guess)
        sent = {note.trace_id for note in (*overdue, *ready)}
        later = [replace(note, check_ms=now + 1) for note in younger if note.trace_id not in sent]
        session.ledger.store_traces(session.source_id, later)


class _Whole(Job):
    """Reads traces whole. One that is gone at Langfuse is closed; one that is merely not there yet waits on."""

    def __init__(
        self, pipeline: Pipeline, notes: Sequence[TraceNote], sync_start_ms: int, now: int, guess: int
    ) -> None:
        self._pipeline = pipeline
        self._session = pipeline.session
        self._notes = {note.trace_id: note for note in notes}
        self._sends = Interval(sync_start_ms, max(now, guess) + 1)
        self._now = now
        self._guess = guess
        self._after: dict[str, TraceNote] = {}

    @property
    def sends(self) -> Interval:
        """All that the live sync sends."""
        return self._sends

    def walk(self) -> AsyncIterator[Page]:
        """Read the traces."""
        around = _around(self._notes.values(), self._session.policy.deepest_ms, max(self._now, self._guess))
        return self._session.reader.traces(list(self._notes), around)

    def take(self, page: Page) -> Sequence[Observation]:
        """Take what is of these traces."""
        self._pipeline.dead_letters.add_unreadable(page.unreadable)
        return [observation for observation in page.observations if trace_of(observation) in self._notes]

    def select(self, group: Group) -> dict[str, list[Observation]]:
        """Take out the traces that turn out, seen whole, not to be ready yet."""
        if self._after or not group.is_last:  # some is sent before all was read: nothing is seen whole
            return group.traces
        ready: dict[str, list[Observation]] = {}
        for trace_id, observations in group.traces.items():
            note = self._notes[trace_id]
            said = _readiness(self._pipeline, observations, note, self._now, self._guess)
            merging = any(waits_for_merge(one, self._now, self._session.waits, note.pending_ms) for one in observations)
            if said is Readiness.PENDING or (said is Readiness.READY and merging):
                context = self._pipeline.preparer.gather_context(Trace(trace_id, [], observations, note))
                newest = max(note.newest_ms, *(observation.last_ms for observation in observations))
                self._after[trace_id] = replace(
                    note, newest_ms=newest, check_ms=self._now + 1, context=context.as_json()
                )
            else:
                ready[trace_id] = observations
        return ready

    def choose(self, traces: Sequence[Trace], taken: Mapping[str, Sequence[Observation]]) -> Choice:
        """Send all but what still waits alone."""
        choice = Choice(list(traces), stay_pending=taken.keys())
        for trace in traces:
            trace.is_open = True
            held = hold_back(trace, self._now, self._session.waits)
            if held:
                choice.waiting[trace.trace_id] = held
        return choice

    def commit(self, group: Group, taken: Mapping[str, Sequence[Observation]], choice: Choice, left: set[str]) -> None:
        """Keep what became of the traces once all are read. One of which another run has something to send waits."""
        session, notes = self._session, self._pipeline.notes
        after = {
            trace_id: notes.of_sent(self._notes[trace_id], observations) for trace_id, observations in taken.items()
        }
        for trace in choice.ready:
            if trace.trace_id in left:
                after[trace.trace_id] = notes.of_undelivered(trace, self._now)
            elif trace.trace_id in choice.waiting:
                after[trace.trace_id] = notes.of_still_waiting(trace, choice.waiting[trace.trace_id], self._now)
            elif trace.note is not None:
                after[trace.trace_id] = notes.of_sent(trace.note, trace.observations)
        for trace_id, observations in session.left_to_others(taken, self._sends).items():
            after[trace_id] = left_to_others(after[trace_id], observations, self._now)
        self._after |= after
        if group.is_last:
            self._after |= self._vanished()
            session.ledger.store_traces(session.source_id, self._after.values())

    def _vanished(self) -> dict[str, TraceNote]:
        after: dict[str, TraceNote] = {}
        for trace_id, note in self._notes.items():
            if trace_id in self._after:
                continue
            gone = self._now - note.earliest_ms >= self._session.waits.max_open
            after[trace_id] = (
                replace(no_longer_pending(note), open_ms=None) if gone else replace(note, check_ms=self._now + 1)
            )
            self._session.report.traces_vanished += gone
        return after


def _readiness(
    pipeline: Pipeline, observations: Sequence[Observation], note: TraceNote, now: int, guess: int
) -> Readiness:
    newest = max(note.newest_ms, *(observation.last_ms for observation in observations))
    kind = str(note.context.get("rows_are", ""))
    return readiness(observations, note.earliest_ms, newest, now, pipeline.session.waits, kind, guess_ms=guess)


def _around(notes: Iterable[TraceNote], deepest_ms: int, now: int) -> Interval:
    """Return where these traces may start: a root may start long before what was seen of its trace."""
    starts = (note.earliest_ms - (0 if note.open_ms is None else OPEN_FOR_MS) for note in notes)
    return Interval(min(starts) - deepest_ms, now + 1)
