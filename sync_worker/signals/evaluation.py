"""A score as the `gen_ai.evaluation.result` log event of OpenTelemetry's GenAI conventions, for other OTLP targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import SEVERITY_NUMBER_INFO, LogRecord

from sync_worker.configured import ScoreOverride
from sync_worker.records import Score, ScoreConfig
from sync_worker.signals.content import content_of
from sync_worker.signals.mapping import rate
from sync_worker.signals.signal_model import Attribution
from sync_worker.spans.ids import otlp_span_id, otlp_trace_id

EVENT_NAME = "gen_ai.evaluation.result"
#: What a score becomes.
Event = LogRecord
_NS_PER_MS = 1_000_000
_SCOPE = "langfuse-kelet-sync"
_LAST_NS = 2**64 - 1


def to_event(
    score: Score,
    project_id: str,
    attribution: Attribution,
    config: ScoreConfig | None = None,
    override: ScoreOverride | None = None,
    *,
    text: Callable[[str], str],
    identifier: Callable[[str], str],
    supersedes: bytes | None = None,
) -> LogRecord:
    """Return a score as a log record. A number without a known range goes as it is, since the event has no range.

    `project_id` is Langfuse's. `supersedes` is the content that was sent of it before. `text` and `identifier`
    redact. Raises as they do.
    """
    time = min(_LAST_NS, max(0, score.timestamp_ms * _NS_PER_MS))
    event = LogRecord(
        event_name=EVENT_NAME, time_unix_nano=time, observed_time_unix_nano=time, severity_number=SEVERITY_NUMBER_INFO
    )
    if score.trace_id is not None:
        event.trace_id = bytes.fromhex(otlp_trace_id(project_id, score.trace_id))
        if score.observation_id is not None:
            event.span_id = bytes.fromhex(otlp_span_id(project_id, score.trace_id, score.observation_id))
    number = rate(score, config, override)
    if number is None and isinstance(score.value, int | float) and not isinstance(score.value, bool):
        number = float(score.value)
    label = score.value if isinstance(score.value, str) else None
    values: dict[str, str | float | None] = {
        "gen_ai.evaluation.name": text(score.name),
        "gen_ai.evaluation.score.value": number,
        "gen_ai.evaluation.score.label": None if label is None else text(label),
        "gen_ai.evaluation.explanation": None if score.comment is None else text(score.comment),
        "session.id": attribution.session_id,
        "gen_ai.conversation.id": attribution.session_id or attribution.shown_trace_id,
        "user.id": attribution.user_id,
        "langfuse.score.id": identifier(score.id),
        "langfuse.score.source": score.source,
        "langfuse.score.data_type": score.type,
        "langfuse.score.revision": content_of(score).hex(),
        "langfuse.score.supersedes": None if supersedes is None else supersedes.hex(),
    }
    event.attributes.extend(_pair(key, value) for key, value in values.items() if value is not None)
    return event


def to_request(event: LogRecord, resource: Mapping[str, str]) -> bytes:
    """Return the body of one OTLP/HTTP request for logs; `resource` are attributes of its resource."""
    request = ExportLogsServiceRequest()
    logs = request.resource_logs.add()
    logs.resource.attributes.extend(_pair(key, value) for key, value in resource.items())
    scope = logs.scope_logs.add()
    scope.scope.name = _SCOPE
    scope.log_records.append(event)
    return request.SerializeToString()


def _pair(key: str, value: str | float) -> KeyValue:
    if isinstance(value, str):
        return KeyValue(key=key, value=AnyValue(string_value=value))
    return KeyValue(key=key, value=AnyValue(double_value=value))
