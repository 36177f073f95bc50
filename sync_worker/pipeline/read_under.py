"""Under which rules the time of an observation was read, and traces that were decided on otherwise.

Of what is forgotten, a backfill under other rules asks the rules of its time what became of it. They do not know of a
trace that was pending, or late, while the rules changed, that a broken run decided on before, or that was sent by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sync_worker.intervals import Interval, clip
from sync_worker.pipeline.session import Session
from sync_worker.pipeline.trace import Trace
from sync_worker.pipeline.work import Work
from sync_worker.records import Observation
from sync_worker.selection import SelectionRules, left_out_by


@dataclass(slots=True)
class Decisions:
    """What rules decide on one trace, asked once of each. Whoever asks holds the rules for as long."""

    trace: Trace
    _known: dict[int, bool] = field(default_factory=dict)  # by id of the object: a digest takes longer than to decide

    def is_sent_by(self, rules: SelectionRules) -> bool:
        """Whether these rules let the trace in."""
        if id(rules) not in self._known:
            trace = self.trace
            self._known[id(rules)] = left_out_by(rules, trace.plain, has_error=trace.has_error) is None
        return self._known[id(rules)]


@dataclass(slots=True)
class ReadUnder:
    """Which time of one source is completed under which rules, as it was when a run first asked."""

    session: Session
    _own: list[Interval] | None = None  # under this run's rules
    _others: list[tuple[Interval, SelectionRules]] = field(default_factory=list)

    def rules_of(self, observations: Sequence[Observation]) -> list[SelectionRules]:
        """Return the rules under which the time of observations was read, this run's where it was not."""
        if self._own is None:
            self._ask()
        starts = [one.start_ms for one in observations]
        found = [rules for interval, rules in self._others if any(interval.contains(start) for start in starts)]
        is_own = any(self._is_own(one) for one in observations)
        return [*found, self.session.policy.rules] if is_own or not found else found

    def is_exceptional(self, work: Work, trace: Trace, observations: Sequence[Observation], *, is_sent: bool) -> bool:
        """Whether a trace is sent, or left out, otherwise than the rules of the time of these observations decide.

        Where that ends with the interval of the work, the work notes it.
        """
        if self._own is None:
            self._ask()
        others = [(interval, rules) for interval, rules in self._others if clip([interval], work.sends)]
        note = trace.note
        was_decided = note is not None and (note.project is not None or note.left_out_by is not None)
        if not others and not was_decided and trace.overruled is None:
            return False  # this run's rules have just decided
        decisions, until_completed = Decisions(trace), list[int]()
        for observation in observations:
            of = [rules for interval, rules in others if interval.contains(observation.start_ms)]
            if work.completes and is_sent and of and not any(decisions.is_sent_by(rules) for rules in of):
                until_completed.append(observation.start_ms)
            if not of or work.completes or self._is_own(observation):
                of.append(self.session.policy.rules)
            if any(decisions.is_sent_by(rules) for rules in of) != is_sent:
                if work.completes:
                    work.until_completed.pop(trace.trace_id, None)
                return True
        if until_completed:
            work.until_completed[trace.trace_id] = min(until_completed)
        return bool(until_completed)

    def _ask(self) -> None:
        session = self.session
        found = session.ledger.completed_with_rules(session.source_id)
        self._own = [one.interval for one in found if one.rules and one.is_under(session.digest)]
        self._others = [
            (one.interval, SelectionRules.from_text(one.rules_text)) for one in found if one.rules != session.digest
        ]

    def _is_own(self, observation: Observation) -> bool:
        return any(interval.contains(observation.start_ms) for interval in self._own or ())
