"""A score as the `gen_ai.evaluation.result` log event of OpenTelemetry's GenAI conventions, for other OTLP targets."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from sync_worker.records import Score, ScoreConfig
from sync_worker.signals.mapping import rate
from sync_worker.signals.model import Attribution, Override
from sync_worker.spans.ids import otlp_span_id, otlp_trace_id

PATH = "/v1/logs"
EVENT_NAME = "gen_ai.evaluation.result"
_NS_PER_MS = 1_000_000
_SCOPE = "langfuse-kelet-sync"


def to_event(
    score: Score,
    project_id: str,
    attribution: Attribution,
    config: ScoreConfig | None = None,
    override: Override | None = None,
) -> LogRecord:
    """Return a score as a log record. A number without a known range goes as it is, since the event has no range."""
    event = LogRecord(event_name=EVENT_NAME, time_unix_nano=score.timestamp_ms * _NS_PER_MS)
    event.observed_time_unix_nano = event.time_unix_nano
    if score.trace_id is not None:
        event.trace_id = bytes.fromhex(otlp_trace_id(project_id, score.trace_id))
        if score.observation_id is not None:
            event.span_id = bytes.fromhex(otlp_span_id(project_id, score.trace_id, score.observation_id))
    number = rate(score, config, override)
    if number is None and isinstance(score.value, int | float) and not isinstance(score.value, bool):
        number = float(score.value)
    label = score.value if isinstance(score.value, str) else None
    values: dict[str, str | float | None] = {
        "gen_ai.evaluation.name": score.name,
        "gen_ai.evaluation.score.value": number,
        "gen_ai.evaluation.score.label": label,
        "gen_ai.evaluation.explanation": score.comment,
        "session.id": attribution.session_id,
        "gen_ai.conversation.id": attribution.session_id or score.trace_id,
        "user.id": attribution.user_id,
        "kelet.source.langfuse.score.id": score.id,
        "kelet.source.langfuse.score.source": score.source,
    }
    event.attributes.extend(
        KeyValue(
            key=key, value=AnyValue(string_value=value) if isinstance(value, str) else AnyValue(double_value=value)
        )
        for key, value in values.items()
        if value is not None
    )
    return event


def to_request(events: Iterable[LogRecord], service_name: str) -> bytes:
    """Return the body of one OTLP/HTTP request to `/v1/logs`."""
    request = ExportLogsServiceRequest()
    logs = request.resource_logs.add()
    logs.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value=service_name)))
    scope = logs.scope_logs.add()
    scope.scope.name = _SCOPE
    scope.log_records.extend(events)
    return request.SerializeToString()
