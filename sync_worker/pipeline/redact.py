"""Redact: observations and the context of their traces, before anything is made of them. What fails is dead-lettered.

Everything that is sent, and everything that is stored of a trace, is made of what this stage leaves. Fingerprints and
comparisons use the observations as listed: they survive a change of the rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sync_worker.pipeline.dead_lettering import DeadLettering
from sync_worker.pipeline.session import Session
from sync_worker.pipeline.stage import Stage
from sync_worker.pipeline.trace import Trace, TracePart
from sync_worker.records import Observation
from sync_worker.redaction.protection import Protection, RedactionFailed
from sync_worker.spans.context import TraceContext, gather
from sync_worker.spans.overrides import Overrides


class Redaction(Stage):
    """Redacts the traces of one source that has rules."""

    def __init__(self, session: Session, dead_letters: DeadLettering) -> None:
        self._session = session
        self._dead_letters = dead_letters

    def process(self, traces: Sequence[Trace]) -> None:
        """Redact traces; what cannot be redacted of them is noted, since a filter may leave it out."""
        for trace in traces:
            self._protect(trace)

    def select(self, traces: Sequence[Trace]) -> Sequence[Trace]:
        """Dead-letter what cannot be redacted of traces that are sent; return those of which something is left."""
        kept: list[Trace] = []
        for trace in traces:
            for observation in trace.fresh if trace.unredacted else ():
                if observation.id in trace.unredacted:
                    self._dead_letters.add_unredacted(observation, trace.unredacted[observation.id])
                    trace.others.append(_strip(observation))
            trace.fresh = [one for one in trace.fresh if one.id not in trace.unredacted]
            if trace.fresh:
                kept.append(trace)
        return kept

    def process_resolved(self, part: TracePart) -> None:
        """Redact what was resolved of truncated fields; an observation that fails is removed from the part."""
        for observation in list(part.observations):
            if observation.id in part.resolved:
                shown, replaced = self._redact_and_count(part.resolved[observation.id])
                if isinstance(shown, RedactionFailed):
                    self._dead_letters.add_unredacted(observation, shown)
                    part.observations.remove(observation)
                    del part.resolved[observation.id]
                else:
                    part.resolved[observation.id] = shown
                    part.trace.replaced[observation.id] = replaced

    def context_of(self, trace: Trace) -> TraceContext:
        """Return the context of a trace as it may be stored and sent."""
        shown = [trace.shown.get(one.id) or self._redact_or_strip(one) for one in trace.observations]
        try:
            known = self._session.known_context(trace.trace_id, trace.note)
            overrides = self._session.policy.conversion.overrides
            is_sent = trace.note is not None and trace.note.project is not None
            context = gather(trace.trace_id, shown, known, overrides, is_sent=is_sent)
            return overridden(context, trace.context, overrides, self._session.protection)
        except Exception as error:  # noqa: BLE001 - it is sent without its context
            self._dead_letters.log_error("redact", trace.trace_id, error)
            return TraceContext(trace.trace_id)

    def _protect(self, trace: Trace) -> None:
        for observation in trace.observations:
            shown, replaced = self._redact_and_count(observation)
            if isinstance(shown, RedactionFailed):
                trace.unredacted[observation.id], shown = shown, _strip(observation)
            trace.shown[observation.id] = shown
            if replaced:
                trace.replaced[observation.id] = replaced
        trace.plain, trace.context = trace.context, self.context_of(trace)

    def _redact_or_strip(self, observation: Observation) -> Observation:
        shown = self._redact(observation)
        return _strip(observation) if isinstance(shown, RedactionFailed) else shown

    def _redact_and_count(self, observation: Observation) -> tuple[Observation | RedactionFailed, Counter[str]]:
        """Return an observation, redacted, and how much was replaced in it, by detector."""
        before = self._session.protection.replaced.copy()
        shown = self._redact(observation)
        return shown, self._session.protection.replaced - before

    def _redact(self, observation: Observation) -> Observation | RedactionFailed:
        try:
            return self._session.protection.observation(observation)
        except RedactionFailed as error:
            return error
        except Exception as error:  # noqa: BLE001 - whatever it is, what could not be redacted is not sent
            return RedactionFailed(type(error).__name__)


def overridden(
    context: TraceContext, plain: TraceContext, overrides: Overrides, protection: Protection
) -> TraceContext:
    """Take session and user that the settings name from metadata that is left out, redacted. Raises RedactionFailed."""
    if overrides.session and context.session_id is None and plain.session_id is not None:
        context.session_id = protection.identifier(plain.session_id)
    if overrides.user and context.user_id is None and plain.user_id is not None:
        context.user_id = protection.user(plain.user_id)
    return context


def _strip(observation: Observation) -> Observation:
    """Return of an observation only its place in the tree: nothing that a stranger wrote."""
    return Observation(
        id=observation.id,
        trace_id=observation.trace_id,
        project_id=observation.project_id,
        type="SPAN",
        start_ms=observation.start_ms,
        end_ms=observation.end_ms,
        parent_id=observation.parent_id,
        is_root=observation.is_root,
        updated_ms=observation.updated_ms,
        api=observation.api,
        unsettled=observation.unsettled,
    )
