"""What the demo's receiver takes in, what it shows of it, and how it fails on request."""

from __future__ import annotations

import gzip
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sync_worker.demo.receiver import OtlpReceiver
from sync_worker.demo.serving import Reply
from tests.support import faults, otlp

PROTOBUF = {"Content-Type": "application/x-protobuf", "X-Kelet-Project": "shop"}


def post(
    receiver: OtlpReceiver, content: ExportTraceServiceRequest, *, zipped: bool = False, **headers: str
) -> httpx.Response:
    body = content.SerializeToString()
    sent = PROTOBUF | headers
    if zipped:
        body, sent = gzip.compress(body), sent | {"Content-Encoding": "gzip"}
    return httpx.post(f"{receiver.url}/api/traces", content=body, headers=sent)


def test_shows_all_of_a_span(receiver: OtlpReceiver) -> None:
    """What a test cannot see in the receiver, it cannot hold the worker to."""
    values: dict[str, Any] = {
        "text": "é",
        "flag": True,
        "count": 7,
        "share": 0.5,
        "raw": b"\x00",
        "list": ["a", 1],
        "none": None,
    }
    event = Span.Event(name="exception", time_unix_nano=5, attributes=otlp.pairs({"exception.type": "E"}))
    sent = otlp.span("chat", id=2, parent=1, ms=1.5, error="boom", events=[event], nested={"a": {"b": 1}}, **values)
    sent.dropped_attributes_count = 3
    scope = InstrumentationScope(name="langfuse-sdk", version="4", attributes=otlp.pairs({"public_key": "pk"}))
    answer = post(receiver, otlp.request(sent, resource={"service.name": "svc", "n": 1}, scope=scope))
    assert answer.status_code == 200
    assert ExportTraceServiceResponse.FromString(answer.content) == ExportTraceServiceResponse()
    (span,) = receiver.spans
    assert (span.trace_id, span.span_id, span.parent_id) == (f"{1:032x}", f"{2:016x}", f"{1:016x}")
    assert (span.name, span.kind, span.project) == ("chat", Span.SPAN_KIND_INTERNAL, "shop")
    assert (span.start_ns, span.end_ns) == (otlp.START_NS, otlp.START_NS + 1_500_000)
    assert (span.status_code, span.status_message) == (2, "boom")
    assert span.attributes == values | {"nested": {"a": {"b": 1}}}
    assert span.resource == {"service.name": "svc", "n": 1}
    assert (span.scope_name, span.scope_version, span.scope_attributes) == ("langfuse-sdk", "4", {"public_key": "pk"})
    assert span.events == [("exception", 5, {"exception.type": "E"})]
    assert span.dropped_attributes_count == 3


def test_keeps_requests(receiver: OtlpReceiver) -> None:
    """Batch sizes, compression and headers are the worker's to get right, so they must be seen."""
    content = otlp.request(*(otlp.span(id=number) for number in range(1, 101)))
    post(receiver, content, zipped=True, Authorization="key")
    (kept,) = receiver.trace_requests
    assert kept.status == 200
    assert kept.decoded_size == content.ByteSize() > len(kept.body)
    assert kept.headers["content-encoding"] == "gzip"
    assert kept.headers["authorization"] == "key"
    assert len(kept.spans) == len(receiver.spans) == 100
    receiver.clear()
    assert (receiver.spans, receiver.requests) == ([], [])


@pytest.mark.parametrize(("header", "expected"), [("key", 200), ("Bearer key", 401), ("other", 401)])
def test_key_is_sent_raw(header: str, expected: int) -> None:
    """Kelet takes the key with no scheme before it; a worker that sends one must fail here."""
    with OtlpReceiver(api_key="key") as receiver:
        answer = post(receiver, otlp.request(otlp.span()), Authorization=header)
        assert answer.status_code == expected
        assert len(receiver.spans) == (expected == 200)
        if expected == 401:
            assert answer.json() == {"detail": "Not authenticated"}


@pytest.mark.parametrize(
    ("place", "headers", "body", "expected"),
    [
        ("POST /v1/traces", {}, b"", 404),
        ("GET /api/traces", {}, b"", 405),
        ("POST /api/traces", {"Content-Type": "application/json"}, b"{}", 415),
        ("POST /api/traces", {}, b"\xff\xff\xff", 400),
        ("POST /api/traces", {"Content-Encoding": "gzip"}, b"not zipped", 400),
        ("POST /api/traces", {"Content-Encoding": "gzip"}, gzip.compress(b"x" * 99, mtime=0)[:-9], 400),
        ("POST /api/traces", {}, b"", 200),
    ],
)
def test_refuses(place: str, headers: dict[str, str], body: bytes, expected: int, receiver: OtlpReceiver) -> None:
    """A wrong address or body that passed here would fail only at Kelet."""
    method, path = place.split()
    answer = httpx.request(method, receiver.url + path, content=body, headers=PROTOBUF | headers)
    assert answer.status_code == expected
    assert receiver.spans == []


def test_partial_success(receiver: OtlpReceiver) -> None:
    """Spans that the answer calls rejected must not be counted as received."""
    receiver.script = faults.in_turn(faults.partial_success(1, "too old"))
    answer = post(receiver, otlp.request(otlp.span("a"), otlp.span("b", id=2)))
    reported = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (answer.status_code, reported.rejected_spans, reported.error_message) == (200, 1, "too old")
    assert [span.name for span in receiver.spans] == ["a"]


@pytest.mark.parametrize(("fault", "stored"), [(faults.drop(), 0), (faults.accept_then_drop(), 1)])
def test_dropped_connection(fault: Reply, stored: int, receiver: OtlpReceiver) -> None:
    """With no answer the spans may or may not have arrived; both must be possible to play."""
    receiver.script = faults.in_turn(fault)
    with pytest.raises(httpx.RemoteProtocolError):
        post(receiver, otlp.request(otlp.span()))
    assert len(receiver.spans) == stored
    assert [kept.status for kept in receiver.requests] == [None]


def test_poison_span(receiver: OtlpReceiver) -> None:
    """One span that is refused must fail each request that holds it and no other."""
    receiver.script = faults.refuse_span("poison")
    assert post(receiver, otlp.request(otlp.span("fine"), otlp.span("poison", id=2))).status_code == 400
    assert post(receiver, otlp.request(otlp.span("fine"))).status_code == 200
    assert [span.name for span in receiver.spans] == ["fine"]


def test_size_and_compression_limits(receiver: OtlpReceiver) -> None:
    """The size that counts is the one before compression; zipping must not slip past it."""
    receiver.script = faults.first_of(faults.too_large(500), faults.refuse_gzip())
    large = otlp.request(otlp.span(text="x" * 1000))
    assert post(receiver, large, zipped=True).status_code == 413
    assert post(receiver, otlp.request(otlp.span()), zipped=True).status_code == 415
    assert post(receiver, otlp.request(otlp.span())).status_code == 200


def test_other_faults(receiver: OtlpReceiver) -> None:
    """Each scripted answer must arrive as told: project missing, redirect, plain 429, success that cannot be read."""
    receiver.script = faults.in_turn(
        faults.no_such_project("shop"),
        faults.redirect("http://elsewhere.test/"),
        faults.rate_limited_plainly(3),
        faults.unreadable_success(),
        faults.slow(0.01, faults.status(500)),
    )
    answers = [post(receiver, otlp.request(otlp.span())) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [404, 307, 429, 200, 500]
    assert answers[0].json()["detail"]["project"] == "shop"
    assert answers[1].headers["location"] == "http://elsewhere.test/"
    assert (answers[2].text, answers[2].headers["retry-after"]) == ("429 - rate limit exceeded", "3")
    assert len(receiver.spans) == 1


def test_stop_ends_kept_connections() -> None:
    """A connection that outlived its server would let a client talk to nobody."""
    with httpx.Client() as client:
        with OtlpReceiver() as receiver:
            url = receiver.url
            assert client.get(url).status_code == 404
        with pytest.raises(httpx.TransportError):
            client.get(url)
