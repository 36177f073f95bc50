"""Spans as OTLP/JSON, to be read by people and by what takes such files.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: ids in hex, integers of 64 bits as text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sync_worker.json_text import utf8
from sync_worker.spans.model import Attributes, AttributeValue, Event, Scope, Span

_INT64 = 2**63
#: Doubles for which JSON has no number, by Python's names.
_NO_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def otlp_json(spans: Iterable[Span]) -> dict[str, Any]:
    """Return spans as one request's object, those with the same resource and scope together, in their order."""
    groups: dict[str, tuple[Span, dict[str, tuple[Scope, list[Any]]]]] = {}
    for span in spans:
        _, scopes = groups.setdefault(_identity(span.resource), (span, {}))
        named = f"{span.scope.name}\n{span.scope.version}\n{_identity(span.scope.attributes)}"
        scopes.setdefault(named, (span.scope, []))[1].append(_span(span))
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(first.resource)},
                "scopeSpans": [{"scope": _scope(scope), "spans": members} for scope, members in scopes.values()],
            }
            for first, scopes in groups.values()
        ]
    }


def _identity(attributes: Attributes) -> str:
    """Return text by which attributes are told apart, 1 from 1.0 and true."""
    return repr(sorted(attributes.items(), key=lambda item: item[0]))


def _span(span: Span) -> dict[str, Any]:
    made: dict[str, Any] = {"traceId": span.trace_id, "spanId": span.span_id}
    if span.parent_id:
        made["parentSpanId"] = span.parent_id
    made |= {
        "name": utf8(span.name),
        "kind": span.kind,
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _attributes(span.attributes),
    }
    if span.dropped_attributes:
        made["droppedAttributesCount"] = span.dropped_attributes
    if span.events:
        made["events"] = [_event(event) for event in span.events]
    if span.status_code:
        made["status"] = {"code": span.status_code, **({"message": utf8(m)} if (m := span.status_message) else {})}
    return made


def _scope(scope: Scope) -> dict[str, Any]:
    made: dict[str, Any] = {"name": utf8(scope.name)}
    if scope.version:
        made["version"] = utf8(scope.version)
    if scope.attributes:
        made["attributes"] = _attributes(scope.attributes)
    return made


def _event(event: Event) -> dict[str, Any]:
    return {
        "name": utf8(event.name),
        "timeUnixNano": str(event.time_ns),
        "attributes": _attributes(event.attributes),
    }


def _attributes(attributes: Attributes) -> list[dict[str, Any]]:
    return [{"key": utf8(key), "value": _value(value)} for key, value in attributes.items()]


def _value(value: AttributeValue) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": utf8(value)}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)} if -_INT64 <= value < _INT64 else {"stringValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value if value - value == 0 else _NO_NUMBERS[str(value)]}
    return {"arrayValue": {"values": [_value(item) for item in value]}}
