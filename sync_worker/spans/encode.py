"""Spans as protobuf. A span is serialised once; requests are put together from the bytes (see `kelet`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

from sync_worker.json_text import utf8
from sync_worker.records import Observation
from sync_worker.spans.context import trace_of
from sync_worker.spans.fingerprint import fingerprint
from sync_worker.spans.sizes import cut_text, cut_value
from sync_worker.spans.span_model import (
    AttributeValue,
    EncodedSpan,
    ObservationKey,
    Scope,
    SharedAttributes,
    SharedValue,
    Span,
)
from sync_worker.spans.wire import AttributeWriter, head_of

_INT64 = 2**63
_NOTHING: Mapping[str, int] = MappingProxyType({})
_HELD = 16  # serialised resources, and scopes, that are held
_SMALL = 16_384  # bytes of one that is: memory must not depend on what strangers write


class _Repeated(Protocol):
    """A repeated field of key-values."""

    def add(self) -> KeyValue:
        """Add an empty one and return it."""


def encode(
    observation: Observation,
    span: Span,
    project: str,
    read_again_ms: int | None = None,
    replaced: Mapping[str, int] | None = None,
) -> EncodedSpan:
    """Return the span as it goes out, with what is remembered of its observation once it has arrived.

    `replaced` is how much redaction replaced in it, by detector.
    """
    resource, scope, message = serialize(span)
    return EncodedSpan(
        key=ObservationKey(trace_of(observation), observation.id),
        project=project,
        trace_id=span.trace_id,
        resource=resource,
        scope=scope,
        span=message,
        start_ms=observation.start_ms,
        updated_ms=observation.updated_ms or 0,
        fingerprint=fingerprint(observation),
        read_again_ms=read_again_ms,
        replaced=replaced or _NOTHING,
    )


def serialize(span: Span) -> tuple[bytes, bytes, bytes]:
    """Return the serialised resource, scope and span, of which a request is put together."""
    is_shared = type(span.resource) is type(span.scope.attributes) is MappingProxyType  # and so cannot change
    resource = _RESOURCES.bytes_of(span.resource) if is_shared else _resource(span.resource)
    scope = _SCOPES.bytes_of(span.scope) if is_shared else _scope(span.scope)
    return resource, scope, _span(span)


def to_proto(span: Span) -> ProtoSpan:
    """Return the span as an OpenTelemetry protobuf message, whose bytes are those of `serialize`."""
    message = ProtoSpan(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_id),
        name=utf8(span.name),
        kind=span.kind,  # type: ignore[arg-type]
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        dropped_attributes_count=span.dropped_attributes,
    )
    _fill(message.attributes, span.attributes)
    _fill_end(message, span)
    return message


def _fill_end(message: ProtoSpan, span: Span) -> None:
    """Add status and events, which most spans lack."""
    if span.status_code:
        message.status.code = span.status_code  # type: ignore[assignment]
        message.status.message = utf8(span.status_message)
    for event in span.events:
        added = message.events.add(name=utf8(event.name), time_unix_nano=event.time_ns)
        _fill(added.attributes, event.attributes)


def _span(span: Span) -> bytes:
    parts = [head_of(span, utf8(span.name).encode()), *_WRITER.write(span.attributes)]
    if span.status_code or span.events or span.dropped_attributes:
        rest = ProtoSpan(dropped_attributes_count=span.dropped_attributes)
        _fill_end(rest, span)
        parts.append(rest.SerializeToString())
    return b"".join(parts)


def _attribute(key: str, value: AttributeValue) -> bytes:
    message = ProtoSpan()
    _fill(message.attributes, {key: value})
    return message.SerializeToString()


_WRITER = AttributeWriter(_attribute)


def attribute_texts(span: EncodedSpan, *names: str) -> dict[str, str]:
    """Return the name of a span, as `name`, and those of these attributes that are texts."""
    message = ProtoSpan.FromString(span.span)
    found = {one.key: one.value.string_value for one in message.attributes if one.key in names}
    return {"name": message.name, **found}


def shrink(span: EncodedSpan, max_value_bytes: int) -> EncodedSpan:
    """Return the span with every text cut to `max_value_bytes`, for a receiver that takes no more."""
    message = ProtoSpan.FromString(span.span)
    message.name = cut_text(message.name, max_value_bytes)
    if message.HasField("status"):
        message.status.message = cut_text(message.status.message, max_value_bytes)
    for attributes in (message.attributes, *(event.attributes for event in message.events)):
        for attribute in attributes:
            _shrink(attribute, max_value_bytes)
    return span._replace(span=message.SerializeToString())


def _shrink(attribute: KeyValue, max_value_bytes: int) -> None:
    if attribute.value.HasField("string_value"):
        text = attribute.value.string_value
        _set(attribute.value, cut_value(attribute.key, text, max_value_bytes))
    elif attribute.value.HasField("array_value"):
        values = attribute.value.array_value.values
        if all(item.HasField("string_value") for item in values):
            texts = [item.string_value for item in values]
            attribute.value.Clear()
            _set(attribute.value, cut_value(attribute.key, texts, max_value_bytes))


_T = TypeVar("_T")


class _Shared(Generic[_T]):
    """Bytes of what the spans of a trace share, by its identity; of the last that were serialised."""

    def __init__(self, serialize: Callable[[_T], bytes]) -> None:
        self._serialize = serialize
        self._last: dict[int, tuple[_T, bytes]] = {}  # what was serialised is held, so that nothing else has its id

    def bytes_of(self, shared: _T) -> bytes:
        found = self._last.get(id(shared))
        if found is not None:
            return found[1]
        written = self._serialize(shared)
        if len(written) <= _SMALL:
            if len(self._last) >= _HELD:
                self._last.clear()
            self._last[id(shared)] = shared, written
        return written


def _resource(attributes: SharedAttributes) -> bytes:
    resource = Resource()
    _fill(resource.attributes, attributes)
    return resource.SerializeToString(deterministic=True)


def _scope(scope: Scope) -> bytes:
    message = InstrumentationScope(name=utf8(scope.name), version=utf8(scope.version))
    _fill(message.attributes, scope.attributes)
    return message.SerializeToString(deterministic=True)


_RESOURCES, _SCOPES = _Shared(_resource), _Shared(_scope)


def _fill(target: _Repeated, attributes: SharedAttributes) -> None:
    """Add attributes to a message in place: copies of messages made elsewhere cost several times as much."""
    for key, value in attributes.items():
        added = target.add()
        try:
            added.key = key
            _set(added.value, value)
        except UnicodeEncodeError:  # a lone surrogate
            added.key = utf8(key)
            _set(
                added.value,
                [utf8(str(item)) for item in value] if isinstance(value, list | tuple) else utf8(str(value)),
            )


def _set(target: AnyValue, value: SharedValue) -> None:
    if isinstance(value, str):
        target.string_value = value
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        if -_INT64 <= value < _INT64:
            target.int_value = value
        else:
            target.string_value = str(value)
    elif isinstance(value, float):
        target.double_value = value
    else:
        target.array_value.SetInParent()
        for item in value:
            _set(target.array_value.values.add(), item)
