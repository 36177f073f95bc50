"""Resolve, convert, batch and deliver: ready traces are sent to Kelet, each to its project."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from sync_worker.errors import LeaseHeld, StateError
from sync_worker.ledger import SentObservation
from sync_worker.ledger.ledger import Decided
from sync_worker.ledger.store import storable
from sync_worker.otlp.batches import Batcher
from sync_worker.pipeline.convert import Converter
from sync_worker.pipeline.daily_limit import DailyLimit
from sync_worker.pipeline.notes import Notes
from sync_worker.pipeline.prepare import Preparer
from sync_worker.pipeline.session import Session
from sync_worker.pipeline.stage import Stage
from sync_worker.pipeline.trace import Trace, as_done
from sync_worker.records import Observation
from sync_worker.spans.fingerprint import fingerprint
from sync_worker.waits import waiting

#: How often to check whether another run has sent a trace, in seconds.
_POLL_SECONDS = 0.5

log = logging.getLogger(__name__)


class Deliverer:
    """Sends the fresh observations of traces."""

    def __init__(
        self, session: Session, preparer: Preparer, stages: Sequence[Stage], converter: Converter, notes: Notes
    ) -> None:
        self._session = session
        self._preparer = preparer
        self._stages = stages
        self._converter = converter
        self._notes = notes
        #: Numbers under which work claims traces: no other of this process has the same.
        self.holders = itertools.count(1)
        self._holding: set[int] = set()  # which of them may have claimed traces

    async def deliver(
        self, traces: Sequence[Trace], holder: int, stay_pending: Collection[str] = (), *, again: bool = False
    ) -> set[str]:
        """Send the fresh observations of traces, until each is accepted, dead-lettered, or undelivered.

        Returns the traces with undelivered observations: Kelet does not know their project, or fails on one of their
        spans. Those in `stay_pending` are pending until all is sent. A trace that another run is sending waits until it
        is sent; what is done by then is not sent, except with `again`. A trace whose project is in no setting any more
        and unknown to Kelet is sent to the source's own. Raises as `Delivery`.
        """
        routing = self._session.routing
        undelivered = await self._deliver_all(traces, holder, stay_pending, again=again)
        orphaned = [trace for trace in traces if trace.trace_id in undelivered and routing.is_orphaned(trace.note)]
        if not orphaned:
            return undelivered
        routing.abandon(trace.note for trace in orphaned)
        done = self._session.ledger.completed_observations(
            self._session.source_id, [trace.trace_id for trace in orphaned]
        )
        for trace in orphaned:
            trace.keep_as_context({one.id for one in trace.fresh if (trace.trace_id, one.id) in done})
        orphaned_ids = {trace.trace_id for trace in orphaned}
        return undelivered - orphaned_ids | await self._deliver_all(orphaned, holder, stay_pending, again=again)

    def end(self, holder: int) -> None:
        """Release the traces that were claimed; the end of the lease does it too, so that it fails is no error."""
        if holder in self._holding:
            with contextlib.suppress(StateError, LeaseHeld):
                self._session.ledger.end_sending(self._session.source_id, holder)
            self._holding.discard(holder)

    async def _deliver_all(
        self, traces: Sequence[Trace], holder: int, stay_pending: Collection[str], *, again: bool
    ) -> set[str]:
        """Deliver traces: first those that no other run is sending, then the others when they are released."""
        undelivered: set[str] = set()
        rest, waits = list(traces), False
        while rest:
            others, out = self._begin(rest, holder, stay_pending, again=again)
            mine = [trace for trace in rest if trace.trace_id not in others and trace.trace_id not in out]
            limit = self._session.daily_limit
            undelivered |= await (self._deliver(mine) if limit is None else self._deliver_within_the_day(mine, limit))
            rest = [trace for trace in rest if trace.trace_id in others]
            if rest:
                self.end(holder)  # two runs that wait for each other would wait for ever
                if not waits:
                    log.info("another run is sending trace %s: waiting until it is sent", rest[0].trace_id)
                    waits = True
                with waiting("another run, which sends the same trace", math.inf):
                    await self._session.clock.sleep(_POLL_SECONDS)
                notes = self._session.ledger.traces(self._session.source_id, [trace.trace_id for trace in rest])
                for trace in rest:
                    trace.note = notes.get(trace.trace_id)
        return undelivered

    async def _deliver_within_the_day(self, traces: Sequence[Trace], limit: DailyLimit) -> set[str]:
        """Deliver the traces that may still be sent today. Raises DailyLimitReached where some are left.

        What cannot be delivered, as its lane is closed, takes nothing of the day from the others.
        """
        undelivered: set[str] = set()
        rest = list(traces)
        while True:
            closed = {trace.trace_id for trace in rest if not self._session.routing.has_lane(trace.note)}
            undelivered |= closed
            rest = [trace for trace in rest if trace.trace_id not in closed]
            if not rest:
                return undelivered
            spans = {trace.trace_id: len(trace.fresh) for trace in rest}
            admitted = limit.admit(rest)
            if not admitted:
                limit.stop()
            try:
                left = await self._deliver(admitted)
            finally:
                limit.end(admitted)
            undelivered |= left
            if any(len(trace.fresh) < spans[trace.trace_id] and trace.trace_id not in left for trace in admitted):
                limit.stop()
            tried = {trace.trace_id for trace in admitted}
            rest = [trace for trace in rest if trace.trace_id not in tried]

    async def _deliver(self, traces: Sequence[Trace]) -> set[str]:
        if not traces:
            return set()
        settings = self._session.settings
        batches = Batcher(settings.max_batch_spans, settings.max_batch_bytes)
        async with self._session.delivery.sending() as sending:
            async for part in self._preparer.resolve(traces):
                for stage in self._stages:
                    stage.process_resolved(part)
                for batch in batches.add(self._converter.convert(part)):
                    await sending.submit(batch)
            for batch in batches.rest():
                await sending.submit(batch)
        left_out = [observation for trace in traces for observation in trace.left_out]
        if left_out:  # what a direct export would not have is done
            self._session.ledger.leave_out(self._session.source_id, map(as_done, left_out))
        return {key.trace for key in sending.undelivered}

    def _begin(
        self, traces: Sequence[Trace], holder: int, stay_pending: Collection[str], *, again: bool
    ) -> tuple[set[str], set[str]]:
        """Decide the project of each trace, store it, and claim the trace before anything of it is sent.

        Returns the traces that another run is sending, and those that were left out since they were read. Where another
        interval or run was faster, its decision holds: a trace is decided on once. Removes what another run sent since
        it was read.
        """
        session = self._session
        before = {trace.trace_id: trace.note for trace in traces}
        for trace in traces:
            trace.note = self._notes.of_ready(trace, pending=trace.trace_id in stay_pending)
        notes = [trace.note for trace in traces if trace.note is not None]
        known = {
            note.trace_id: note.project for note in before.values() if note is not None and note.project is not None
        }
        rerouted = [note for note in notes if known.get(note.trace_id, note.project) != note.project]
        undecided = {
            trace_id
            for trace_id, note in before.items()
            if note is None or (note.project is None and note.left_out_by is None)
        }
        undecided -= {trace.trace_id for trace in traces if trace.overruled is not None}
        begun = session.ledger.begin_sending(session.source_id, notes, rerouted, undecided=undecided, holder=holder)
        self._holding.add(holder)
        out = self._follow(traces, begun.decided) if begun.decided else set()
        for trace in traces if begun.sent and not again else ():
            sent = {one.id for one in trace.fresh if _is_sent(one, begun.sent.get((trace.trace_id, one.id)))}
            trace.keep_as_context(sent)
        return begun.others, out

    def _follow(self, traces: Sequence[Trace], decided: Mapping[str, Decided]) -> set[str]:
        """Follow what was decided on traces since they were read; return those that are left out, stored as done."""
        out: dict[str, Trace] = {}
        for trace in traces:
            decision = decided.get(storable(trace.trace_id))
            if decision is None or trace.note is None:
                continue
            if decision.project is None:
                out[trace.trace_id] = trace
            else:
                trace.note = replace(trace.note, project=decision.project, origin=decision.origin)
        if out:
            session = self._session
            observations = [one for trace in out.values() for one in trace.fresh]
            session.ledger.leave_out(session.source_id, map(as_done, observations))
            session.report.observations_filtered += len(observations)
        return set(out)


def _is_sent(observation: Observation, sent: SentObservation | None) -> bool:
    """Whether an observation was sent in this state."""
    return sent is not None and sent.fingerprint == fingerprint(observation)
