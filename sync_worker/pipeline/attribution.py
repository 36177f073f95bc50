"""Where a score belongs: what became of its trace, and the session and project that the spans of it carry.

Mostly the ledger knows. A trace that is not remembered is looked up at Langfuse, many in a request: it may be too new,
older than the sync, gone, or sent and forgotten since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sync_worker.intervals import Interval, contiguous_end, merged
from sync_worker.langfuse.filters import IDS_A_REQUEST
from sync_worker.ledger import TraceNote
from sync_worker.ledger.state_keys import FORGOTTEN_BEFORE
from sync_worker.ledger.stored_records import CompletedInterval
from sync_worker.pipeline.session import Session
from sync_worker.records import Observation
from sync_worker.selection import SelectionRules, left_out_by
from sync_worker.signals.signal_model import Attribution
from sync_worker.spans.context import TraceContext, gather, is_hidden, trace_of

#: A trace is first looked for so long before the first of its scores and after the last, in milliseconds.
_BEFORE_MS, _AFTER_MS = 32 * 86_400_000, 86_400_000


@dataclass(frozen=True, slots=True)
class ScoreWait:
    """The spans of the trace are not accepted yet, or not all.

    `reason` is pending (it is remembered), not_synced (it starts where the sync has not been yet, but will be),
    no_trace (it starts where the sync does not come), or not_found (Langfuse does not list it).
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Filtered:
    """The trace is left out, by this rule."""

    rule: str


Verdict = ScoreWait | Filtered | Attribution


class Attributor:
    """Finds where scores of one source belong.

    `completed` are the completed intervals of all roles. `synced_to_ms` is how far the sync has come, Unix ms: the live
    sync if there is one, although a backfill is ahead of it.
    """

    def __init__(self, session: Session, completed: Sequence[Interval], sync_start_ms: int | None) -> None:
        self._session = session
        self._completed = merged(completed)
        end = max((interval.end for interval in self._completed), default=0)
        self._read: list[CompletedInterval] | None = None  # with the rules of each
        self.synced_to_ms = end if sync_start_ms is None else min(end, contiguous_end(sync_start_ms, self._completed))

    def known(self, trace_ids: Iterable[str]) -> dict[str, Verdict]:
        """Return what the ledger alone says of traces; those that it does not remember are not in the result."""
        session, found = self._session, dict[str, Verdict]()
        notes = session.ledger.traces(session.source_id, trace_ids)
        delivered = session.ledger.delivered_traces(session.source_id, notes)
        for trace_id, note in notes.items():
            context = TraceContext.from_json(trace_id, note.context)
            if note.left_out_by is not None and not note.pending:
                found[trace_id] = Filtered(note.left_out_by)
            elif note.pending or trace_id not in delivered:
                found[trace_id] = ScoreWait("pending")
            elif context.session_id or context.root_seen:
                if context.session_after is not None and delivered[trace_id] <= context.session_after:
                    context = replace(context, session_id=None)  # no span that was accepted has it
                found[trace_id] = self._decide(note, context)
        return found

    async def look_up(self, traces: Mapping[str, int]) -> dict[str, Verdict]:
        """Return the verdicts on traces that the ledger does not know enough of, by id, with the time of a score in ms.

        Raises as the reader does.
        """
        found: dict[str, Verdict] = {}
        ids = list(traces)
        for start in range(0, len(ids), IDS_A_REQUEST):
            self._session.clock.check()
            part = ids[start : start + IDS_A_REQUEST]
            times = [traces[trace_id] for trace_id in part]
            around = Interval(max(0, min(times) - _BEFORE_MS), max(times) + _AFTER_MS)
            listed = await self._list(part, around)
            missing = [trace_id for trace_id in part if trace_id not in listed]
            if missing:
                everything = Interval(0, self._session.clock.now_ms() + _AFTER_MS)
                listed |= await self._list(missing, everything)
            delivered = self._session.ledger.delivered_traces(self._session.source_id, part)
            sent = {
                trace_id
                for trace_id in part
                if trace_id in delivered or self._was_sent(trace_id, listed.get(trace_id, ()))
            }
            completed = {
                trace_id
                for trace_id, observations in listed.items()
                if any(self._is_completed(observation.start_ms) for observation in observations)
            }
            decided = await self._decisions({one: listed.get(one, []) for one in part if one in sent | completed})
            for trace_id in part:
                verdict = decided.get(trace_id)
                # What was not sent and no rule leaves out arrived late: a lookback scan will find it, or just has.
                if isinstance(verdict, Filtered) or (verdict is not None and trace_id in sent):
                    found[trace_id] = verdict
                else:
                    found[trace_id] = self._waits(listed.get(trace_id, ()))
        return found

    def _decide(
        self, note: TraceNote | None, context: TraceContext, observations: Sequence[Observation] = ()
    ) -> Attribution | Filtered:
        """Return where the signals of a trace go that was sent: as its spans did.

        Of one that was forgotten, the rules under which its observations were read say again whether it was.
        """
        if note is None:
            # As it was decided: by what the sync has read of the trace.
            has_error = any(one.level == "ERROR" and self._is_completed(one.start_ms) for one in observations)
            found = [left_out_by(rules, context, has_error=has_error) for rules in self._rules_of(observations)]
            if None not in found:
                return Filtered(str(found[0]))
        decision = self._session.routing.decide(note, context, is_ready=True)
        project = self._session.policy.project if decision is None else decision.project
        return Attribution(project, context.session_id, context.user_id)

    def _rules_of(self, observations: Sequence[Observation]) -> list[SelectionRules]:
        """Return the rules under which observations were read, those of this run where they were not."""
        session = self._session
        if self._read is None:
            self._read = session.ledger.completed_with_rules(session.source_id)
        texts = {
            one.rules_text for one in self._read if any(one.interval.contains(found.start_ms) for found in observations)
        }
        return [SelectionRules.from_text(text) for text in sorted(texts)] or [session.policy.rules]

    def _protected(self, verdict: Attribution | Filtered) -> Attribution | Filtered:
        """Return a verdict by Langfuse's own context with the ids that redaction puts on spans."""
        protection = self._session.protection
        if isinstance(verdict, Filtered) or not protection.digest:
            return verdict
        session, user = verdict.session_id, verdict.user_id
        return replace(
            verdict,
            session_id=None if session is None else protection.identifier(session),
            user_id=None if user is None else protection.user(user),
        )

    def _was_sent(self, trace_id: str, observations: Sequence[Observation]) -> bool:
        """Whether a trace of which nothing is remembered was sent: it starts where all that is known was forgotten.

        Dead letters are never forgotten, and a hidden root is never sent: one that has nothing else was not sent.
        """
        session = self._session
        before = session.state.get(FORGOTTEN_BEFORE, fresh=True) or 0
        context = gather(trace_id, observations)
        forgotten = {
            observation.id
            for observation in observations
            if observation.start_ms < before
            and self._is_completed(observation.start_ms)
            and not is_hidden(observation, context.id_kind)
        }
        if not forgotten:
            return False
        letters = session.ledger.dead_letters(session.source_id, trace_id=trace_id)
        return not forgotten <= {letter.observation_id for letter in letters}

    def _waits(self, observations: Sequence[Observation]) -> ScoreWait:
        if not observations:
            return ScoreWait("not_found")
        if any(self._is_completed(observation.start_ms) for observation in observations):
            return ScoreWait("pending")
        start = min(observation.start_ms for observation in observations)
        return ScoreWait("not_synced" if start >= self.synced_to_ms else "no_trace")

    def _is_completed(self, moment: int) -> bool:
        return any(interval.contains(moment) for interval in self._completed)

    async def _decisions(self, traces: Mapping[str, Sequence[Observation]]) -> dict[str, Attribution | Filtered]:
        """Return where traces belong, or which rule leaves them out, by their roots and their other observations."""
        if not traces:
            return {}
        session = self._session
        starts = [observation.start_ms for observations in traces.values() for observation in observations]
        notes = session.ledger.traces(session.source_id, traces)
        full: dict[tuple[str, str], Observation] = {}
        if starts:
            async for page in session.reader.roots(list(traces), Interval(min(starts), max(starts) + 1)):
                session.report.observations_read += len(page.observations)
                session.report.lookback_requests += 1
                full |= {(trace_of(observation), observation.id): observation for observation in page.observations}
        sent = session.ledger.completed_observations(session.source_id, notes)
        found: dict[str, Attribution | Filtered] = {}
        overrides = session.policy.conversion.overrides
        for trace_id, observations in traces.items():
            note = notes.get(trace_id)
            known = None if note is None else TraceContext.from_json(trace_id, note.context)
            context = gather(
                trace_id,
                [full.get((trace_id, observation.id), observation) for observation in observations],
                known,
                overrides,
            )
            if known is not None and known.session_id is None:  # the spans that were sent carry none
                left = [
                    observation
                    for observation in observations
                    if (trace_id, observation.id) not in sent and not is_hidden(observation, context.id_kind)
                ]
                context.session_id = context.session_id if left else None
            found[trace_id] = self._protected(self._decide(note, context, observations))
        return found

    async def _list(self, trace_ids: Sequence[str], around: Interval) -> dict[str, list[Observation]]:
        session, found = self._session, dict[str, list[Observation]]()
        wanted = set(trace_ids)
        async for page in session.reader.traces(trace_ids, around, metadata_only=True):
            session.report.observations_read += len(page.observations)
            session.report.lookback_requests += 1
            for observation in page.observations:
                if trace_of(observation) in wanted:
                    found.setdefault(trace_of(observation), []).append(observation)
        return found
