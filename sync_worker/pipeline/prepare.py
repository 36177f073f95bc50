"""Prepare: what is fresh of each trace, its root, its context, and fields that the server keeps elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from sync_worker.intervals import Interval
from sync_worker.langfuse.media import tokens_left
from sync_worker.langfuse.reader import Page
from sync_worker.pipeline.dead_letters import DeadLetters, log_fault
from sync_worker.pipeline.dedupe import Dedupe
from sync_worker.pipeline.session import Session
from sync_worker.pipeline.trace import Trace, TracePart
from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext, gather, trace_of

#: How long after an observation its trace's root may start and still be found (clocks of several machines), in ms.
_ROOT_AFTER_MS = 3_600_000

_Read = Callable[[Sequence[str], Interval], AsyncIterator[Page]]


class Preparer:
    """Makes traces of observations. All requests to Langfuse that a trace needs before it goes are made here."""

    def __init__(self, session: Session, dedupe: Dedupe, dead_letters: DeadLetters) -> None:
        self._session = session
        self._dedupe = dedupe
        self._dead_letters = dead_letters

    async def prepare(
        self, taken: Mapping[str, Sequence[Observation]], sends: Interval, *, again: bool = False
    ) -> list[Trace]:
        """Return the traces with something to send, with all that is known of them.

        What is done, and what starts outside `sends`, only tells of its trace. Roots that are not at hand are looked
        up, many at a time. `again` sends what is done too. Raises as the reader does.
        """
        if not taken:
            return []
        notes = self._session.ledger.traces(self._session.source_id, taken)
        traces = []
        for trace_id, fresh in self._dedupe.fresh(taken, sends, again=again).items():
            keep = {observation.id for observation in fresh}
            others = [observation for observation in taken[trace_id] if observation.id not in keep]
            traces.append(Trace(trace_id, fresh, others, notes.get(trace_id)))
        await self._look_up_roots(traces)
        for trace in traces:
            trace.context = self.gather_context(trace)
        return [trace for trace in traces if trace.fresh]

    async def resolve(self, traces: Sequence[Trace]) -> AsyncIterator[TracePart]:
        """Yield traces with the fields put in that the server keeps elsewhere; in parts where these are too much."""
        for trace in traces:
            part, held = TracePart(trace), 0
            for observation in trace.fresh:
                resolved = await self._session.reader.resolve(observation)
                part.observations.append(observation)
                left = tokens_left(resolved)
                if left:
                    self._session.report.notes["media tokens that stay"] += left
                if resolved is not observation:
                    part.resolved[observation.id] = resolved
                    held += len(resolved.input or "") + len(resolved.output or "")
                if held > self._session.limits.held_bytes:
                    yield part
                    part, held = TracePart(trace), 0
            if part.observations:
                yield part

    def gather_context(self, trace: Trace) -> TraceContext:
        """Return what its observations say of a trace; one that cannot be asked is taken out, and dead-lettered."""
        note = trace.note
        known = None if note is None else TraceContext.from_json(trace.trace_id, note.context)
        try:
            return gather(trace.trace_id, trace.observations, known)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the observations are tried one by one
            log_fault("gather", trace.trace_id, fault)
        faults = {one.id: found for one in trace.observations if (found := _fault_of(one)) is not None}
        for observation in trace.fresh:
            if observation.id in faults:
                self._dead_letters.add_broken(
                    observation, "it breaks what is gathered of its trace", faults[observation.id]
                )
        trace.fresh = [observation for observation in trace.fresh if observation.id not in faults]
        trace.others = [observation for observation in trace.others if observation.id not in faults]
        try:
            return gather(trace.trace_id, trace.observations, known)
        except Exception as fault:  # noqa: BLE001 - together they break it: they go without what they say
            log_fault("gather", trace.trace_id, fault)
            return TraceContext(trace.trace_id)

    async def _look_up_roots(self, traces: Sequence[Trace]) -> None:
        """Fetch the roots of traces whose root is neither at hand nor known."""
        rootless = {
            trace.trace_id: trace
            for trace in traces
            if not trace.is_lone
            and not any(observation.is_trace_root for observation in trace.observations)
            and not (trace.note is not None and trace.note.context.get("root_seen"))
        }
        await self._fetch_into(rootless, self._session.reader.roots)
        # A synthetic root alone does not tell whether its trace came over OpenTelemetry, which decides if it is sent.
        lonely = {
            trace.trace_id: trace
            for trace in traces
            if all(observation.is_synthetic_root for observation in trace.observations)
            and not (trace.note is not None and trace.note.context.get("rows_are"))
        }
        await self._fetch_into(lonely, lambda ids, around: self._session.reader.traces(ids, around, metadata_only=True))

    async def _fetch_into(self, traces: Mapping[str, Trace], read: _Read) -> None:
        if not traces:
            return
        starts = [observation.start_ms for trace in traces.values() for observation in trace.fresh]
        around = Interval(min(starts) - self._session.policy.deepest_ms, max(starts) + _ROOT_AFTER_MS)
        held = {trace_id: {one.id for one in trace.observations} for trace_id, trace in traces.items()}
        async for page in read(list(traces), around):
            self._session.report.observations_read += len(page.observations)
            for observation in page.observations:
                trace = traces.get(trace_of(observation))
                if trace is not None and observation.id not in held[trace.trace_id]:
                    held[trace.trace_id].add(observation.id)
                    trace.others.append(observation)


def _fault_of(observation: Observation) -> Exception | None:
    """Return what goes wrong when an observation alone is asked of its trace."""
    try:
        gather(trace_of(observation), [observation])
    except Exception as fault:  # noqa: BLE001 - it is handed back
        return fault
    return None
