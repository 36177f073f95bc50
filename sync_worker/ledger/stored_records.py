"""What the ledger gives and takes. Times are Unix milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sync_worker.intervals import Interval


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source as the ledger stores it: a pair of a Langfuse project and a target."""

    id: int
    langfuse_url: str
    project_id: str
    target: str
    project_name: str
    organization_id: str
    sync_start_ms: int | None
    checked_ms: int


@dataclass(frozen=True, slots=True)
class SentObservation:
    """A completed observation: accepted by Kelet, or dead-lettered, in this very state."""

    updated_ms: int
    fingerprint: bytes
    dead_lettered: bool = False  # a dead letter stands for it; without a fingerprint when it could not be read


@dataclass(frozen=True, slots=True)
class TraceNote:
    """What is remembered of a trace. `context` is JSON as `TraceContext.as_json` gives it."""

    trace_id: str
    pending: bool
    earliest_ms: int
    newest_ms: int
    check_ms: int = 0
    pending_ms: int | None = None
    project: str | None = None
    context: dict[str, Any] = field(default_factory=dict)
    open_ms: int | None = None  # since when it is sent but for a root that has not ended
    origin: str | None = None  # the setting that decided the project, as `spans.routing` names it; None: not known
    left_out_by: str | None = None  # the rule that leaves the trace out, as `selection` names it
    rules: str | None = None  # the digest of the rules that it belongs to
    exceptional: bool = False  # sent, or left out, otherwise than the rules say that its time was read under

    @property
    def id_kind(self) -> str:
        """The kind of its ids, as `TraceContext` has it; empty where it is not known."""
        return str(self.context.get("id_kind", ""))


@dataclass(frozen=True, slots=True)
class ReadScores:
    """An interval of the dates of scores in which those of a selection of names were read, and taken.

    `window_ms` is 0 where a backfill read all that there were. Else the live sync took those that were created no
    longer after their date, and has forgotten what became of them.
    """

    interval: Interval
    selection: str
    window_ms: int = 0


@dataclass(frozen=True, slots=True)
class Pending:
    """How many traces are pending, and since when the oldest."""

    count: int
    oldest_ms: int | None


#: Stands between the digests of several rules that an interval was read under.
PLUS = "+"


class CompletedInterval(NamedTuple):
    """A completed interval: whose it is, and the rules that it was read under, by digest and as text."""

    interval: Interval
    role: str
    rules: str  # empty: none that are known; several with a plus between them: what one let in was sent
    rules_text: str

    def is_under(self, digest: str) -> bool:
        """Whether rules with this digest leave nothing more to be sent of it."""
        return not self.rules or digest in self.rules.split(PLUS)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What of a source waits for its time: when the first of each kind is due, and how many traces are open."""

    second_read_ms: int | None
    retry_ms: int | None
    open_traces: int
    open_since_ms: int | None  # the oldest of them
    open_check_ms: int | None
    pending_check_ms: int | None

    def has_due(self, now_ms: int) -> bool:
        """Whether anything but open traces is due by now."""
        return any(is_due(moment, now_ms) for moment in (self.second_read_ms, self.retry_ms, self.pending_check_ms))


def is_due(moment_ms: int | None, now_ms: int) -> bool:
    """Whether a moment has come; None never comes."""
    return moment_ms is not None and moment_ms <= now_ms


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead-lettered span, observation or score, and the reason. `id` is None until it is stored."""

    source_id: int
    kind: str  # rejected, unreadable, partial, redaction, score
    reason: str
    made_ms: int
    trace_id: str | None = None
    observation_id: str | None = None
    status: int | None = None
    project: str | None = None
    start_ms: int | None = None
    fingerprint: bytes | None = None
    raw: str | None = None
    spans: int = 1
    tries: int = 0  # automatic retries
    next_try_ms: int | None = None  # next automatic retry; None: never
    until_ms: int | None = None  # where its start is only known to lie in `[start_ms, until_ms)`
    score_id: str | None = None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class DeadLetterGroup:
    """Dead letters of a source of one kind and HTTP status (None: nothing was sent): spans, the first and the last."""

    kind: str
    status: int | None
    spans: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class SecondRead:
    """A second read: a completed observation that may have been a mix of two versions, to be read once more."""

    trace_id: str
    observation_id: str
    start_ms: int
    due_ms: int
    tries: int = 0  # how often it was read again without a result


@dataclass(frozen=True, slots=True)
class ScoreNote:
    """What is remembered of a score: no content, only what distinguishes one content from another.

    `state` is one of waiting (`reason`: pending, not_synced, no_trace, not_found, failing), sent, filtered (`reason`:
    the rule), gone, no_trace, experiment, ignored (an edit), rejected, deleted.
    """

    score_id: str
    content: bytes
    timestamp_ms: int
    trace_id: str | None
    session_id: str | None
    state: str
    seen_ms: int
    reason: str | None = None
    check_ms: int = 0
    tries: int = 0
    sent_ms: int | None = None
    sent_content: bytes | None = None
    project: str | None = None
