"""One interval: its observations are read, and sent or left pending; only then it is completed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from sync_worker.intervals import Interval
from sync_worker.langfuse.reader import Page
from sync_worker.ledger import DeadLetter, TraceNote
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.notes import pending_claimed, take_pending
from sync_worker.pipeline.readiness import Readiness, awaits_merge, readiness
from sync_worker.pipeline.trace import Trace
from sync_worker.pipeline.work import Choice, Group, Work
from sync_worker.records import Observation
from sync_worker.runs.arrival_delay import ArrivalDelay
from sync_worker.runs.progress import Progress
from sync_worker.selection import unread_environments

#: Of an interval that began no longer ago than this, observations were seen as soon as possible; in milliseconds.
_FRESH_MS = 600_000


class TimedWork(Work):
    """Work whose traces are pending until they are ready; those of a backfill are sent at once."""

    def __init__(self, pipeline: Pipeline, role: str, interval: Interval) -> None:
        self._pipeline = pipeline
        self._session = pipeline.session
        self._role = role
        self._interval = interval
        self._now = 0  # Unix ms, when the traces of a group were chosen

    @property
    def sends(self) -> Interval:
        """The interval."""
        return self._interval

    def choose(self, traces: Sequence[Trace], taken: Mapping[str, Sequence[Observation]]) -> Choice:
        """Return which traces are ready."""
        del taken
        if self._role == BACKFILL:
            return Choice(list(traces))
        session = self._session
        now = self._now = session.clock.certain_ms()
        choice = Choice([])
        for trace in traces:
            note = self._pending_note(trace, now)
            if note is not None:
                choice.notes.append(note)
                continue
            trace.is_open = trace.note is None and any(one.trace_id is not None for one in trace.fresh)
            pending = take_pending(trace, now, session.readiness_limits)
            if pending:
                choice.pending[trace.trace_id] = pending
            choice.ready.append(trace)
        return choice

    def _pending_note(self, trace: Trace, now: int) -> TraceNote | None:
        """Return the note of a trace that is pending, or None if it is ready."""
        note, session = trace.note, self._session
        if trace.is_lone or (note is not None and not note.pending):
            return None  # without a trace id, or the trace was sent before: ready at once
        state = readiness(
            trace.observations, trace.earliest_ms, trace.newest_ms, now, session.readiness_limits,
            trace.context.id_kind, guess_ms=session.clock.now_ms(),
        )  # fmt: skip
        since = None if note is None else note.pending_ms
        merging = any(one.unsettled and awaits_merge(one, now, session.readiness_limits, since) for one in trace.fresh)
        if state is Readiness.PENDING:  # not ready before its quiet period has passed; then its root may be there
            quiet_from = min(now, trace.newest_ms)
            return self._pipeline.notes.of_pending(trace, quiet_from + session.readiness_limits.quiet_period)
        if state is Readiness.READY and merging:
            return self._pipeline.notes.of_pending(trace, now + session.readiness_limits.quiet_period)
        if note is not None:
            return self._pipeline.notes.of_pending(trace)  # fetched completely, and sent, in this cycle
        return None

    def _notes(self, choice: Choice, left: set[str]) -> tuple[list[TraceNote], list[Interval]]:
        """Return the notes of traces, and the intervals of undelivered observations that no note represents.

        What has no trace cannot be fetched by it and has no note, so its interval stays open.
        """
        undelivered = [trace for trace in choice.ready if trace.trace_id in left]
        if self._role == BACKFILL:
            return [], _moments(undelivered)
        now, notes = self._now, self._pipeline.notes
        kept = [*choice.notes, *notes.of_each_partly_sent(choice, now)]
        lone = [trace for trace in undelivered if any(one.trace_id is None for one in trace.fresh)]
        kept += [
            notes.of_undelivered(trace, now)
            for trace in undelivered
            if all(one.trace_id is not None for one in trace.fresh)
        ]
        return kept, _moments(lone)


class IntervalWork(TimedWork):
    """Reads an interval for the live sync or for a backfill.

    Nothing counts as synced unless all of it is committed: after an error, the interval is read again and what was sent
    is skipped. Pages come newest first, so a trace whose root was read is complete and is sent during the walk. At the
    memory limit, or after many observations, the interval after the oldest one is completed: one with millions of
    observations is not restarted. With `hands_back` it ends there, if more than half of the interval is left.
    """

    streams = True
    completes = True

    def __init__(
        self,
        pipeline: Pipeline,
        role: str,
        interval: Interval,
        progress: Progress,
        delay: ArrivalDelay | None = None,
        *,
        hands_back: bool,
    ) -> None:
        super().__init__(pipeline, role, interval)
        self._hands_back = hands_back
        self.until_completed = {}
        self._unread: tuple[str, ...] = ()  # environments that are not asked for
        self.flush_after = self._session.limits.interval_observations
        self.redecides = role == BACKFILL
        self.count = 0
        self._progress = progress
        self.done_to = interval.end  # from here on, Unix ms, the interval was handled
        self._delay = delay
        self._kept: list[TraceNote] = []
        self._letters: list[DeadLetter] = []
        self._undelivered: list[Interval] = []

    def walk(self) -> AsyncIterator[Page]:
        """Read all observations of the interval."""
        session = self._session
        unread = unread_environments(session.policy.rules, has_lookback=self._role == LIVE)
        if unread and session.reader.leaves_out_environments:
            session.report.not_read, self._unread = list(unread), unread
            return session.reader.interval(self._interval, without_environments=unread)
        return session.reader.interval(self._interval)

    def take(self, page: Page) -> Sequence[Observation]:
        """Take the observations that start in the interval."""
        self.count += len(page.observations)
        oldest = min((one.start_ms for one in page.observations), default=self._interval.end)
        self._progress.read(self._interval, oldest, len(page.observations))
        found = [one for one in page.observations if self._interval.contains(one.start_ms)]
        self._count_delays(found)
        self._letters += [self._pipeline.dead_letters.of_unreadable(item) for item in page.unreadable]
        return found

    def commit(self, group: Group, taken: Mapping[str, Sequence[Observation]], choice: Choice, left: set[str]) -> None:
        """Commit the notes once all that was read is sent; then that interval is completed.

        It is not if something is undelivered that no pending trace represents.
        """
        del taken
        kept, undelivered = self._notes(choice, left)
        self._kept += kept
        self._undelivered += undelivered
        if not group.is_flush:
            return
        session = self._session
        done = Interval(min(group.down_to, self.done_to), self.done_to)
        is_open = any(part.end > done.start for part in self._undelivered)
        synced = Interval(done.start, done.start) if is_open else self._certain(done)
        new = session.ledger.count_new(self._letters) if self._letters else 0
        if self._unread and synced.length:  # what a run that broke has sent of these, under other rules, is not read
            ledger = session.ledger
            sent = ledger.sent_within(session.source_id, synced, self._unread)
            ledger.note_exceptional(session.source_id, sent)
        regular = [trace_id for trace_id, start in self.until_completed.items() if synced.contains(start)]
        session.ledger.commit_interval(
            session.source_id, self._role, synced, self._kept, self._letters, rules=session.digest, regular=regular
        )
        session.report.dead_letters += new
        self.done_to = done.start
        self.is_done = self._hands_back and self.done_to - self._interval.start > self._interval.end - self.done_to
        session.report.intervals += group.is_last or self.is_done
        # What is undelivered of the millisecond at the split stays open with the rest.
        self._undelivered = [part for part in self._undelivered if part.start < self.done_to]
        self._kept, self._letters = [], []

    def _certain(self, done: Interval) -> Interval:
        """Return the part of an interval that has certainly passed: the rest may get more observations.

        Otherwise a clock that is ahead would complete future time. The result may be empty.
        """
        session = self._session
        passed = session.clock.certain_ms() - (session.readiness_limits.quiet_period if self._role == LIVE else 0)
        return Interval(done.start, max(done.start, min(done.end, passed)))

    def _count_delays(self, observations: Iterable[Observation]) -> None:
        """Count arrival delays; an interval that was read late shows none."""
        now = self._session.clock.now_ms()
        if self._delay is None or now - self._interval.start > _FRESH_MS:
            return
        for observation in observations:
            if observation.end_ms is not None:
                self._delay.add(max(0, now - observation.end_ms) / 1000)


class LateWork(TimedWork):
    """Sends late-arriving observations, or leaves them pending, as those that another run claims."""

    def __init__(self, pipeline: Pipeline, role: str, interval: Interval, walk: AsyncIterator[Page]) -> None:
        super().__init__(pipeline, role, interval)
        self._walk = walk

    def walk(self) -> AsyncIterator[Page]:
        """Read the walk that it was made with."""
        return self._walk

    def take(self, page: Page) -> Sequence[Observation]:
        """Take all of a page."""
        return page.observations

    def commit(self, group: Group, taken: Mapping[str, Sequence[Observation]], choice: Choice, left: set[str]) -> None:
        """Commit the notes; intervals with undelivered observations are reopened."""
        del group
        session = self._session
        kept, undelivered = self._notes(choice, left)
        notes = {note.trace_id: note for note in kept}
        now = session.clock.certain_ms()
        others = session.claimed_by_others(taken, self._interval)
        known = session.ledger.traces(session.source_id, others) | notes
        for trace_id, observations in others.items():
            note = known.get(trace_id) or TraceNote(trace_id, pending=True, earliest_ms=now, newest_ms=0)
            notes[trace_id] = pending_claimed(note, observations, now)
        session.ledger.store_traces(session.source_id, notes.values())
        for interval in undelivered:
            session.ledger.reopen(session.source_id, self._role, interval)


def _moments(traces: Iterable[Trace]) -> list[Interval]:
    """Return an interval of one millisecond for each fresh observation of these traces."""
    return [Interval(one.start_ms, one.start_ms + 1) for trace in traces for one in trace.fresh]
