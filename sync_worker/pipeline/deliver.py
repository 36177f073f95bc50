"""Resolve, convert, batch and deliver: ready traces are sent to Kelet, each to its project."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sync_worker.kelet.batches import Batcher
from sync_worker.ledger import TraceNote
from sync_worker.pipeline.convert import Converter
from sync_worker.pipeline.notes import Notes
from sync_worker.pipeline.prepare import Preparer
from sync_worker.pipeline.session import Session
from sync_worker.pipeline.trace import Trace
from sync_worker.spans.context import trace_of
from sync_worker.spans.fingerprint import fingerprint
from sync_worker.spans.model import RowKey


class Deliverer:
    """Sends the fresh observations of traces."""

    def __init__(self, session: Session, preparer: Preparer, converter: Converter, notes: Notes) -> None:
        self._session = session
        self._preparer = preparer
        self._converter = converter
        self._notes = notes

    async def deliver(self, traces: Sequence[Trace], stay_pending: Collection[str] = ()) -> set[str]:
        """Send the fresh observations of traces, until each is accepted, dead-lettered, or undelivered.

        Returns the traces with undelivered observations: Kelet does not know their project, or fails on one of their
        spans. Those in `stay_pending` are pending until all is sent. A trace whose project is in no setting any more
        and unknown to Kelet is sent to the source's own. Raises as `Delivery`.
        """
        routing = self._session.routing
        undelivered = await self._deliver(traces, stay_pending)
        orphaned = [trace for trace in traces if trace.trace_id in undelivered and routing.is_orphaned(trace.note)]
        if not orphaned:
            return undelivered
        routing.abandon(trace.note for trace in orphaned)
        done = self._session.ledger.completed_observations(
            self._session.source_id, [trace.trace_id for trace in orphaned]
        )
        for trace in orphaned:
            trace.others += [one for one in trace.fresh if (trace.trace_id, one.id) in done]
            trace.fresh = [one for one in trace.fresh if (trace.trace_id, one.id) not in done]
        orphaned_ids = {trace.trace_id for trace in orphaned}
        return undelivered - orphaned_ids | await self._deliver(orphaned, stay_pending)

    async def _deliver(self, traces: Sequence[Trace], stay_pending: Collection[str]) -> set[str]:
        if not traces:
            return set()
        self._decide_projects(traces, stay_pending)
        policy = self._session.policy
        batches = Batcher(policy.max_batch_spans, policy.max_batch_bytes)
        async with self._session.delivery.sending() as sending:
            async for part in self._preparer.resolve(traces):
                for batch in batches.add(self._converter.convert(part)):
                    await sending.submit(batch)
            for batch in batches.rest():
                await sending.submit(batch)
        self._leave_out(traces)
        return {key.trace for key in sending.undelivered}

    def _decide_projects(self, traces: Sequence[Trace], stay_pending: Collection[str]) -> None:
        """Decide the project of each trace, and store it before anything of it is sent."""
        session = self._session
        before = {trace.trace_id: trace.note for trace in traces}
        for trace in traces:
            trace.note = self._notes.of_ready(trace, pending=trace.trace_id in stay_pending)
        notes = [trace.note for trace in traces if trace.note is not None]
        rerouted = [note for note in notes if _is_rerouted(before[note.trace_id], note)]
        if rerouted:
            session.ledger.reroute(session.source_id, rerouted)
        session.ledger.store_traces(session.source_id, notes)

    def _leave_out(self, traces: Sequence[Trace]) -> None:
        """Store that observations are done which a direct export would not have."""
        left_out = [observation for trace in traces for observation in trace.left_out]
        if left_out:
            self._session.ledger.leave_out(
                self._session.source_id,
                (
                    (RowKey(trace_of(one), one.id), one.start_ms, one.updated_ms or 0, fingerprint(one))
                    for one in left_out
                ),
            )


def _is_rerouted(before: TraceNote | None, now: TraceNote) -> bool:
    """Whether a trace has another project than before."""
    return before is not None and before.project is not None and before.project != now.project
