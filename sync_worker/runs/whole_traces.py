"""Whole traces: those that rules had left out and that are to be sent, read completely and sent at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from sync_worker.intervals import Interval
from sync_worker.langfuse.reader import Page
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.notes import take_each_pending
from sync_worker.pipeline.trace import Trace
from sync_worker.pipeline.work import Choice, Group, Work
from sync_worker.records import Observation
from sync_worker.spans.context import trace_of


async def send_whole_traces(pipeline: Pipeline) -> None:
    """Send the traces of a source that were brought back, each once; those that cannot be delivered stay for later.

    Raises as reader and delivery do.
    """
    session, last = pipeline.session, ""
    while ids := session.ledger.whole_traces(session.source_id, session.limits.pending_traces, last):
        last = ids[-1]
        session.clock.check()
        await pipeline.run(_FetchWhole(pipeline, ids))


class _FetchWhole(Work):
    """Reads traces, whenever they start, and sends what of them was not sent."""

    overrules = True

    def __init__(self, pipeline: Pipeline, trace_ids: Sequence[str]) -> None:
        self._pipeline = pipeline
        self._session = pipeline.session
        self._ids = frozenset(trace_ids)
        self._left: set[str] = set()
        now = max(self._session.clock.now_ms(), self._session.clock.certain_ms())
        self._everything = Interval(0, now + 1)

    @property
    def sends(self) -> Interval:
        """Everything."""
        return self._everything

    def walk(self) -> AsyncIterator[Page]:
        """Read the traces."""
        return self._session.reader.traces(sorted(self._ids), self._everything)

    def take(self, page: Page) -> Sequence[Observation]:
        """Take the observations of the traces."""
        self._pipeline.dead_letters.add_unreadable(page.unreadable)
        return [observation for observation in page.observations if trace_of(observation) in self._ids]

    def choose(self, traces: Sequence[Trace], taken: Mapping[str, Sequence[Observation]]) -> Choice:
        """Send all but observations that are still pending alone."""
        del taken
        now, limits = self._session.clock.certain_ms(), self._session.readiness_limits
        return Choice(list(traces), pending=take_each_pending(traces, now, limits))

    def commit(self, group: Group, taken: Mapping[str, Sequence[Observation]], choice: Choice, left: set[str]) -> None:
        """Store that the traces were sent; those with pending observations are pending."""
        del taken
        session = self._session
        self._left |= left
        notes = self._pipeline.notes.of_each_partly_sent(choice, session.clock.certain_ms())
        session.ledger.store_traces(session.source_id, notes)
        if group.is_last:
            session.ledger.end_whole(session.source_id, self._ids - self._left)
