"""The state of one trace: in the ledger, and in Langfuse, read live."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sync_worker.intervals import Interval
from sync_worker.ledger import DeadLetter, SentObservation, TraceNote
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.pipeline.assemble import Assembly
from sync_worker.pipeline.notes import OPEN_FOR_MS
from sync_worker.records import Observation
from sync_worker.runs.coverage import not_read
from sync_worker.runs.opened import OpenSource
from sync_worker.selection import NotRead, left_out_by
from sync_worker.spans.context import TraceContext, is_hidden, roots_of, trace_of
from sync_worker.spans.ids import otlp_span_id, otlp_trace_id
from sync_worker.times import iso_time


async def explain(opened: OpenSource, trace_id: str) -> dict[str, Any]:
    """Return what is known of a trace and of its scores as a JSON object. Raises as the reader does."""
    found = await Explanation(opened).of(trace_id)
    scores = opened.scores
    return {**found, "scores": [] if scores is None else await scores.explain(trace_id)}


class Explanation:
    """Explains why the observations of a trace are, or are not, in Kelet."""

    def __init__(self, opened: OpenSource) -> None:
        self._state = state = opened.state
        self._ledger = ledger = opened.ledger
        self._reader = reader = opened.session.reader
        self._limits = opened.session.readiness_limits
        self._now = opened.clock.now_ms()
        self._updates = opened.settings.updates
        self._rules = opened.session.policy.rules
        self._not_read = not_read(ledger, state.id) if reader.leaves_out_environments else NotRead(())

    async def of(self, trace_id: str) -> dict[str, Any]:
        """Return what is known of a trace as a JSON object. Raises as the reader does."""
        source = self._state.id
        note = self._ledger.traces(source, [trace_id]).get(trace_id)
        observations = await self._list(trace_id)
        done = self._ledger.completed_observations(source, [trace_id])
        sent = self._ledger.deliveries_of(source, trace_id)
        letters = {letter.observation_id: letter for letter in self._ledger.dead_letters(source, trace_id=trace_id)}
        completed = {role: self._ledger.completed_intervals(source, role) for role in (LIVE, BACKFILL)}
        listed = [
            self._describe(
                observation,
                note,
                done.get((trace_id, observation.id)),
                sent.get(observation.id),
                letters.get(observation.id),
                completed,
            )
            for observation in sorted(observations, key=lambda observation: (observation.start_ms, observation.id))
        ]
        here = {observation.id for observation in observations}
        delivered = {observation for observation, (_, request) in sent.items() if request is not None}
        return {
            "trace_id": trace_id,
            "otlp_trace_id": otlp_trace_id(self._state.project_id, trace_id),
            "source": self._state.project_name,
            "target": self._state.target,
            "in_langfuse": bool(observations),
            "known": note is not None,
            "pending": bool(note is not None and note.pending),
            "pending_since": _time(note.pending_ms if note is not None else None),
            "deleted_in_langfuse": bool(delivered and not observations),
            "why": self._why(note, observations, remembered=bool(done)) if observations else _why_gone(note, delivered),
            "project": note.project if note is not None else None,
            "filtered_by": self._filtered_by(note, observations),
            "observations": listed,
            "sent_but_gone_from_langfuse": sorted(delivered - here),
        }

    async def _list(self, trace_id: str) -> list[Observation]:
        assembly = Assembly()
        async for page in self._reader.traces([trace_id], Interval(0, self._now + 1), metadata_only=True):
            assembly.add_page(page)
        return list(assembly.traces.get(trace_id, {}).values())

    def _filtered_by(self, note: TraceNote | None, observations: Sequence[Observation]) -> str | None:
        """Return the rule that leaves the trace out; of one that was never read, by its environment."""
        if note is not None:
            return note.left_out_by
        unread = [one for one in observations if self._not_read.was_left(one)]
        if not unread or len(unread) < len(observations):
            return None
        context = TraceContext(trace_of(unread[0]), environment=unread[0].environment)
        return left_out_by(self._rules, context, has_error=False) or f"environment {unread[0].environment}, then"

    def _why(self, note: TraceNote | None, observations: Sequence[Observation], *, remembered: bool) -> str:
        rule = self._filtered_by(note, observations)
        if rule is not None:
            later = "" if note is None or note.rules == self._rules.digest else " (rules that are no longer set)"
            return f"left out by {rule}{later}" + ("; not even read" if note is None else "")
        if note is None:
            return "the worker has not read it, or has forgotten it since: see its observations"
        if not note.pending and note.open_ms is not None:
            until = iso_time(note.open_ms + OPEN_FOR_MS)
            return f"it was sent, but its root had not ended: that is looked up once an hour until {until}"
        if not note.pending:
            return (
                "it was sent" if remembered else "it is to be sent, or was and that is forgotten: see its observations"
            )
        roots = roots_of(observations, note.id_kind)
        deadline = iso_time(note.earliest_ms + self._limits.max_open)
        if not roots:
            return f"pending: its root is not in Langfuse yet; without one it is sent at {deadline}"
        if all(observation.is_open for observation in roots):
            return f"pending: its root has not ended; it is sent at {deadline} at the latest"
        if any(observation.unsettled for observation in observations):
            return (
                "pending: Langfuse has yet to merge two versions of one of its observations; it is sent SYNC_MAX_OPEN "
                "after the newer one at the latest"
            )
        if any(observation.is_open for observation in observations):
            return f"pending: some of its observations have not ended; they are sent at {deadline} at the latest"
        return "pending: it has not been quiet for SYNC_SETTLE, or the next cycle has yet to check it"

    def _describe(
        self,
        observation: Observation,
        note: TraceNote | None,
        done: SentObservation | None,
        sent: tuple[int, int | None] | None,
        letter: DeadLetter | None,
        completed: dict[str, list[Interval]],
    ) -> dict[str, Any]:
        left_out = note is not None and (note.left_out_by is not None or is_hidden(observation, note.id_kind))
        return {
            "observation_id": observation.id,
            "span_id": otlp_span_id(observation.project_id, trace_of(observation), observation.id),
            "name": observation.name,
            "start": iso_time(observation.start_ms),
            "end": _time(observation.end_ms),
            "state": self._state_of(observation, note, done, letter, completed),
            "sent": None if sent is None or left_out else iso_time(sent[0]),
            "request": None if sent is None else sent[1],
            "reason": None if letter is None else letter.reason,
            "next_try": None if letter is None else _time(letter.next_try_ms),
        }

    def _state_of(
        self,
        observation: Observation,
        note: TraceNote | None,
        done: SentObservation | None,
        letter: DeadLetter | None,
        completed: dict[str, list[Interval]],
    ) -> str:
        first = self._state.sync_start_ms
        if letter is not None:
            if letter.next_try_ms is not None:
                return f"dead-lettered: it could not be read; retried automatically at {iso_time(letter.next_try_ms)}"
            return "dead-lettered: Kelet rejected it, or it could not be read"
        if note is not None and note.left_out_by is not None:
            return "filtered with its trace"
        if (note is None or note.project is None) and self._not_read.was_left(observation):
            return "not read: its environment is left out"
        if note is not None and is_hidden(observation, note.id_kind):
            return "left out: synthetic, a direct export has no such span"
        if done is not None:
            changed = observation.updated_ms is not None and observation.updated_ms > done.updated_ms
            return "sent" + (f", changed since (SYNC_UPDATES={self._updates})" if changed else "")
        if note is not None and note.pending:
            return "pending with its trace"
        if any(interval.contains(observation.start_ms) for interval in (*completed[LIVE], *completed[BACKFILL])):
            return "forgotten after it was sent, or late-arriving: the next lookback scan sends it if it was not"
        if first is None or observation.start_ms < first:
            return "before the sync start of the live sync: a backfill would send it"
        return "not due yet: its interval is not completed"


def _why_gone(note: TraceNote | None, delivered: Collection[str]) -> str:
    """Return what is known of a trace of which Langfuse has no observations."""
    if delivered:
        where = "" if note is None or note.project is None else f", in its project {note.project}"
        return f"it was sent, and Langfuse has deleted it since: Kelet still has it{where}"
    if note is None:
        return (
            "Langfuse has no observations of this trace, and the worker does not know it: if it was ever sent, that is "
            "forgotten by now, and Kelet may have it"
        )
    if note.left_out_by is not None:
        return f"Langfuse has deleted it; nothing of it was sent, since it was left out by {note.left_out_by}"
    if note.pending:
        return "Langfuse has deleted it while it was pending; nothing of it was sent"
    return "Langfuse has deleted it; nothing of it is known to have been sent"


def _time(moment_ms: int | None) -> str | None:
    return None if moment_ms is None else iso_time(moment_ms)
