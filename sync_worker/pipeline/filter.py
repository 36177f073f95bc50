"""Filter: ready traces that rules leave out are stored as done; each trace is decided on once, whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sync_worker.intervals import Interval
from sync_worker.ledger import TraceNote
from sync_worker.ledger.hourly_counts import HOUR_MS
from sync_worker.ledger.state_keys import FORGOTTEN_BEFORE
from sync_worker.pipeline.notes import Notes
from sync_worker.pipeline.read_under import Decisions, ReadUnder
from sync_worker.pipeline.session import Session
from sync_worker.pipeline.trace import Trace, as_done
from sync_worker.pipeline.work import Choice, Work
from sync_worker.records import Observation
from sync_worker.selection import SAMPLE, left_out_by
from sync_worker.spans.span_model import ObservationKey

#: Gathers the context of a trace.
Gather = Callable[[Trace], Trace]


@dataclass(slots=True)
class Filter:
    """Decides which traces of one source are sent.

    What was decided on a trace holds for its late observations. It is decided on again where an error brings a trace
    that is not in the sample, where a backfill reads again what other rules left out, and by `send`. Then all of the
    trace is sent, so it is stored as one to be read and sent whole.
    """

    session: Session
    notes: Notes
    read_under: ReadUnder
    _whole: set[str] = field(default_factory=set)  # brought back, and about to be sent whole

    def select(self, work: Work, choice: Choice) -> Sequence[Trace]:
        """Return the ready traces with something to send; store that the others are left out.

        One that was left out and is not any more is returned only if all of it is at hand.
        """
        session = self.session
        out: dict[str, tuple[Trace, str, str | None]] = {}
        back: list[Trace] = []
        later: set[str] = set()
        uncounted: Counter[int] = Counter()
        traces = [trace for trace in choice.ready if trace.fresh or trace.trace_id in choice.pending]
        known = [trace.trace_id for trace in traces if trace.note is not None and trace.note.project is None]
        whole = session.ledger.are_whole(session.source_id, known) if known else set()
        for trace in traces:
            forgotten = self._drop_what_was_sent(trace) if work.redecides else []
            if not trace.fresh and trace.trace_id not in choice.pending:
                continue
            if trace.trace_id in whole:  # it was brought back before
                later |= set() if work.overrules else {trace.trace_id}
                continue
            is_other = trace.note is None or trace.note.rules != session.digest
            rule, comes_back = self._decide(work, trace)
            if trace.note is None or not trace.note.exceptional:
                trace.exceptional = self.read_under.is_exceptional(work, trace, trace.fresh, is_sent=rule is None)
            if rule is not None:
                counted = {one.id for one in forgotten}  # by the hourly counts
                trace.fresh = [one for one in trace.fresh if one.id not in counted]
                if trace.fresh or trace.trace_id in choice.pending:
                    out[trace.trace_id] = trace, rule, self._digest_of(work, trace, rule)
            elif comes_back or forgotten:
                back.append(trace)
                uncounted.update(one.start_ms // HOUR_MS for one in forgotten)
                if work.overrules or (is_other and _is_inside(trace, work.sends)):
                    self._whole.add(trace.trace_id)
                else:
                    later.add(trace.trace_id)
        if out:
            later |= out.keys() - self._leave_out(out, choice)
        if back:
            self._bring_back(back, uncounted)
        return [trace for trace in choice.ready if trace.fresh and trace.trace_id not in later]

    def check_done(
        self, work: Work, taken: Mapping[str, Sequence[Observation]], traces: Collection[Trace], gather: Gather
    ) -> None:
        """Note what of an interval was decided on otherwise than by the rules that it counts as read under from now on.

        All of it is done, so it is not among the `traces`: it was decided on in a run that did not complete it.
        """
        if not work.completes or len(traces) == len(taken):
            return
        session = self.session
        notes = session.ledger.traces(session.source_id, taken.keys() - {trace.trace_id for trace in traces})
        exceptional: list[str] = []
        for trace_id, note in notes.items():
            is_left_out = note.project is None
            if is_left_out and (note.exceptional or note.left_out_by is None or note.rules == session.digest):
                continue
            if note.exceptional and not (work.sends.contains(note.earliest_ms) and note.newest_ms < work.sends.end):
                continue  # the rules of another time may be what it differs from
            trace = gather(Trace(trace_id, [], list(taken[trace_id]), note))
            inside = [one for one in trace.others if work.sends.contains(one.start_ms)]
            if self.read_under.is_exceptional(work, trace, inside, is_sent=not is_left_out):
                exceptional.append(trace_id)  # until it is completed, maybe: nothing forgets it before
        session.ledger.note_exceptional(session.source_id, exceptional)

    def end(self, undelivered: Collection[str]) -> None:
        """Store which traces that were left out before were sent whole."""
        if self._whole:
            self.session.ledger.end_whole(self.session.source_id, self._whole - set(undelivered))
            self._whole = set()

    def _decide(self, work: Work, trace: Trace) -> tuple[str | None, bool]:
        """Return the rule that leaves a trace out, if any, and whether it was left out and is not any more."""
        note, rules = trace.note, self.session.policy.rules
        if note is not None and note.project is not None:
            return None, False
        before = None if note is None else note.left_out_by
        if work.overrules:
            trace.overruled = before or left_out_by(rules, trace.plain, has_error=trace.has_error)
            return None, before is not None
        if before is None:
            of = self.read_under.rules_of(trace.fresh) if note is None and work.follows else [rules]
            found = [left_out_by(one, trace.plain, has_error=trace.has_error) for one in of]
            return None if None in found else found[-1], False
        is_other = note is not None and note.rules != self.session.digest
        is_error = before.startswith(SAMPLE) and rules.keep_errors and trace.has_error
        if not is_error and not (is_other and work.redecides):
            return before, False
        now = left_out_by(rules, trace.plain, has_error=trace.has_error)
        return now, now is None

    def _digest_of(self, work: Work, trace: Trace, rule: str) -> str | None:
        """Return the digest of the rules that leave a trace out: those of then where it was not decided on again."""
        note = trace.note
        stands = note is not None and note.left_out_by == rule and not work.redecides
        return note.rules if note is not None and stands else self.session.digest

    def _drop_what_was_sent(self, trace: Trace) -> list[Observation]:
        """Remove what was sent under other rules and forgotten since; return what those left out, of what is forgotten.

        Whether it was sent is not remembered by then, but the rules are, and they decide as they did.
        """
        session = self.session
        before = session.state.get(FORGOTTEN_BEFORE, fresh=True) or 0
        note = trace.note
        if not session.reread or (note is not None and note.project is None):
            return []
        sent: list[Observation] = []
        left: list[Observation] = []
        decisions = Decisions(trace)
        for observation in trace.fresh:
            if observation.start_ms >= before:
                continue
            of = [rules for interval, rules in session.reread if interval.contains(observation.start_ms)]
            if of and any(decisions.is_sent_by(rules) for rules in of):
                sent.append(observation)
            elif of:
                left.append(observation)
        trace.keep_as_context({one.id for one in sent})
        session.report.observations_unchanged += len(sent)
        return [] if note is not None and note.exceptional else left  # of such a trace what was sent is remembered

    def _leave_out(self, out: dict[str, tuple[Trace, str, str | None]], choice: Choice) -> set[str]:
        """Store traces that are left out; return those that another run has begun to send."""
        session = self.session
        notes: list[TraceNote] = []
        observations: dict[str, list[tuple[ObservationKey, int, int, bytes]]] = {}
        for trace_id, (trace, rule, digest) in out.items():
            notes.append(self.notes.of_left_out(trace, rule, digest))
            waiting = choice.pending.get(trace_id, [])
            observations[trace_id] = [as_done(one) for one in (*trace.fresh, *waiting)]
        taken = session.ledger.leave_out_traces(session.source_id, notes, observations)
        if taken:
            known = session.ledger.traces(session.source_id, taken)
            for trace_id in taken:
                out[trace_id][0].note = known.get(trace_id)
        for note in notes:
            if note.trace_id in taken:
                continue
            trace, rule, _ = out[note.trace_id]
            choice.pending.pop(note.trace_id, None)
            session.report.observations_filtered += len(observations[note.trace_id])
            if trace.note is None or trace.note.left_out_by != rule:
                session.report.traces_filtered += 1
                session.report.filtered[rule] += 1
            trace.note = note
        return taken

    def _bring_back(self, traces: Sequence[Trace], forgotten: Counter[int]) -> None:
        session = self.session
        for trace in traces:
            note = self.notes.of_pending(trace)
            pending = trace.note is not None and trace.note.pending
            trace.note = replace(
                note, pending=pending, pending_ms=note.pending_ms if pending else None, left_out_by=None, rules=None
            )
        session.ledger.bring_back(
            session.source_id, [trace.note for trace in traces if trace.note is not None], forgotten
        )


def _is_inside(trace: Trace, interval: Interval) -> bool:
    """Whether nothing of a trace starts outside an interval, as far as its root shows."""
    observations = trace.observations
    has_root = any(one.is_trace_root and not one.is_open for one in observations)
    ends = max(max(one.start_ms, one.end_ms or 0) for one in observations)
    return has_root and ends < interval.end and all(interval.contains(one.start_ms) for one in observations)
