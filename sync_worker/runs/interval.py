"""One interval: what starts in it is read, sent or left pending, and only then is the interval completed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from sync_worker.intervals import Interval
from sync_worker.langfuse.reader import Page
from sync_worker.ledger import DeadLetter, TraceNote
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.job import Choice, Group, Job
from sync_worker.pipeline.notes import hold_back, left_to_others
from sync_worker.pipeline.readiness import Readiness, readiness, waits_for_merge
from sync_worker.pipeline.trace import Trace
from sync_worker.records import Observation
from sync_worker.runs.arrival_delay import ArrivalDelay

#: Observations of an interval that begins no longer ago than this were seen about as soon as they could be.
_FRESH_MS = 600_000


class TimedJob(Job):
    """A job whose traces go when they are ready, and are pending until then; those of a backfill go at once."""

    def __init__(self, pipeline: Pipeline, role: str, interval: Interval) -> None:
        self._pipeline = pipeline
        self._session = pipeline.session
        self._role = role
        self._interval = interval

    @property
    def sends(self) -> Interval:
        """The interval."""
        return self._interval

    def choose(self, traces: Sequence[Trace], taken: Mapping[str, Sequence[Observation]]) -> Choice:
        """Say which traces go now."""
        del taken
        if self._role == BACKFILL:
            return Choice(list(traces))
        session = self._session
        now = session.clock.certain_ms()
        choice = Choice([])
        for trace in traces:
            note = self._pending_note(trace, now)
            if note is not None:
                choice.notes.append(note)
                continue
            trace.is_open = trace.note is None and any(one.trace_id is not None for one in trace.fresh)
            held = hold_back(trace, now, session.waits)
            if held:
                choice.waiting[trace.trace_id] = held
            choice.ready.append(trace)
        return choice

    def _pending_note(self, trace: Trace, now: int) -> TraceNote | None:
        """Return the note of a trace that has to wait, or None when it goes now."""
        note, session = trace.note, self._session
        if trace.is_lone or (note is not None and not note.pending):
            return None  # nothing waits for a lone one; of a trace that went before, the rest goes as it comes
        said = readiness(
            trace.observations, trace.earliest_ms, trace.newest_ms, now, session.waits, trace.context.rows_are,
            guess_ms=session.clock.now_ms(),
        )  # fmt: skip
        since = None if note is None else note.pending_ms
        merging = any(waits_for_merge(one, now, session.waits, since) for one in trace.fresh)
        if said is Readiness.PENDING or (said is Readiness.READY and merging):
            return self._pipeline.notes.of_pending(trace, now + session.waits.quiet)
        if note is not None:
            return self._pipeline.notes.of_pending(trace)  # fetched whole, and sent, at the end of this cycle
        return None

    def _notes(self, choice: Choice, left: set[str]) -> tuple[list[TraceNote], list[Interval]]:
        """Return what to keep of traces that were chosen, and where something is undelivered that no note stands for.

        What has no trace cannot be fetched by it: no note can stand for it, so its time stays open.
        """
        undelivered = [trace for trace in choice.ready if trace.trace_id in left]
        if self._role == BACKFILL:
            return [], _moments(undelivered)
        now, notes = self._session.clock.certain_ms(), self._pipeline.notes
        kept = list(choice.notes)
        kept += [
            notes.of_still_waiting(trace, choice.waiting[trace.trace_id], now)
            for trace in choice.ready
            if trace.trace_id in choice.waiting
        ]
        lone = [trace for trace in undelivered if any(one.trace_id is None for one in trace.fresh)]
        kept += [
            notes.of_undelivered(trace, now)
            for trace in undelivered
            if all(one.trace_id is not None for one in trace.fresh)
        ]
        return kept, _moments(lone)


class IntervalJob(TimedJob):
    """Reads an interval for the live sync or for a backfill.

    Nothing counts as synced unless all of it is committed: an error in the middle repeats the reading, and skips what
    was sent. Pages come newest first, so a trace whose root was read is complete and goes while the walk goes on. When
    too much is held, or many observations were read, the time after the oldest one is completed: an interval of
    millions is not begun again.
    """

    streams = True

    def __init__(self, pipeline: Pipeline, role: str, interval: Interval, delay: ArrivalDelay | None = None) -> None:
        super().__init__(pipeline, role, interval)
        self.flush_after = self._session.limits.interval_observations
        self.count = 0
        self._delay = delay
        self._upper = interval.end
        self._kept: list[TraceNote] = []
        self._letters: list[DeadLetter] = []
        self._undelivered: list[Interval] = []

    def walk(self) -> AsyncIterator[Page]:
        """Read all that starts in the interval."""
        return self._session.reader.interval(self._interval)

    def take(self, page: Page) -> Sequence[Observation]:
        """Take what starts in the interval."""
        self.count += len(page.observations)
        found = [one for one in page.observations if self._interval.holds(one.start_ms)]
        self._count_delays(found)
        self._letters += [self._pipeline.dead_letters.of_unreadable(item) for item in page.unreadable]
        return found

    def commit(self, group: Group, taken: Mapping[str, Sequence[Observation]], choice: Choice, left: set[str]) -> None:
        """Keep what became of the traces once all that was read is sent; then that time is completed.

        Where something was left undelivered that no pending trace stands for, it is not.
        """
        del taken
        kept, undelivered = self._notes(choice, left)
        self._kept += kept
        self._undelivered += undelivered
        if not group.is_flush:
            return
        session = self._session
        done = Interval(min(group.down_to, self._upper), self._upper)
        is_open = any(part.end > done.start for part in self._undelivered)
        synced = Interval(done.start, done.start) if is_open else self._certain(done)
        new = session.ledger.count_new(self._letters)
        session.ledger.commit_interval(session.source_id, self._role, synced, self._kept, self._letters)
        session.report.dead_letters += new
        session.report.intervals += group.is_last
        self._upper = done.start
        # What is undelivered of the millisecond that was cut stays open with the rest of it.
        self._undelivered = [part for part in self._undelivered if part.start < self._upper]
        self._kept, self._letters = [], []

    def _certain(self, done: Interval) -> Interval:
        """Return what of an interval has passed for certain: observations of the rest are yet to come.

        A clock that runs ahead would else complete time in which some then turn up. An empty interval is none.
        """
        session = self._session
        passed = session.clock.certain_ms() - (session.waits.quiet if self._role == LIVE else 0)
        return Interval(done.start, max(done.start, min(done.end, passed)))

    def _count_delays(self, observations: Iterable[Observation]) -> None:
        """Count how soon after their end observations were seen; an interval that waited tells nothing of that."""
        now = self._session.clock.now_ms()
        if self._delay is None or now - self._interval.start > _FRESH_MS:
            return
        for observation in observations:
            if observation.end_ms is not None:
                self._delay.add(max(0, now - observation.end_ms) / 1000)


class LateJob(TimedJob):
    """Sends what turned up in time that is synced, or leaves it pending, as what another run claims."""

    def __init__(self, pipeline: Pipeline, role: str, interval: Interval, walk: AsyncIterator[Page]) -> None:
        super().__init__(pipeline, role, interval)
        self._walk = walk

    def walk(self) -> AsyncIterator[Page]:
        """Read what it was made with."""
        return self._walk

    def take(self, page: Page) -> Sequence[Observation]:
        """Take all of a page."""
        return page.observations

    def commit(self, group: Group, taken: Mapping[str, Sequence[Observation]], choice: Choice, left: set[str]) -> None:
        """Keep what became of the traces; time of which something is undelivered is synced no longer."""
        del group
        session = self._session
        kept, undelivered = self._notes(choice, left)
        notes = {note.trace_id: note for note in kept}
        now = session.clock.certain_ms()
        others = session.left_to_others(taken, self._interval)
        known = session.ledger.traces(session.source_id, others) | notes
        for trace_id, observations in others.items():
            note = known.get(trace_id) or TraceNote(trace_id, pending=True, earliest_ms=now, newest_ms=0)
            notes[trace_id] = left_to_others(note, observations, now)
        session.ledger.store_traces(session.source_id, notes.values())
        for interval in undelivered:
            session.ledger.reopen(session.source_id, self._role, interval)


def _moments(traces: Iterable[Trace]) -> list[Interval]:
    """Return where what these traces were to send begins, each for itself."""
    return [Interval(one.start_ms, one.start_ms + 1) for trace in traces for one in trace.fresh]
