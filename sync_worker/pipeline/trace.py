"""What the stages pass on: a trace with its observations, and a part of it that is converted together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from sync_worker.ledger import TraceNote
from sync_worker.records import Observation
from sync_worker.redaction.protection import RedactionFailed
from sync_worker.spans.context import TraceContext, trace_of
from sync_worker.spans.fingerprint import fingerprint
from sync_worker.spans.span_model import ObservationKey


@dataclass(slots=True)
class Trace:
    """A trace with the observations read: `fresh` are to be sent, `others` only give context."""

    trace_id: str
    fresh: list[Observation]
    others: list[Observation] = field(default_factory=list)
    note: TraceNote | None = None
    left_out: list[Observation] = field(default_factory=list)  # what a direct export would not have
    is_sent: bool = False  # whether a span of it was passed to the delivery
    is_open: bool = False  # it is sent although no root of it has ended
    exceptional: bool = False  # it is decided on otherwise than by the rules under which its time was read
    overruled: str | None = None  # the rule that leaves it out, and that does not count in this run
    context: TraceContext = field(init=False)
    plain: TraceContext = field(init=False)  # before redaction: only to decide by
    shown: dict[str, Observation] = field(default_factory=dict)  # by id: redacted, where there are rules
    unredacted: dict[str, RedactionFailed] = field(default_factory=dict)  # by id: why it cannot be redacted
    replaced: dict[str, Counter[str]] = field(default_factory=dict)  # by id: how much was replaced, by detector

    def __post_init__(self) -> None:
        self.context = self.plain = TraceContext(self.trace_id)

    def keep_as_context(self, ids: Collection[str]) -> None:
        """Do not send these of the fresh observations: from here on they only give context."""
        self.others += [one for one in self.fresh if one.id in ids]
        self.fresh = [one for one in self.fresh if one.id not in ids]

    @property
    def observations(self) -> list[Observation]:
        """All observations read."""
        return [*self.fresh, *self.others]

    @property
    def is_lone(self) -> bool:
        """Whether no observation to be sent has a trace: they cannot be fetched by it, so they cannot be pending."""
        return all(observation.trace_id is None for observation in self.fresh)

    @property
    def has_error(self) -> bool:
        """Whether an observation that was read has the level ERROR."""
        return any(observation.level == "ERROR" for observation in self.observations)

    @property
    def earliest_ms(self) -> int:
        """Start of the first observation seen, now or before."""
        starts = [observation.start_ms for observation in self.observations]
        return min(starts if self.note is None else [*starts, self.note.earliest_ms])

    @property
    def newest_ms(self) -> int:
        """Latest start, end or update of an observation seen, now or before."""
        moments = [observation.last_ms for observation in self.observations]
        return max(moments if self.note is None else [*moments, self.note.newest_ms])


@dataclass(slots=True)
class TracePart:
    """Fresh observations of a trace that are sent together: all of them, within the memory limit."""

    trace: Trace
    observations: list[Observation] = field(default_factory=list)
    resolved: dict[str, Observation] = field(default_factory=dict)  # by id: with truncated fields resolved

    @property
    def others(self) -> list[Observation]:
        """All other observations of the trace that were read, as they may be sent."""
        own = {observation.id for observation in self.observations}
        shown = self.trace.shown
        return [shown.get(one.id, one) for one in self.trace.observations if one.id not in own]


def as_done(observation: Observation) -> tuple[ObservationKey, int, int, bytes]:
    """Return what is stored of an observation that is done without being sent: start and update in Unix ms."""
    try:
        known = fingerprint(observation)
    except Exception:  # noqa: BLE001 - it is not sent, so what it holds does not matter
        known = b""
    key = ObservationKey(trace_of(observation), observation.id)
    return key, observation.start_ms, observation.updated_ms or 0, known
