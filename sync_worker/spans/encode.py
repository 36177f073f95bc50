"""Spans as protobuf. A span is serialised once; requests are put together from the bytes (see `kelet`)."""

from __future__ import annotations

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from sync_worker.records import Observation
from sync_worker.spans.context import trace_of
from sync_worker.spans.fingerprint import fingerprint
from sync_worker.spans.model import Attributes, AttributeValue, EncodedSpan, RowKey, Scope, Span
from sync_worker.spans.sizes import cut_text


def encode(row: Observation, span: Span, project: str) -> EncodedSpan:
    """Return the span as it goes out, with what is remembered of its row once it has arrived."""
    return EncodedSpan(
        key=RowKey(trace_of(row), row.id),
        project=project,
        trace_id=span.trace_id,
        resource=Resource(attributes=_key_values(span.resource)).SerializeToString(deterministic=True),
        scope=_scope(span.scope).SerializeToString(deterministic=True),
        span=to_proto(span).SerializeToString(),
        start_ms=row.start_ms,
        updated_ms=row.updated_ms or 0,
        fingerprint=fingerprint(row),
    )


def to_proto(span: Span) -> ProtoSpan:
    """Return the span as an OpenTelemetry protobuf message."""
    message = ProtoSpan(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_id),
        name=_utf8(span.name),
        kind=span.kind,  # type: ignore[arg-type]
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        attributes=_key_values(span.attributes),
        dropped_attributes_count=span.dropped_attributes,
    )
    if span.status_code:
        message.status.CopyFrom(Status(code=span.status_code, message=_utf8(span.status_message)))  # type: ignore[arg-type]
    for event in span.events:
        message.events.add(
            name=_utf8(event.name), time_unix_nano=event.time_ns, attributes=_key_values(event.attributes)
        )
    return message


def shrink(span: EncodedSpan, max_value_bytes: int) -> EncodedSpan:
    """Return the span with every text attribute cut to `max_value_bytes`, for a receiver that takes no more."""
    message = ProtoSpan.FromString(span.span)
    for attribute in message.attributes:
        if attribute.value.HasField("string_value"):
            attribute.value.string_value = cut_text(attribute.value.string_value, max_value_bytes)
    return EncodedSpan(
        key=span.key,
        project=span.project,
        trace_id=span.trace_id,
        resource=span.resource,
        scope=span.scope,
        span=message.SerializeToString(),
        start_ms=span.start_ms,
        updated_ms=span.updated_ms,
        fingerprint=span.fingerprint,
    )


def _scope(scope: Scope) -> InstrumentationScope:
    return InstrumentationScope(
        name=_utf8(scope.name), version=_utf8(scope.version), attributes=_key_values(scope.attributes)
    )


def _key_values(attributes: Attributes) -> list[KeyValue]:
    return [KeyValue(key=_utf8(key), value=_any_value(value)) for key, value in attributes.items()]


def _any_value(value: AttributeValue) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=_utf8(value))
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[_any_value(item) for item in value]))


def _utf8(text: str) -> str:
    """Return the text with lone surrogates, which UTF-8 cannot hold, replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
