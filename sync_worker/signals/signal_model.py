"""A signal as Kelet takes it, and what decides where it belongs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sync_worker.json_text import dump


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where a signal belongs: the project and the session id that the spans of its trace carry.

    `shown_trace_id` is the trace's id in Langfuse as it may be shown: that of its session where it has none.
    """

    project: str
    session_id: str | None = None
    user_id: str | None = None
    shown_trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal. At least one of `session_id` and `trace_id` is set; `score` is in 0..1, and 1 is good."""

    kind: str  # feedback, edit, event, metric, arbitrary
    source: str  # human, label, synthetic
    trigger_name: str
    timestamp: str  # ISO 8601 with an offset
    session_id: str | None = None
    trace_id: str | None = None  # 32 hex digits, as the spans have it
    score: float | None = None
    value: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object of Kelet's signal endpoint; what is not set is left out."""
        values = {
            "session_id": self.session_id,
            "trace_id": self.trace_id,
            "kind": self.kind,
            "source": self.source,
            "trigger_name": self.trigger_name,
            "score": self.score,
            "value": self.value,
            "metadata": self.metadata or None,
            "timestamp": self.timestamp,
        }
        return {name: value for name, value in values.items() if value is not None}

    def body(self) -> bytes:
        """Return the body of the request."""
        return dump(self.as_json()).encode()


@dataclass(frozen=True, slots=True)
class EncodedSignal:
    """A signal on its way: its score, the content that it states, its project and the body of its request."""

    score_id: str
    content: bytes
    timestamp_ms: int
    trace_id: str | None  # Langfuse's; None for a score on a session
    project: str
    body: bytes
