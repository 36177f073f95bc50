"""Spans as protobuf, read back with OpenTelemetry's own classes."""

import json
from dataclasses import replace

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

from sync_worker.spans.encode import encode, shrink, to_proto
from sync_worker.spans.span_model import AttributeValue, EncodedSpan, Event, ObservationKey, Scope, Span
from tests.spans.made import T0, TRACE, row

PLAIN = Span(
    trace_id=TRACE, span_id="00000000000000b2", parent_id="00000000000000a1", name="step", kind=3,
    start_ns=1_795_000_000_001_000_000, end_ns=1_795_000_000_002_000_000, attributes={}, resource={}, scope=Scope("s"),
)  # fmt: skip


def sent(span: Span) -> EncodedSpan:
    return encode(row("00000000000000b2", updated_ms=T0 + 9), span, "shop")


def values(message: ProtoSpan) -> dict[str, str]:
    return {attribute.key: attribute.value.string_value for attribute in message.attributes}


def test_whole_span() -> None:
    """What leaves the worker is these bytes: a field that is not in them is not at Kelet."""
    span = replace(
        PLAIN, attributes={"text": "ü", "yes": True, "n": 7, "x": 1.5, "texts": ["a", "b"], "ns": [1], "none": []},
        status_code=2, status_message="boom", dropped_attributes=3,
        events=[Event("exception", 1_795_000_000_002_000_000, {"exception.type": "E"})],
    )  # fmt: skip
    message = ProtoSpan.FromString(sent(span).span)
    assert message.trace_id.hex() == TRACE
    assert message.span_id.hex() == "00000000000000b2"
    assert message.parent_span_id.hex() == "00000000000000a1"
    found = MessageToDict(message)
    for key in ("traceId", "spanId", "parentSpanId"):
        del found[key]
    assert found == {
        "name": "step",
        "kind": "SPAN_KIND_CLIENT",
        "startTimeUnixNano": "1795000000001000000",
        "endTimeUnixNano": "1795000000002000000",
        "attributes": [
            {"key": "text", "value": {"stringValue": "ü"}},
            {"key": "yes", "value": {"boolValue": True}},
            {"key": "n", "value": {"intValue": "7"}},
            {"key": "x", "value": {"doubleValue": 1.5}},
            {"key": "texts", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": "b"}]}}},
            {"key": "ns", "value": {"arrayValue": {"values": [{"intValue": "1"}]}}},
            {"key": "none", "value": {"arrayValue": {}}},
        ],
        "droppedAttributesCount": 3,
        "status": {"code": "STATUS_CODE_ERROR", "message": "boom"},
        "events": [
            {
                "name": "exception",
                "timeUnixNano": "1795000000002000000",
                "attributes": [{"key": "exception.type", "value": {"stringValue": "E"}}],
            }
        ],
    }


def test_root_has_no_parent() -> None:
    """A parent of zero bytes is none; eight zeros would be an invalid one."""
    assert ProtoSpan.FromString(sent(replace(PLAIN, parent_id="")).span).parent_span_id == b""


def test_status_only_where_there_is_one() -> None:
    """Most spans have no status; an empty one differs from a direct export."""
    assert not to_proto(PLAIN).HasField("status")
    assert to_proto(replace(PLAIN, status_code=1)).status.code == 1


def test_what_is_remembered() -> None:
    """The ledger knows a span by its row, not by its own id."""
    span = replace(PLAIN, resource={"service.name": "shop"}, scope=Scope("s", "1", {"public_key": "pk"}))
    found = sent(span)
    assert (found.key, found.project, found.trace_id) == (ObservationKey(TRACE, "00000000000000b2"), "shop", TRACE)
    assert (found.start_ms, found.updated_ms) == (T0, T0 + 9)
    assert len(found.fingerprint) == 8
    assert found.size == len(found.span)
    assert MessageToDict(Resource.FromString(found.resource)) == {
        "attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]
    }
    assert MessageToDict(InstrumentationScope.FromString(found.scope)) == {
        "name": "s", "version": "1", "attributes": [{"key": "public_key", "value": {"stringValue": "pk"}}],
    }  # fmt: skip


def test_row_that_was_never_updated() -> None:
    """Older servers have no such time."""
    assert encode(row(), PLAIN, "shop").updated_ms == 0


def test_equal_resources_are_equal_bytes() -> None:
    """Spans are grouped by these bytes: a request with one resource a span is far larger."""
    one, two = sent(replace(PLAIN, resource={"a": 1})), sent(replace(PLAIN, resource={"a": 1}, name="other"))
    assert (one.resource, one.scope) == (two.resource, two.scope)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**70])
def test_integers_that_protobuf_cannot_hold(value: int) -> None:
    """One integer too large would raise, and lose the row."""
    message = to_proto(replace(PLAIN, attributes={"n": value, "list": [value]}))
    assert message.attributes[0].value.string_value == str(value)
    assert message.attributes[1].value.array_value.values[0].string_value == str(value)


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63)])
def test_largest_integers(value: int) -> None:
    """What fits stays a number."""
    assert to_proto(replace(PLAIN, attributes={"n": value})).attributes[0].value.int_value == value


def test_lone_surrogates() -> None:
    """UTF-8 cannot hold them; they may stand in any text of a span."""
    bad, good = "a\ud800", "a\ufffd"
    span = replace(
        PLAIN, name=bad, status_code=2, status_message=bad, attributes={bad: bad, "l": [bad]}, resource={bad: bad},
        scope=Scope(bad, bad, {bad: bad}), events=[Event(bad, 1, {bad: bad})],
    )  # fmt: skip
    found = sent(span)
    message = ProtoSpan.FromString(found.span)
    assert (message.name, message.status.message, message.events[0].name) == (good, good, good)
    assert values(message)[good] == good
    assert Resource.FromString(found.resource).attributes[0].key == good
    assert InstrumentationScope.FromString(found.scope).version == good


LONG: dict[str, AttributeValue] = {
    "text": "x" * 5000,
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "x" * 5000}]}]),
    "texts": ["x" * 3000, "y" * 3000],
    "n": 7,
    "ns": [1, 2],
    "short": "stays",
}


def test_shrink() -> None:
    """The last resort for a span that the receiver finds too large: it must become small, and stay what it is."""
    span = replace(
        PLAIN, name="n" * 5000, attributes=LONG, status_code=2, status_message="m" * 5000,
        events=[Event("exception", 1, {"exception.message": "e" * 5000})],
    )  # fmt: skip
    before = sent(span)
    after = shrink(before, 300)
    assert after.size < 2500
    message = ProtoSpan.FromString(after.span)
    found = values(message)
    assert found["text"] == "x" * 253 + " …[cut by the sync worker: 5000 bytes in all]"
    assert len(found["gen_ai.input.messages"].encode()) <= 300
    assert json.loads(found["gen_ai.input.messages"])[0]["role"] == "user"
    assert found["short"] == "stays"
    assert [len(text) <= 300 for text in (message.name, message.status.message)] == [True, True]
    assert len(message.events[0].attributes[0].value.string_value.encode()) <= 300
    kept = {attribute.key: attribute.value for attribute in message.attributes}
    assert kept["n"].int_value == 7
    assert [item.int_value for item in kept["ns"].array_value.values] == [1, 2]
    assert sum(len(item.string_value.encode()) for item in kept["texts"].array_value.values) <= 300
    assert (message.span_id.hex(), message.start_time_unix_nano) == ("00000000000000b2", 1_795_000_000_001_000_000)
    assert after._replace(span=before.span) == before


def test_shrink_of_a_small_span() -> None:
    """Nothing to cut, nothing to change."""
    small = sent(replace(PLAIN, attributes={"a": "x", "b": ["y"], "n": 1}))
    assert shrink(small, 300) == small
