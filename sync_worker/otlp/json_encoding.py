"""Requests and spans as OTLP/JSON, made from their protobuf. Pure.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: names in lowerCamelCase, ids in hex, integers of 64
bits as text, enums as numbers. Of OTLP it writes what `spans.encode` does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

from sync_worker.otlp.batches import request_of
from sync_worker.spans.encode import serialize

if TYPE_CHECKING:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

    from sync_worker.spans.span_model import Span

#: Doubles for which JSON has no number, by Python's names.
_NO_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def as_json(request: bytes) -> bytes:
    """Return a serialised ExportTraceServiceRequest as JSON in UTF-8. Raises DecodeError for what is none."""
    message = ExportTraceServiceRequest.FromString(request)
    whole = {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(group.resource.attributes)},
                "scopeSpans": [_scope_spans(member) for member in group.scope_spans],
            }
            for group in message.resource_spans
        ]
    }
    return orjson.dumps(whole)  # with an empty list too: Rotel refuses {}


def spans_as_json(spans: Iterable[Span]) -> bytes:
    """Return spans as the request they would be sent in, as JSON in UTF-8."""
    return as_json(request_of(serialize(span) for span in spans))


def logs_as_json(request: bytes) -> bytes:
    """Return a serialised ExportLogsServiceRequest as JSON in UTF-8. Raises DecodeError for what is none."""
    # Imported where it is used: few targets take logs.
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest  # noqa: PLC0415

    message = ExportLogsServiceRequest.FromString(request)
    whole = {
        "resourceLogs": [
            {
                "resource": {"attributes": _attributes(group.resource.attributes)},
                "scopeLogs": [
                    {
                        "scope": {"name": member.scope.name},
                        "logRecords": [_log_record(record) for record in member.log_records],
                    }
                    for member in group.scope_logs
                ],
            }
            for group in message.resource_logs
        ]
    }
    return orjson.dumps(whole)


def _log_record(record: LogRecord) -> dict[str, Any]:
    made: dict[str, Any] = {
        "timeUnixNano": str(record.time_unix_nano),
        "observedTimeUnixNano": str(record.observed_time_unix_nano),
        "severityNumber": record.severity_number,
        "eventName": record.event_name,
        "attributes": _attributes(record.attributes),
    }
    if record.trace_id:
        made["traceId"] = record.trace_id.hex()
    if record.span_id:
        made["spanId"] = record.span_id.hex()
    return made


def _scope_spans(group: ScopeSpans) -> dict[str, Any]:
    scope: dict[str, Any] = {"name": group.scope.name}
    if group.scope.version:
        scope["version"] = group.scope.version
    if group.scope.attributes:
        scope["attributes"] = _attributes(group.scope.attributes)
    return {"scope": scope, "spans": [_span(span) for span in group.spans]}


def _span(span: ProtoSpan) -> dict[str, Any]:
    made: dict[str, Any] = {"traceId": span.trace_id.hex(), "spanId": span.span_id.hex()}
    if span.parent_span_id:
        made["parentSpanId"] = span.parent_span_id.hex()
    made |= {
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start_time_unix_nano),
        "endTimeUnixNano": str(span.end_time_unix_nano),
        "attributes": _attributes(span.attributes),
    }
    if span.dropped_attributes_count:
        made["droppedAttributesCount"] = span.dropped_attributes_count
    if span.events:
        made["events"] = [
            {
                "timeUnixNano": str(event.time_unix_nano),
                "name": event.name,
                "attributes": _attributes(event.attributes),
            }
            for event in span.events
        ]
    if span.HasField("status"):
        status: dict[str, Any] = {"code": span.status.code}
        if span.status.message:
            status["message"] = span.status.message
        made["status"] = status
    return made


def _attributes(attributes: Iterable[KeyValue]) -> list[dict[str, Any]]:
    return [{"key": attribute.key, "value": _value(attribute.value)} for attribute in attributes]


def _value(value: AnyValue) -> dict[str, Any]:
    match value.WhichOneof("value"):
        case "string_value":
            return {"stringValue": value.string_value}
        case "bool_value":
            return {"boolValue": value.bool_value}
        case "int_value":
            return {"intValue": str(value.int_value)}
        case "double_value":
            number = value.double_value
            return {"doubleValue": number if math.isfinite(number) else _NO_NUMBERS[str(number)]}
        case "array_value":
            return {"arrayValue": {"values": [_value(item) for item in value.array_value.values]}}
    return {}
