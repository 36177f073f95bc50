"""What all stages and runs of one source share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sync_worker.configured import Route
from sync_worker.corrected import CorrectedClock
from sync_worker.intervals import Interval
from sync_worker.langfuse.reader import Reader
from sync_worker.ledger import Ledger, TraceNote, source_scope
from sync_worker.ledger.state_keys import State
from sync_worker.otlp.delivery import Delivery
from sync_worker.pipeline.daily_limit import DailyLimit
from sync_worker.pipeline.lanes import Routing
from sync_worker.pipeline.limits import Limits
from sync_worker.pipeline.readiness import ReadinessLimits
from sync_worker.pipeline.report import SourceReport
from sync_worker.records import Observation
from sync_worker.redaction.protection import NOTHING, Protection
from sync_worker.selection import NO_RULES, SelectionRules
from sync_worker.settings import Settings
from sync_worker.spans.context import TraceContext
from sync_worker.spans.span_model import Conversion

#: Under this key a stored context has the digest of the rules that redacted it.
RULES = "rules"


@dataclass(frozen=True, slots=True)
class Policy:
    """What follows from the settings for sending. Times in milliseconds."""

    project: str
    routes: Sequence[Route]
    conversion: Conversion
    resend_changed: bool
    deepest_ms: int  # the longest lookback window
    rules: SelectionRules = NO_RULES


@dataclass(slots=True)
class Session:
    """A source in a run: its reader, delivery, state and report. `settings` are as they are for this source."""

    source_id: int
    settings: Settings
    policy: Policy
    readiness_limits: ReadinessLimits
    limits: Limits
    ledger: Ledger
    reader: Reader
    delivery: Delivery
    report: SourceReport
    clock: CorrectedClock
    daily_limit: DailyLimit | None
    protection: Protection = NOTHING
    #: What another run claims: its observations only give context of their trace.
    claimed: Sequence[Interval] = ()
    #: What a backfill reads again, with the rules that it was read under.
    reread: Sequence[tuple[Interval, SelectionRules]] = ()
    #: The digest of the rules of this run.
    digest: str = field(init=False)
    routing: Routing = field(init=False)
    state: State = field(init=False)

    def __post_init__(self) -> None:
        self.routing = Routing(self.policy.project, self.policy.routes, self.delivery, self.protection.may_show)
        self.state = self.ledger.state(source_scope(self.source_id))
        self.digest = self.policy.rules.digest

    def known_context(self, trace_id: str, note: TraceNote | None) -> TraceContext | None:
        """Return the stored context of a trace; None where there is none, or where other rules redacted it."""
        if note is None or self.is_stale(note):
            return None
        return TraceContext.from_json(trace_id, note.context)

    def is_stale(self, note: TraceNote) -> bool:
        """Whether the stored context of a trace was redacted by other rules than those of now."""
        return bool(note.context.get(RULES, "") != self.protection.digest)

    def as_stored(self, context: TraceContext) -> dict[str, Any]:
        """Return a context as it is stored, with the digest of the rules that redacted it."""
        digest = self.protection.digest
        return context.as_json() | ({RULES: digest} if digest else {})

    def is_claimed(self, observation: Observation) -> bool:
        """Whether another run sends this observation."""
        return any(interval.contains(observation.start_ms) for interval in self.claimed)

    def claimed_by_others(
        self, taken: Mapping[str, Sequence[Observation]], sends: Interval
    ) -> dict[str, list[Observation]]:
        """Return, by trace, what starts in `sends`, is not done, and is claimed by another run; its trace is pending.

        What has no trace cannot be pending: the other run reads all that it claims.
        """
        if not self.claimed:
            return {}
        done = self.ledger.completed_observations(self.source_id, taken)
        left: dict[str, list[Observation]] = {}
        for trace_id, observations in taken.items():
            for observation in observations:
                if (
                    observation.trace_id is not None
                    and sends.contains(observation.start_ms)
                    and self.is_claimed(observation)
                    and (trace_id, observation.id) not in done
                ):
                    left.setdefault(trace_id, []).append(observation)
        return left
