"""Targets other than Kelet: what a request to them is like, and what their responses mean."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sync_worker.demo.serving import Reply, json_reply
from sync_worker.errors import CredentialsRejected, SourcePaused, TransientError
from sync_worker.otlp.acknowledgement import why_not_acknowledged
from sync_worker.otlp.batches import body
from sync_worker.otlp.json_encoding import as_json
from sync_worker.otlp.target_client import Accepted, Rejected, TargetClient
from sync_worker.targets import PRESETS, Encoding, PresetName, Target, endpoint, key_headers
from tests.otlp.conftest import encoded, spans
from tests.support import faults, otlp
from tests.support.receivers import AnyReceiver, from_json

SECRET = "token-that-nobody-sees"


def target(
    url: str, preset: PresetName = "otlp", *, key: str | None = None, encoding: Encoding = "protobuf",
    headers: Mapping[str, str] | None = None,
) -> Target:  # fmt: skip
    kind = PRESETS[preset]
    of_key = {} if key is None else key_headers(key, kind)
    return Target(preset, endpoint(url, kind), kind, {**(headers or {}), **of_key}, encoding, kelet_attributes=False)


def client(to: Target, compression: str = "none") -> TargetClient:
    transport = httpx.AsyncHTTPTransport(verify=False)
    return TargetClient(to, compression=compression, transport=transport)  # type: ignore[arg-type]


async def post(to: Target, compression: str = "none") -> Accepted:
    sender = client(to, compression)
    try:
        return await sender.post(spans(3))
    finally:
        await sender.close()


@pytest.mark.parametrize(
    ("preset", "path", "key", "header"),
    [
        ("otlp", "/v1/traces", None, None),
        ("phoenix", "/v1/traces", "a-key", "Bearer a-key"),
        ("langfuse", "/api/public/otel/v1/traces", "pk:sk", f"Basic {base64.b64encode(b'pk:sk').decode()}"),
    ],
)
async def test_requests_of_presets(preset: PresetName, path: str, key: str | None, header: str | None) -> None:
    """A preset would send to another path, with another key, or with Kelet's header."""
    with AnyReceiver(path, header) as receiver:
        assert await post(target(receiver.url, preset, key=key)) == Accepted()
        (request,) = receiver.requests
    assert request.path == path
    assert "x-kelet-project" not in request.headers
    assert request.headers["content-type"] == "application/x-protobuf"
    assert len(receiver.spans) == 3


async def test_headers_of_the_settings() -> None:
    """Headers that a gateway wants would not be sent, or replace those that say what the body is."""
    with AnyReceiver() as receiver:
        await post(target(receiver.url, headers={"x-tenant": "shop", "User-Agent": "mine"}))
        (request,) = receiver.requests
    assert (request.headers["x-tenant"], request.headers["user-agent"]) == ("shop", "mine")


@pytest.mark.parametrize("compression", ["none", "gzip"])
async def test_json(compression: str) -> None:
    """JSON would be said to be protobuf, not be compressed, or be another request than protobuf makes."""
    with AnyReceiver() as receiver:
        await post(target(receiver.url, encoding="json"), compression)
        (request,) = receiver.requests
        as_sent = gzip.decompress(request.body) if compression == "gzip" else request.body
        assert request.headers["content-type"] == "application/json"
        assert from_json(as_sent) == ExportTraceServiceRequest.FromString(body(spans(3)))
        by_json = list(receiver.spans)
        await post(target(receiver.url), compression)
        assert receiver.spans[3:] == by_json


def test_json_by_the_letter() -> None:
    """A receiver that reads by the specification would find ids in Base64, or numbers that JavaScript rounds."""
    one = otlp.span("n", id=255, parent=16, trace=1, error="bad", whole=2**62, part=0.5, yes=True, list=["a", "b"])
    request = otlp.request(one)
    assert orjson.loads(as_json(request.SerializeToString())) == {
        "resourceSpans": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "svc"}}]},
                "scopeSpans": [
                    {
                        "scope": {"name": "test", "version": "1"},
                        "spans": [
                            {
                                "traceId": "00000000000000000000000000000001",
                                "spanId": "00000000000000ff",
                                "parentSpanId": "0000000000000010",
                                "name": "n",
                                "kind": 1,
                                "startTimeUnixNano": "1795000000000000000",
                                "endTimeUnixNano": "1795000001000000000",
                                "status": {"code": 2, "message": "bad"},
                                "attributes": [
                                    {"key": "whole", "value": {"intValue": "4611686018427387904"}},
                                    {"key": "part", "value": {"doubleValue": 0.5}},
                                    {"key": "yes", "value": {"boolValue": True}},
                                    {
                                        "key": "list",
                                        "value": {
                                            "arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": "b"}]}
                                        },
                                    },
                                ],
                            }
                        ],
                    }
                ],
            }
        ]
    }
    assert as_json(b"") == b'{"resourceSpans":[]}'


_SCALARS = st.text() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)


@given(st.dictionaries(st.text(min_size=1), _SCALARS | st.lists(st.text()), max_size=4), st.text(), st.booleans())
def test_json_is_the_same_request(attributes: dict[str, object], name: str, is_root: bool) -> None:
    """A value of some kind would arrive as another one by JSON than by protobuf."""
    event = Span.Event(name=name, time_unix_nano=5, attributes=otlp.pairs(attributes))
    one = otlp.span(name, parent=None if is_root else 7, error=name or None, events=[event])
    one.attributes.extend(otlp.pairs(attributes))
    one.dropped_attributes_count = len(attributes)
    request = otlp.request(one, resource={"service.name": name, **attributes})
    assert from_json(as_json(request.SerializeToString())) == request


def test_no_numbers_are_words() -> None:
    """NaN and the infinities would make the whole request invalid JSON."""
    request = otlp.request(otlp.span(a=float("nan"), b=float("inf"), c=float("-inf"))).SerializeToString()
    (one,) = orjson.loads(as_json(request))["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert [pair["value"]["doubleValue"] for pair in one["attributes"]] == ["NaN", "Infinity", "-Infinity"]


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (Reply(401, {}, SECRET.encode()), CredentialsRejected, "target phoenix rejected the key (401 at http"),
        (faults.status(404), SourcePaused, "target phoenix answered 404 at http"),
        (faults.status(415), SourcePaused, "does not take application/x-protobuf"),
        (faults.status(400, message=f"bad {SECRET}"), Rejected, "target phoenix rejected it (400 at http"),
        (faults.status(503), TransientError, "target phoenix answered 503"),
        (Reply(200, {"Content-Type": "text/html"}, b"<html>"), SourcePaused, "is SYNC_TARGET_URL the address of tar"),
        (Reply(302, {"Location": "https://login.example"}), SourcePaused, "Try: set SYNC_TARGET_URL to the address"),
    ],
)
async def test_errors_name_the_target(reply: Reply, error: type[Exception], words: str) -> None:
    """An operator of two targets would not know which one failed and what to set, or read its key in the log."""
    with AnyReceiver("/v1/traces", f"Bearer {SECRET}") as receiver:
        receiver.script = faults.always(reply)
        with pytest.raises(error) as caught:
            await post(target(receiver.url, "phoenix", key=SECRET))
    assert words in str(caught.value)
    assert "Kelet" not in str(caught.value)
    assert "KELET" not in str(caught.value)
    assert SECRET not in str(caught.value)


async def test_json_rejected_names_the_setting() -> None:
    """A receiver of protobuf alone would only be said to be no endpoint."""
    with AnyReceiver() as receiver:
        receiver.script = faults.always(faults.status(415))
        with pytest.raises(SourcePaused, match="SYNC_TARGET_ENCODING=protobuf"):
            await post(target(receiver.url, encoding="json"))


#: What Langfuse answers to spans: the job that it queued, as BullMQ writes it.
JOB = {
    "name": "otel-ingestion-job",
    "data": {"timestamp": "2026-11-22T16:00:00.000Z", "payload": {"data": {"fileKey": "otel/p/1.json"}, "error": 0}},
    "opts": {"attempts": 6, "backoff": {"type": "exponential", "delay": 5000}, "removeOnFail": 100000},
    "id": "4", "progress": 0, "returnvalue": None, "stacktrace": [], "delay": 0, "priority": 0, "attemptsStarted": 0,
    "attemptsMade": 0, "timestamp": 1795363200000, "queueQualifiedName": "bull:otel-ingestion-queue",
}  # fmt: skip


@pytest.mark.parametrize("answer", [JOB, {}], ids=["job", "nothing"])
async def test_langfuse_acknowledges_with_a_job(answer: dict[str, object]) -> None:
    """Spans that Langfuse has queued would be sent again and again."""
    content = orjson.dumps(answer)
    assert why_not_acknowledged(200, "application/json; charset=utf-8", content) is None
    with AnyReceiver(
        "/api/public/otel/v1/traces", key_headers("pk:sk", PRESETS["langfuse"])["Authorization"]
    ) as receiver:
        receiver.script = faults.always(json_reply(200, answer))
        assert await post(target(receiver.url, "langfuse", key="pk:sk")) == Accepted()


async def test_project_is_not_known_by_a_header() -> None:
    """Spans of two projects would be mixed up, or Kelet's header be sent to others."""
    with AnyReceiver() as receiver:
        sender = client(target(receiver.url))
        await sender.post([encoded(project="other")])
        await sender.close()
    assert "x-kelet-project" not in receiver.requests[0].headers


JSON, PROTOBUF = {"Content-Type": "application/json"}, {"Content-Type": "application/x-protobuf"}
SCORE = ExportLogsServiceRequest(
    resource_logs=[ResourceLogs(scope_logs=[ScopeLogs(log_records=[LogRecord(event_name="score", time_unix_nano=7)])])]
).SerializeToString()


async def post_score(to: Target, compression: str = "none") -> None:
    sender = client(to, compression)
    try:
        await sender.post_score(SCORE, "p")
    finally:
        await sender.close()


@pytest.mark.parametrize("encoding", ["json", "protobuf"])
async def test_scores_go_to_the_logs_endpoint(encoding: Encoding) -> None:
    """A score would go to the traces endpoint, in another encoding than the spans, or compressed unasked."""
    with AnyReceiver() as receiver:
        receiver.logs_path = "/v1/logs"
        await post_score(target(receiver.url, encoding=encoding), "auto")
        (request,) = receiver.requests
    assert request.path == "/v1/logs"
    assert "content-encoding" not in request.headers
    assert [(record.event_name, record.time_unix_nano) for record in receiver.records] == [("score", 7)]


async def test_scores_are_compressed_on_demand() -> None:
    """A body would go out plain although the operator forbade it, or compressed and not said to be."""
    with AnyReceiver() as receiver:
        with pytest.raises(SourcePaused):  # this receiver has no logs endpoint: what arrived counts
            await post_score(target(receiver.url), "gzip")
        (request,) = receiver.requests
    assert request.headers["content-encoding"] == "gzip"
    assert gzip.decompress(request.body) == SCORE


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(200, JSON, b'{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"too old"}}'), "too old"),
        (Reply(200, JSON, b'{"partialSuccess":{"rejectedLogRecords":1}}'), "no reason given"),
        (Reply(200, PROTOBUF, b"\n\x06\x08\x01\x12\x02no"), "no"),
        (Reply(200, PROTOBUF, b"\n\x02\x08\x01"), "no reason given"),
        (Reply(200, JSON, b'{"partialSuccess":{"rejectedLogRecords":"0","errorMessage":"slow down"}}'), None),
        (Reply(200, JSON, b'{"partialSuccess":{"errorMessage":"slow down"}}'), None),
        (Reply(200, JSON, b'{"partialSuccess":"many"}'), None),
        (Reply(200, JSON, b"[]"), None),
        (Reply(200, JSON, b"{}"), None),
        (Reply(200, PROTOBUF, b"\n\x04\x12\x02no"), None),
        (Reply(200, PROTOBUF, b""), None),
    ],
)
async def test_a_score_that_is_rejected_by_partial_success(reply: Reply, reason: str | None) -> None:
    """A score that was taken would become a dead letter, or one that was not be lost."""
    with AnyReceiver() as receiver:
        receiver.logs_path = "/v1/logs"
        receiver.script = faults.always(reply)
        if reason is None:
            await post_score(target(receiver.url))
            return
        with pytest.raises(Rejected, match=rf"rejected it \(partial success at http.*/v1/logs: {reason}\)"):
            await post_score(target(receiver.url))


@pytest.mark.parametrize(("size", "zipped"), [(1023, False), (1024, True)])
async def test_small_bodies_are_not_compressed(size: int, zipped: bool) -> None:
    """Time would go into what gains nothing, or large bodies out plain."""
    with AnyReceiver() as receiver:
        sender = client(target(receiver.url), "auto")
        receiver.script = faults.always(Reply(200, PROTOBUF, b""))
        await sender.post_body(b"\x00" * size, "p", 1)
        await sender.close()
    assert ("content-encoding" in receiver.requests[0].headers) is zipped


@pytest.mark.parametrize("encoding", ["json", "protobuf"])
async def test_the_other_encoding_is_advised(encoding: Encoding) -> None:
    """An operator would be told to set what is set."""
    with AnyReceiver() as receiver:
        receiver.script = faults.always(faults.status(415))
        with pytest.raises(SourcePaused) as caught:
            await post(target(receiver.url, encoding=encoding))
    other = "protobuf" if encoding == "json" else "json"
    assert f"SYNC_TARGET_ENCODING={other}" in str(caught.value)
