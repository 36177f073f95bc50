"""OTLP requests for tests, made by hand rather than by the code under test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

START_NS = 1_795_000_000_000_000_000
MS = 1_000_000


def any_value(value: Any) -> AnyValue:
    """Return a Python value in OTLP's form."""
    match value:
        case None:
            return AnyValue()
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case Mapping():
            return AnyValue(kvlist_value=KeyValueList(values=pairs(value)))
        case list() | tuple():
            return AnyValue(array_value=ArrayValue(values=[any_value(item) for item in value]))
        case _:
            return AnyValue(string_value=str(value))


def pairs(values: Mapping[str, Any]) -> list[KeyValue]:
    """Return attributes in OTLP's form."""
    return [KeyValue(key=key, value=any_value(value)) for key, value in values.items()]


def span(
    name: str = "step",
    *,
    id: int = 1,  # noqa: A002
    parent: int | None = None,
    trace: int = 1,
    start_ms: float = 0,
    ms: float = 1000,
    error: str | None = None,
    events: Iterable[Span.Event] = (),
    **attributes: Any,
) -> Span:
    """Return a span; a double underscore in the name of an attribute stands for a dot."""
    start = START_NS + round(start_ms * MS)
    return Span(
        trace_id=trace.to_bytes(16, "big"),
        span_id=id.to_bytes(8, "big"),
        parent_span_id=b"" if parent is None else parent.to_bytes(8, "big"),
        name=name,
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=start,
        end_time_unix_nano=start + round(ms * MS),
        status=None if error is None else Status(code=Status.STATUS_CODE_ERROR, message=error),
        attributes=pairs({key.replace("__", "."): value for key, value in attributes.items()}),
        events=events,
    )


def request(
    *spans: Span, resource: Mapping[str, Any] | None = None, scope: InstrumentationScope | None = None
) -> ExportTraceServiceRequest:
    """Return a request with these spans under one resource and one scope."""
    under = ScopeSpans(scope=scope or InstrumentationScope(name="test", version="1"), spans=spans)
    reported = Resource(attributes=pairs(resource or {"service.name": "svc"}))
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=reported, scope_spans=[under])])
