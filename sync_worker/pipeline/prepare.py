"""Prepare: what is fresh of each trace, its root, its context, and its truncated fields."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from sync_worker.intervals import Interval
from sync_worker.langfuse.reader import Page
from sync_worker.langfuse.truncated_fields import may_be_truncated, tokens_left
from sync_worker.pipeline.dead_lettering import DeadLettering
from sync_worker.pipeline.dedupe import Dedupe
from sync_worker.pipeline.session import Session
from sync_worker.pipeline.trace import Trace, TracePart
from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext, filled, gather, trace_of

#: How long after an observation its root may start (clocks of several machines), in milliseconds.
_ROOT_AFTER_MS = 3_600_000

_Read = Callable[[Sequence[str], Interval], AsyncIterator[Page]]


@dataclass(slots=True)
class Preparer:
    """Builds traces from observations. Makes all requests to Langfuse that a trace needs before it is sent."""

    session: Session
    dedupe: Dedupe
    dead_letters: DeadLettering

    async def prepare(
        self,
        taken: Mapping[str, Sequence[Observation]],
        sends: Interval,
        *,
        again: bool = False,
        redecide: bool = False,
        overrule: bool = False,
    ) -> list[Trace]:
        """Return the traces with fresh observations, with their context.

        What is done, or starts outside `sends`, only gives context. Missing roots are looked up, many at a time.
        `again` includes what is done, `redecide` what other rules left out, `overrule` what any left out.
        Raises as the reader does.
        """
        if not taken:
            return []
        notes = self.session.ledger.traces(self.session.source_id, taken)
        traces = []
        left_out = {trace_id: note.rules for trace_id, note in notes.items() if note.left_out_by is not None}
        undecided = {
            trace_id for trace_id, rules in left_out.items() if overrule or (redecide and rules != self.session.digest)
        }
        done_out = left_out.keys() - undecided
        found = self.dedupe.fresh(taken, sends, again=again, undecided=undecided, left_out=done_out)
        for trace_id, fresh in found.items():
            keep = {observation.id for observation in fresh}
            others = [observation for observation in taken[trace_id] if observation.id not in keep]
            traces.append(Trace(trace_id, fresh, others, notes.get(trace_id)))
        await self._look_up_roots(traces)
        for trace in traces:
            self.gather_context(trace)
        return [trace for trace in traces if trace.fresh]

    async def resolve(self, traces: Sequence[Trace]) -> AsyncIterator[TracePart]:
        """Yield traces with truncated fields resolved; in parts where these exceed the memory limit."""
        for trace in traces:
            part, held = TracePart(trace), 0
            for observation in trace.fresh:
                part.observations.append(observation)
                if not may_be_truncated(observation):
                    continue
                resolved = await self.session.reader.resolve(observation)
                left = tokens_left(resolved)
                if left:
                    self.session.report.notes["media tokens that stay"] += left
                if resolved is not observation:
                    part.resolved[observation.id] = resolved
                    held += len(resolved.input or "") + len(resolved.output or "")
                if held > self.session.limits.held_bytes:
                    yield part
                    part, held = TracePart(trace), 0
            if part.observations:
                yield part

    def gather_context(self, trace: Trace) -> Trace:
        """Gather the context of a trace, not redacted; an observation that fails is removed and dead-lettered.

        What is stored was redacted: where there are rules, it only fills what the observations do not say.
        """
        known = self.session.known_context(trace.trace_id, trace.note)
        if self.session.protection.digest and known is not None:
            trace.context = trace.plain = filled(self._gather(trace, None), known)
        else:
            trace.context = trace.plain = self._gather(trace, known)
        return trace

    def _gather(self, trace: Trace, known: TraceContext | None) -> TraceContext:
        overrides = self.session.policy.conversion.overrides
        is_sent = trace.note is not None and trace.note.project is not None
        try:
            return gather(trace.trace_id, trace.observations, known, overrides, is_sent=is_sent)
        except Exception as error:  # noqa: BLE001 - the observations are then checked one by one
            self.dead_letters.log_error("gather", trace.trace_id, error)
        errors = {one.id: found for one in trace.observations if (found := _error_of(one)) is not None}
        for observation in trace.fresh:
            if observation.id in errors:
                self.dead_letters.add_broken(
                    observation, "the context of its trace cannot be gathered with it", errors[observation.id]
                )
        trace.fresh = [observation for observation in trace.fresh if observation.id not in errors]
        trace.others = [observation for observation in trace.others if observation.id not in errors]
        try:
            return gather(trace.trace_id, trace.observations, known, overrides, is_sent=is_sent)
        except Exception as error:  # noqa: BLE001 - they fail together: they are sent without their context
            self.dead_letters.log_error("gather", trace.trace_id, error)
            return TraceContext(trace.trace_id)

    async def _look_up_roots(self, traces: Sequence[Trace]) -> None:
        """Fetch the roots of traces whose root was neither read nor is known.

        Of a trace whose stored context was redacted by other rules, all observations are read, metadata-only.
        """
        stale = [trace for trace in traces if trace.note is not None and self.session.is_stale(trace.note)]
        whole = {trace.trace_id: trace for trace in stale if not trace.is_lone}
        if whole:
            await self._fetch_into(whole, self._read_whole)
        rootless = {
            trace.trace_id: trace
            for trace in traces
            if not trace.is_lone and self._lacks_root(trace) and trace.trace_id not in whole
        }
        if rootless:
            await self._fetch_into(rootless, self.session.reader.roots)
        # A synthetic root alone does not show whether its trace came over OpenTelemetry, which decides if it is sent.
        lonely = {
            trace.trace_id: trace
            for trace in traces
            if all(observation.is_synthetic_root for observation in trace.observations)
            and not (trace.note is not None and trace.note.id_kind)
            and trace.trace_id not in whole
        }
        if lonely:
            await self._fetch_into(lonely, self._read_whole)

    def _lacks_root(self, trace: Trace) -> bool:
        """Whether what the root says of its trace was neither read nor is known.

        In v1 it is the trace that says it, and no observation: until a session is known, it is asked again.
        """
        known = {} if trace.note is None else trace.note.context
        if self.session.reader.api == "v1":
            is_read = any(observation.is_synthetic_root for observation in trace.observations)
            return not is_read and not (known.get("root_seen") and known.get("session_id"))
        return not known.get("root_seen") and not any(one.is_trace_root for one in trace.observations)

    def _read_whole(self, trace_ids: Sequence[str], around: Interval) -> AsyncIterator[Page]:
        return self.session.reader.traces(trace_ids, around, metadata_only=True)

    async def _fetch_into(self, traces: Mapping[str, Trace], read: _Read) -> None:
        starts = [observation.start_ms for trace in traces.values() for observation in trace.fresh]
        around = Interval(min(starts) - self.session.policy.deepest_ms, max(starts) + _ROOT_AFTER_MS)
        held = {trace_id: {one.id for one in trace.observations} for trace_id, trace in traces.items()}
        async for page in read(list(traces), around):
            self.session.report.observations_read += len(page.observations)
            for observation in page.observations:
                trace = traces.get(trace_of(observation))
                if trace is not None and observation.id not in held[trace.trace_id]:
                    held[trace.trace_id].add(observation.id)
                    trace.others.append(observation)


def _error_of(observation: Observation) -> Exception | None:
    """Return the error of gathering context from this observation alone, if any."""
    try:
        gather(trace_of(observation), [observation])
    except Exception as error:  # noqa: BLE001 - it is returned
        return error
    return None
