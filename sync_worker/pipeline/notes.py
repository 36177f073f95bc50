"""The stored note of a trace: while it is pending, when it is sent, and until its root has ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sync_worker.ledger import TraceNote
from sync_worker.pipeline.lanes import check_pending_limit
from sync_worker.pipeline.readiness import ReadinessLimits, has_ended, pending_observations
from sync_worker.pipeline.session import Session
from sync_worker.pipeline.trace import Trace
from sync_worker.pipeline.work import Choice
from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext

#: How often, and for how long, the root of an open trace is looked up, in milliseconds; what was sent of it is stored
#: as long.
OPEN_EVERY_MS = 3_600_000
OPEN_FOR_MS = 14 * 24 * 3_600_000
#: A trace with single pending observations is checked again after this fraction of its age.
_RECHECK_SHARE = 4
_RECHECK_MS = 60_000
#: After so long at the latest a trace that was not delivered is due again, in milliseconds.
LONGEST_RECHECK_MS = 3_600_000


@dataclass(slots=True)
class Notes:
    """Creates the notes of one source's traces, without storing them."""

    session: Session

    def of_pending(self, trace: Trace, check_ms: int = 0) -> TraceNote:
        """Return the note of a pending trace, to be checked again at `check_ms`, Unix ms."""
        return self._note(trace, pending=True, check_ms=check_ms, is_ready=False)

    def of_ready(self, trace: Trace, *, pending: bool) -> TraceNote:
        """Return the note of a ready trace, with its project. `pending`: it stays so until all is sent."""
        before = trace.note
        check_ms = before.check_ms if before is not None and before.open_ms is not None else 0
        note = self._note(trace, pending=pending, check_ms=check_ms, is_ready=True)
        return note if pending else self.of_sent(note, trace.observations, was_open=trace.is_open)

    def of_sent(self, note: TraceNote, observations: Sequence[Observation], *, was_open: bool = True) -> TraceNote:
        """Return the note of a trace that was sent; `was_open`: its root is looked up if it has not ended."""
        if note.left_out_by is not None or has_ended(observations, note.id_kind):
            return replace(no_longer_pending(note), open_ms=None)
        if not was_open and note.open_ms is None:
            return no_longer_pending(note)
        now = self.session.ledger.clock.now_ms()
        check = note.check_ms if now < note.check_ms else now + OPEN_EVERY_MS
        return replace(no_longer_pending(note), open_ms=note.open_ms or now, check_ms=check)

    def of_undelivered(self, trace: Trace, now_ms: int) -> TraceNote:
        """Return the note of a trace that was not fully delivered: pending for its lane or its next try.

        Raises SourcePaused if more are pending for closed lanes than a state file should hold.
        """
        session = self.session
        if not session.routing.has_lane(trace.note):
            check_pending_limit(session.ledger, session.source_id, session.delivery)
            return self.of_pending(trace, now_ms + 1)
        wait = min(LONGEST_RECHECK_MS, max(_RECHECK_MS, (now_ms - trace.earliest_ms) // _RECHECK_SHARE))
        return self.of_pending(trace, now_ms + wait)

    def of_partly_sent(self, trace: Trace, observations: Sequence[Observation], now_ms: int) -> TraceNote:
        """Return the note of a trace that was sent except for these observations."""
        first = min(observation.start_ms for observation in observations)
        check = min(_next_check(observation, now_ms, self.session.readiness_limits) for observation in observations)
        return replace(self.of_pending(trace, check), earliest_ms=first)

    def of_each_partly_sent(self, choice: Choice, now_ms: int) -> list[TraceNote]:
        """Return the notes of the ready traces of which observations are still pending alone."""
        return [
            self.of_partly_sent(trace, choice.pending[trace.trace_id], now_ms)
            for trace in choice.ready
            if trace.trace_id in choice.pending
        ]

    def of_left_out(self, trace: Trace, rule: str, digest: str | None) -> TraceNote:
        """Return the note of a trace that a rule leaves out, of the rules with this digest."""
        note = self._note(trace, pending=False, check_ms=0, is_ready=False)
        return replace(no_longer_pending(note), open_ms=None, left_out_by=rule, rules=digest)

    def _note(self, trace: Trace, *, pending: bool, check_ms: int, is_ready: bool) -> TraceNote:
        before = trace.note
        decision = self.session.routing.decide(before, trace.plain, is_ready=is_ready)
        return TraceNote(
            trace.trace_id,
            pending=pending,
            earliest_ms=trace.earliest_ms,
            newest_ms=trace.newest_ms,
            check_ms=check_ms,
            pending_ms=(before.pending_ms if before is not None else None)
            or (self.session.ledger.clock.now_ms() if pending else None),
            project=None if decision is None else decision.project,
            context=self.session.as_stored(self._dated(trace)),
            open_ms=None if before is None else before.open_ms,
            origin=None if decision is None else decision.origin,
            left_out_by=None if before is None or decision is not None else before.left_out_by,
            rules=None if before is None or decision is not None else before.rules,
            exceptional=trace.exceptional or (before is not None and before.exceptional),
        )

    def _dated(self, trace: Trace) -> TraceContext:
        """Return the context; where something was sent before the session was known, with the last delivery before."""
        context, before = trace.context, trace.note
        if before is None or before.project is None or context.session_id is None:
            return context
        if before.context.get("session_id") is not None:
            return replace(context, session_after=before.context.get("session_after"))
        return replace(context, session_after=self.session.ledger.last_delivery())


def no_longer_pending(note: TraceNote) -> TraceNote:
    """Return the note of a trace that is no longer pending."""
    return replace(note, pending=False, pending_ms=None, check_ms=0)


def pending_claimed(note: TraceNote, observations: Sequence[Observation], now_ms: int) -> TraceNote:
    """Return the note of a trace that is pending until another run has finished these observations, which it claims."""
    return replace(
        note,
        pending=True,
        pending_ms=note.pending_ms or now_ms,
        earliest_ms=min([note.earliest_ms, *(observation.start_ms for observation in observations)]),
        newest_ms=max([note.newest_ms, *(observation.last_ms for observation in observations)]),
        check_ms=now_ms + _RECHECK_MS,
    )


def take_pending(trace: Trace, now_ms: int, limits: ReadinessLimits) -> list[Observation]:
    """Remove from a trace, and return, the observations that are still pending alone."""
    pending = pending_observations(trace.fresh, now_ms, limits, None if trace.note is None else trace.note.pending_ms)
    if pending:
        trace.keep_as_context({observation.id for observation in pending})
    return pending


def take_each_pending(traces: Iterable[Trace], now_ms: int, limits: ReadinessLimits) -> dict[str, list[Observation]]:
    """Do the same with several traces; return what was removed by trace, where anything was."""
    found = {trace.trace_id: take_pending(trace, now_ms, limits) for trace in traces}
    return {trace_id: pending for trace_id, pending in found.items() if pending}


def _next_check(observation: Observation, now_ms: int, limits: ReadinessLimits) -> int:
    """Return when an observation that is pending alone is checked again: less often the older it is."""
    is_open = observation.is_open and now_ms - observation.start_ms < limits.max_open
    since = observation.start_ms if is_open else min(now_ms, observation.last_ms)
    wait = max(_RECHECK_MS, (now_ms - since) // _RECHECK_SHARE)
    return min(now_ms + wait, max(now_ms + 1, since + limits.max_open))
