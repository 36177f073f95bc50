"""Sends traces by id, now: whatever is completed, pending, or before the sync start."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sync_worker.errors import StateError
from sync_worker.intervals import Interval, merged
from sync_worker.langfuse.reader import Page
from sync_worker.ledger.hourly_counts import HOUR_MS
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.ledger.state_keys import FORGOTTEN_BEFORE
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.notes import take_each_pending
from sync_worker.pipeline.trace import Trace
from sync_worker.pipeline.work import Choice, Group, Work
from sync_worker.records import Observation
from sync_worker.runs.opened import OpenSource
from sync_worker.spans.context import trace_of


@dataclass(slots=True)
class SendResult:
    """What became of a trace: numbers of observations."""

    source: str
    trace_id: str
    in_langfuse: int = 0
    sent: int = 0
    sent_before: int = 0
    pending: int = 0  # without an end yet: the live sync sends them
    forgotten: int = 0  # may have been sent: their records were forgotten, so nothing of the trace was sent
    undelivered: bool = False
    filter_overruled: str | None = None  # the rule that leaves the trace out otherwise

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


async def send(opened: OpenSource, trace_ids: Sequence[str], results: list[SendResult], *, again: bool) -> None:
    """Send traces by id now, and add what becomes of each to `results`; see `TraceSend`.

    Raises as reader and delivery do; the results are then what is known by that time.
    """
    work = TraceSend(opened.pipeline, opened.name, trace_ids, again=again)
    results.extend(work.results.values())
    try:
        await opened.pipeline.run(work)
    except Exception:
        work.abandon()
        raise
    opened.session.delivery.check()


class TraceSend(Work):
    """Reads traces by id and sends what of them was not sent; with `again`, all of them. Filters do not count."""

    overrules = True

    def __init__(self, pipeline: Pipeline, source: str, trace_ids: Sequence[str], *, again: bool) -> None:
        self._pipeline = pipeline
        self._session = pipeline.session
        self._everything = Interval(0, self._session.clock.now_ms() + 1)
        self.again = again
        self.results = {trace_id: SendResult(source, trace_id) for trace_id in trace_ids}
        self._under_way: set[tuple[str, str]] = set()  # trace and observation

    @property
    def sends(self) -> Interval:
        """Everything."""
        return self._everything

    def walk(self) -> AsyncIterator[Page]:
        """Read the traces."""
        return self._session.reader.traces(list(self.results), self._everything)

    def take(self, page: Page) -> Sequence[Observation]:
        """Take the observations of the traces."""
        self._session.clock.check()
        self._pipeline.dead_letters.add_unreadable(page.unreadable)
        return [observation for observation in page.observations if trace_of(observation) in self.results]

    def select(self, group: Group) -> dict[str, list[Observation]]:
        """Leave out traces of which nobody knows any more whether they were sent, unless all is sent again."""
        forgotten = {} if self.again else self._forgotten(group.traces)
        for trace_id, observations in group.traces.items():
            result = self.results[trace_id]
            result.in_langfuse += len(observations)
            result.forgotten += forgotten.get(trace_id, 0)
        return {trace: observations for trace, observations in group.traces.items() if trace not in forgotten}

    def choose(self, traces: Sequence[Trace], taken: Mapping[str, Sequence[Observation]]) -> Choice:
        """Send all but observations without an end, which would be sent as incomplete."""
        now, limits = self._session.clock.certain_ms(), self._session.readiness_limits
        choice = Choice(list(traces), pending=take_each_pending(traces, now, limits))
        for trace_id, pending in choice.pending.items():
            self.results[trace_id].pending += len(pending)
        fresh = {trace.trace_id: len(trace.fresh) + len(choice.pending.get(trace.trace_id, ())) for trace in traces}
        for trace_id, observations in taken.items():
            self.results[trace_id].sent_before += len(observations) - fresh.get(trace_id, 0)
        self._under_way = {(trace.trace_id, one.id) for trace in traces for one in trace.fresh}
        return choice

    def abandon(self) -> None:
        """Note in the results what an error left unfinished."""
        session = self._session
        done: Collection[tuple[str, str]] = ()
        if not self.again:
            with contextlib.suppress(StateError):
                done = session.ledger.completed_observations(session.source_id, {one for one, _ in self._under_way})
        for trace_id, observation_id in self._under_way:
            result = self.results[trace_id]
            result.sent += 1
            result.undelivered = result.undelivered or (trace_id, observation_id) not in done

    def commit(self, group: Group, taken: Mapping[str, Sequence[Observation]], choice: Choice, left: set[str]) -> None:
        """Store the notes of traces with pending observations: the live sync sends these."""
        del group, taken
        self._under_way = set()
        for trace in choice.ready:
            self.results[trace.trace_id].sent += len(trace.fresh) - len(trace.left_out)
            self.results[trace.trace_id].filter_overruled = trace.overruled
        notes = self._pipeline.notes.of_each_partly_sent(choice, self._session.clock.certain_ms())
        self._session.ledger.store_traces(self._session.source_id, notes)
        for trace_id in left:
            self.results[trace_id].undelivered = True

    def _forgotten(self, traces: Mapping[str, Sequence[Observation]]) -> dict[str, int]:
        """Return, by trace, how many observations may have been sent and forgotten since.

        A trace that is known may be one of which something came late, after all else of it was forgotten.
        """
        session = self._session
        known = session.ledger.traces(session.source_id, traces)
        hours = session.ledger.forgotten_hours(session.source_id)
        if not hours:
            return {}
        done = session.ledger.completed_observations(session.source_id, known)
        before = session.state.get(FORGOTTEN_BEFORE, fresh=True) or 0
        completed = merged(
            interval
            for role in (LIVE, BACKFILL)
            for interval in session.ledger.completed_intervals(session.source_id, role)
        )

        def may_be_forgotten(trace_id: str, observation: Observation) -> bool:
            note = known.get(trace_id)
            if note is not None:
                is_known = (trace_id, observation.id) in done or note.left_out_by is not None
                waits = note.pending and observation.start_ms >= note.earliest_ms
                if is_known or waits or observation.start_ms >= before:
                    return False
            is_counted = observation.start_ms // HOUR_MS in hours
            return is_counted and any(interval.contains(observation.start_ms) for interval in completed)

        counts = {
            trace_id: sum(may_be_forgotten(trace_id, observation) for observation in observations)
            for trace_id, observations in traces.items()
        }
        return {trace_id: count for trace_id, count in counts.items() if count}
