"""Pending traces: checked many at a time, fetched completely when they are ready."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace

from sync_worker.intervals import Interval
from sync_worker.langfuse.reader import Page
from sync_worker.ledger import TraceNote
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.lanes import Lanes
from sync_worker.pipeline.notes import (
    LONGEST_RECHECK_MS,
    OPEN_FOR_MS,
    no_longer_pending,
    pending_claimed,
    take_each_pending,
)
from sync_worker.pipeline.readiness import Readiness, awaits_merge, readiness
from sync_worker.pipeline.trace import Trace
from sync_worker.pipeline.work import Choice, Group, Work
from sync_worker.records import Observation
from sync_worker.spans.context import trace_of

#: Traces tried of a project that Kelet did not know, before the others are fetched.
_PROBES_A_LANE = 3


class PendingTraces:
    """Checks and sends the pending traces of one source.

    The quiet period and requests use the best guess of the time (`guess`); all else the certain time (`now`).
    """

    def __init__(self, pipeline: Pipeline, sync_start_ms: int) -> None:
        self._pipeline = pipeline
        self._session = pipeline.session
        self._sync_start = sync_start_ms
        self._checked_ms: int | None = None  # the certain time of the last check, Unix ms

    async def send_ready(self, lanes: Lanes) -> None:
        """Send each pending trace that is ready; check each that is due once, however often this is called.

        A trace that is checked is due again after the certain time of that check: a later call takes what was due by
        then and was made so since.
        """
        session = self._session
        guess = session.clock.now_ms()
        now = session.clock.certain_ms()
        limits = session.readiness_limits
        never = max(now, guess) + max(limits.quiet_period, limits.max_open, LONGEST_RECHECK_MS)
        latest, last = max(now, guess) if self._checked_ms is None else self._checked_ms, (-1, "")
        self._checked_ms = now if self._checked_ms is None else min(now, self._checked_ms)
        find = session.ledger.pending_due
        for project in lanes.to_probe():
            due = find(session.source_id, latest, never, _PROBES_A_LANE, project=project)
            await self._check(due, now, guess)
            lanes.mark_tried(project)
        while due := find(
            session.source_id, latest, never, session.limits.pending_traces, last, without=lanes.closed()
        ):
            last = due[-1].check_ms, due[-1].trace_id
            await self._check(due, now, guess)
        lanes.store()

    async def send(self, notes: Sequence[TraceNote], now: int, guess: int) -> None:
        """Fetch complete traces and send what is new of them. Raises as reader and delivery do."""
        if notes:
            await self._pipeline.run(_FetchTraces(self._pipeline, notes, self._sync_start, now, guess))

    async def roots(self, notes: Sequence[TraceNote], now: int, guess: int) -> dict[str, list[Observation]]:
        """Return the roots of traces, by trace; one metadata-only request looks up many."""
        found: dict[str, list[Observation]] = {}
        if notes:
            around = _around(notes, self._session.policy.deepest_ms, max(now, guess))
            async for page in self._session.reader.roots([note.trace_id for note in notes], around):
                self._session.report.observations_read += len(page.observations)
                for observation in page.observations:
                    found.setdefault(trace_of(observation), []).append(observation)
        return found

    async def _check(self, due: Sequence[TraceNote], now: int, guess: int) -> None:
        """Send those that are ready."""
        session = self._session
        session.clock.check()
        overdue = [note for note in due if now - note.earliest_ms >= session.readiness_limits.max_open]
        younger = [note for note in due if now - note.earliest_ms < session.readiness_limits.max_open]
        quiet = [note for note in younger if guess - note.newest_ms >= session.readiness_limits.quiet_period]
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


class _FetchTraces(Work):
    """Reads complete traces. One that is gone at Langfuse is closed; one that is not there yet stays pending."""

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
        """The interval of the live sync."""
        return self._sends

    def walk(self) -> AsyncIterator[Page]:
        """Read the traces."""
        around = _around(self._notes.values(), self._session.policy.deepest_ms, max(self._now, self._guess))
        return self._session.reader.traces(list(self._notes), around)

    def take(self, page: Page) -> Sequence[Observation]:
        """Take the observations of these traces."""
        self._pipeline.dead_letters.add_unreadable(page.unreadable)
        return [observation for observation in page.observations if trace_of(observation) in self._notes]

    def select(self, group: Group) -> dict[str, list[Observation]]:
        """Drop the traces that, read completely, are not ready yet."""
        if self._after or not group.is_last:  # flushed before all was read: no trace is complete
            return group.traces
        ready: dict[str, list[Observation]] = {}
        for trace_id, observations in group.traces.items():
            note = self._notes[trace_id]
            state = _readiness(self._pipeline, observations, note, self._now, self._guess)
            merging = any(
                one.unsettled and awaits_merge(one, self._now, self._session.readiness_limits, note.pending_ms)
                for one in observations
            )
            if state is Readiness.PENDING or (state is Readiness.READY and merging):
                unread = self._pipeline.preparer.gather_context(Trace(trace_id, [], observations, note))
                context = self._pipeline.context_of(unread)
                newest = max(note.newest_ms, *(observation.last_ms for observation in observations))
                self._after[trace_id] = replace(
                    note, newest_ms=newest, check_ms=self._now + 1, context=self._session.as_stored(context)
                )
            else:
                ready[trace_id] = observations
        return ready

    def choose(self, traces: Sequence[Trace], taken: Mapping[str, Sequence[Observation]]) -> Choice:
        """Send all but observations that are still pending alone."""
        for trace in traces:
            trace.is_open = True
        pending = take_each_pending(traces, self._now, self._session.readiness_limits)
        return Choice(list(traces), pending=pending, stay_pending=taken.keys())

    def commit(self, group: Group, taken: Mapping[str, Sequence[Observation]], choice: Choice, left: set[str]) -> None:
        """Commit the notes once all traces are read. One with observations claimed by another run stays pending."""
        session, notes = self._session, self._pipeline.notes
        after = {
            trace_id: notes.of_sent(self._notes[trace_id], observations) for trace_id, observations in taken.items()
        }
        for trace in choice.ready:
            if trace.trace_id in left:
                after[trace.trace_id] = notes.of_undelivered(trace, self._now)
            elif trace.trace_id in choice.pending:
                after[trace.trace_id] = notes.of_partly_sent(trace, choice.pending[trace.trace_id], self._now)
            elif trace.note is not None:
                after[trace.trace_id] = notes.of_sent(trace.note, trace.observations)
        for trace_id, observations in session.claimed_by_others(taken, self._sends).items():
            after[trace_id] = pending_claimed(after[trace_id], observations, self._now)
        self._after |= after
        if group.is_last:
            self._after |= self._notes_of_missing()
            session.ledger.store_traces(session.source_id, self._after.values())

    def _notes_of_missing(self) -> dict[str, TraceNote]:
        after: dict[str, TraceNote] = {}
        for trace_id, note in self._notes.items():
            if trace_id in self._after:
                continue
            gone = self._now - note.earliest_ms >= self._session.readiness_limits.max_open
            after[trace_id] = (
                replace(no_longer_pending(note), open_ms=None) if gone else replace(note, check_ms=self._now + 1)
            )
            self._session.report.traces_vanished += gone
        return after


def _readiness(
    pipeline: Pipeline, observations: Sequence[Observation], note: TraceNote, now: int, guess: int
) -> Readiness:
    newest = max(note.newest_ms, *(observation.last_ms for observation in observations))
    return readiness(
        observations, note.earliest_ms, newest, now, pipeline.session.readiness_limits, note.id_kind, guess_ms=guess
    )


def _around(notes: Iterable[TraceNote], deepest_ms: int, now: int) -> Interval:
    """Return the interval in which these traces may start: a root may start long before what was seen of its trace."""
    starts = (note.earliest_ms - (0 if note.open_ms is None else OPEN_FOR_MS) for note in notes)
    return Interval(min(starts) - deepest_ms, now + 1)
