"""Spans as OTLP/JSON."""

from __future__ import annotations

import json

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sync_worker.otlp.json_encoding import spans_as_json
from sync_worker.spans.encode import to_proto
from sync_worker.spans.span_model import Event, Scope, Span

TRACE, ID = "0af7651916cd43dd8448eb211c80319c", "00000000000000a1"


def made(**changes: object) -> Span:
    known: dict[str, object] = {
        "trace_id": TRACE, "span_id": ID, "parent_id": "", "name": "call", "kind": 3, "start_ns": 1, "end_ns": 2,
        "attributes": {"text": "a\ud800", "yes": True, "n": 2**60, "x": 0.5, "list": ["a"], "none": []},
        "resource": {"service.name": "shop"}, "scope": Scope("my.app", "1.0", {"a": 1}),
    }  # fmt: skip
    return Span(**(known | changes))  # type: ignore[arg-type]


def test_a_span_is_as_it_is_sent() -> None:
    """Who tries a case would see another span than the one that Kelet gets."""
    span = made(
        parent_id="00000000000000b2",
        events=[Event("exception", 2, {"exception.type": "E"})],
        status_code=2,
        status_message="no",
        dropped_attributes=1,
    )
    (reported,) = json.loads(spans_as_json([span]))["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert (reported["traceId"], reported["spanId"], reported["parentSpanId"]) == (TRACE, ID, "00000000000000b2")
    assert reported["startTimeUnixNano"] == "1"
    for key in ("traceId", "spanId", "parentSpanId"):  # protobuf's own JSON has ids in base64
        reported.pop(key)
    there = json_format.MessageToDict(to_proto(span), use_integers_for_enums=True)
    for key in ("traceId", "spanId", "parentSpanId"):
        there.pop(key)
    assert _without_defaults(reported) == _without_defaults(there)


def _without_defaults(value: object) -> object:
    """Leave out what protobuf leaves out."""
    if isinstance(value, dict):
        return {key: _without_defaults(item) for key, item in value.items() if item != []}
    return [_without_defaults(item) for item in value] if isinstance(value, list) else value


def test_groups() -> None:
    """A reader of the file would find a resource or a scope in two places, or two as one."""
    spans = [
        made(),
        made(scope=Scope("other")),
        made(),
        made(scope=Scope("my.app", "1.0", {"a": True})),
        made(resource={"service.name": "shop", "n": 1}),
        made(resource={"service.name": "shop", "n": 1.0}),
    ]
    reported = json.loads(spans_as_json(spans))["resourceSpans"]
    assert [[len(scope["spans"]) for scope in group["scopeSpans"]] for group in reported] == [[2, 1, 1], [1], [1]]


def test_what_json_has_no_number_for() -> None:
    """NaN in the output is no JSON."""
    made_of = spans_as_json([made(attributes={"a": float("nan"), "b": float("inf"), "c": 2**64})])
    text = json.dumps(json.loads(made_of), allow_nan=False)
    assert '{"doubleValue": "nan"}' not in text
    assert '{"doubleValue": "NaN"}' in text
    assert '{"doubleValue": "Infinity"}' in text
    assert '{"stringValue": "18446744073709551616"}' in text


def test_it_can_be_read_as_a_request() -> None:
    """Other tools that take OTLP/JSON would refuse the file; ids apart, which protobuf's reader wants in base64."""
    reported = json.loads(spans_as_json([made()]))
    for key in ("traceId", "spanId"):
        reported["resourceSpans"][0]["scopeSpans"][0]["spans"][0].pop(key)
    (found,) = json_format.ParseDict(reported, ExportTraceServiceRequest()).resource_spans
    assert found.scope_spans[0].spans[0].kind == 3
