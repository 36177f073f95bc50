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
from sync_worker.spans.sizes import cut_text, cut_value, utf8

_INT64 = 2**63


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
        name=utf8(span.name),
        kind=span.kind,  # type: ignore[arg-type]
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        attributes=_key_values(span.attributes),
        dropped_attributes_count=span.dropped_attributes,
    )
    if span.status_code:
        message.status.CopyFrom(Status(code=span.status_code, message=utf8(span.status_message)))  # type: ignore[arg-type]
    for event in span.events:
        message.events.add(
            name=utf8(event.name), time_unix_nano=event.time_ns, attributes=_key_values(event.attributes)
        )
    return message


def shrink(span: EncodedSpan, max_value_bytes: int) -> EncodedSpan:
    """Return the span with every text cut to `max_value_bytes`, for a receiver that takes no more."""
    message = ProtoSpan.FromString(span.span)
    message.name = cut_text(message.name, max_value_bytes)
    if message.HasField("status"):
        message.status.message = cut_text(message.status.message, max_value_bytes)
    for attributes in (message.attributes, *(event.attributes for event in message.events)):
        for attribute in attributes:
            _shrink(attribute, max_value_bytes)
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


def _shrink(attribute: KeyValue, max_value_bytes: int) -> None:
    if attribute.value.HasField("string_value"):
        text = attribute.value.string_value
        attribute.value.CopyFrom(_any_value(cut_value(attribute.key, text, max_value_bytes)))
    elif attribute.value.HasField("array_value"):
        values = attribute.value.array_value.values
        if all(item.HasField("string_value") for item in values):
            texts = [item.string_value for item in values]
            attribute.value.CopyFrom(_any_value(cut_value(attribute.key, texts, max_value_bytes)))


def _scope(scope: Scope) -> InstrumentationScope:
    return InstrumentationScope(
        name=utf8(scope.name), version=utf8(scope.version), attributes=_key_values(scope.attributes)
    )


def _key_values(attributes: Attributes) -> list[KeyValue]:
    return [KeyValue(key=utf8(key), value=_any_value(value)) for key, value in attributes.items()]


def _any_value(value: AttributeValue) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=utf8(value))
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value) if -_INT64 <= value < _INT64 else AnyValue(string_value=str(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[_any_value(item) for item in value]))
