"""One request to Kelet: its headers, its compression, and what each answer means."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import traceback

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from sync_worker import __version__
from sync_worker.bounded_client import BrokenOff, TooSlow
from sync_worker.demo.receiver import OtlpReceiver, TraceRequest
from sync_worker.demo.serving import Reply, json_reply
from sync_worker.errors import CredentialsRejected, SourcePaused, SyncError, TransientError
from sync_worker.otlp.acknowledgement import partial_success, why_not_acknowledged
from sync_worker.otlp.batches import body
from sync_worker.otlp.target_client import Accepted, ProjectUnknown, Rejected, RequestFailed, TargetClient
from sync_worker.spans.span_model import EncodedSpan
from tests.otlp.conftest import KEY, PROJECT, MakeClient, encoded, spans
from tests.support import faults

LARGE = spans(40)


async def test_headers(kelet: OtlpReceiver, client: TargetClient) -> None:
    """Kelet takes the key for another scheme, puts spans into another project, or cannot read the body."""
    await client.post(spans(2))
    (request,) = kelet.requests
    assert (request.method, request.target, request.status) == ("POST", "/api/traces", 200)
    assert request.headers["authorization"] == KEY
    assert request.headers["x-kelet-project"] == PROJECT
    assert request.headers["content-type"] == "application/x-protobuf"
    assert request.headers["user-agent"] == f"langfuse-kelet-sync/{__version__}"
    assert "content-encoding" not in request.headers
    assert len(kelet.spans) == 2


async def test_project_is_that_of_the_batch(kelet: OtlpReceiver, client: TargetClient) -> None:
    """Spans that a rule routes elsewhere end up in the default project."""
    await client.post([encoded(project="other")])
    assert [one.project for one in kelet.spans] == ["other"]


async def test_gzip(kelet: OtlpReceiver, make_client: MakeClient) -> None:
    """A compressed body is another one than the plain body, or bytes are not counted."""
    client = make_client()
    await client.post(LARGE)
    (request,) = kelet.requests
    assert request.headers["content-encoding"] == "gzip"
    assert gzip.decompress(request.body) == body(LARGE)
    assert len(kelet.spans) == len(LARGE)
    traffic = client.traffic
    assert (traffic.requests, traffic.bytes_sent) == (1, len(request.body))


@pytest.mark.parametrize(
    ("compression", "batch", "zipped"),
    [
        ("auto", LARGE, True),
        ("auto", spans(1), False),
        ("gzip", LARGE, True),
        ("gzip", spans(1), True),
        ("none", LARGE, False),
    ],
)
async def test_when_to_compress(
    compression: str,
    batch: list[EncodedSpan],
    zipped: bool,
    kelet: OtlpReceiver,
    make_client: MakeClient,
) -> None:
    """The setting for compression is not obeyed."""
    await make_client(compression=compression).post(batch)
    assert ("content-encoding" in kelet.requests[0].headers) is zipped


@pytest.mark.parametrize("code", [400, 415])
async def test_gzip_rejected(
    code: int, kelet: OtlpReceiver, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    """At a receiver without gzip nothing arrives, or each request is sent twice for ever."""
    kelet.script = faults.refuse_gzip(code)
    client = make_client()
    assert await client.post(LARGE) == Accepted()
    assert client.gzip_rejected
    await client.post(LARGE)
    assert [request.status for request in kelet.requests] == [code, 200, 200]
    again = make_client(gzip_rejected=True)
    await again.post(LARGE)
    assert [request.status for request in kelet.requests] == [code, 200, 200, 200]
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["WARNING"]


async def test_gzip_rejected_is_reported_once(
    kelet: OtlpReceiver, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests in flight together each warn of the same."""
    kelet.script = faults.refuse_gzip()
    client = make_client()
    await asyncio.gather(*(client.post(LARGE) for _ in range(4)))
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


async def test_bad_batch_does_not_end_gzip(kelet: OtlpReceiver, make_client: MakeClient) -> None:
    """One poison span turns compression off for good."""
    kelet.script = faults.refuse_span("poison")
    client = make_client()
    with pytest.raises(Rejected) as caught:
        await client.post(spans(40, [3]))
    assert caught.value.status == 400
    assert not client.gzip_rejected
    await client.post(LARGE)
    assert [request.status for request in kelet.requests] == [400, 400, 200]
    assert "content-encoding" in kelet.requests[-1].headers


async def test_fault_of_the_plain_try_is_no_word_on_gzip(kelet: OtlpReceiver, make_client: MakeClient) -> None:
    """A moment's outage after a refusal is taken for a refusal of the batch, or for a success without gzip."""
    kelet.script = faults.in_turn(faults.status(400), faults.status(503))
    client = make_client()
    with pytest.raises(TransientError):
        await client.post(LARGE)
    assert not client.gzip_rejected


@pytest.mark.parametrize("code", [400, 415])
async def test_gzip_by_order_has_no_second_try(code: int, kelet: OtlpReceiver, make_client: MakeClient) -> None:
    """A body goes out plain although the operator forbade it."""
    kelet.script = faults.refuse_gzip(code)
    client = make_client(compression="gzip", gzip_rejected=True)
    with pytest.raises((Rejected, SourcePaused)):
        await client.post(LARGE)
    assert len(kelet.requests) == 1


def _partial(rejected: int, message: str) -> bytes:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    answer.partial_success.error_message = message
    return answer.SerializeToString()


PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json; charset=utf-8"}
HTML = {"Content-Type": "text/html; charset=utf-8"}
TEXT = {"Content-Type": "text/plain"}
PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body></body></html>"
SUCCESSES: list[tuple[Reply, Accepted]] = [
    (Reply(200, PROTOBUF, b""), Accepted()),
    (Reply(202, {}, b""), Accepted()),
    (Reply(204), Accepted()),
    (Reply(200, PROTOBUF, _partial(3, "too old")), Accepted(3, "too old")),
    (Reply(200, {}, _partial(3, "too old")), Accepted(3, "too old")),
    (Reply(200, PROTOBUF, _partial(0, "slow down")), Accepted()),
    (Reply(200, PROTOBUF, _partial(-2, "odd")), Accepted()),
    (Reply(200, PROTOBUF, b"\xff\xff\xff"), Accepted()),
    (json_reply(200, {"partialSuccess": {"rejectedSpans": "2", "errorMessage": "bad"}}), Accepted(2, "bad")),
    (json_reply(200, {"partialSuccess": {"rejectedSpans": 2}, "unknown": 1}), Accepted(2)),
    (json_reply(200, {"partial_success": {"rejected_spans": 2}}), Accepted(2)),
    (json_reply(200, {"partialSuccess": {}}), Accepted()),
    (json_reply(200, {"partialSuccess": "many"}), Accepted()),
    (json_reply(200, {"partialSuccess": {"rejectedSpans": "many"}}), Accepted()),
    (json_reply(200, ["ok"]), Accepted()),
    (json_reply(200, None), Accepted()),
    (Reply(200, JSON, b"\xff{"), Accepted()),
    (Reply(200, PROTOBUF, _partial(1, "a\nb\x1b[31m" + "c" * 5000)), Accepted(1, "a b [31m" + "c" * 192 + "…")),
]


@pytest.mark.parametrize(("reply", "meaning"), SUCCESSES, ids=range(len(SUCCESSES)))
async def test_success(reply: Reply, meaning: Accepted, kelet: OtlpReceiver, client: TargetClient) -> None:
    """Spans that Kelet took are sent again, or those that it rejected are counted as sent."""
    kelet.script = faults.always(reply)
    assert await client.post(spans(3)) == meaning


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=40)
    | st.binary(max_size=8).map(lambda tail: b"<html" + tail)
    | st.builds(lambda value: json.dumps(value).encode(), st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
            st.sampled_from(["partialSuccess", "rejectedSpans", "errorMessage", "x"]), inner, max_size=3
        ),
    )),
    st.sampled_from(["application/json", "application/x-protobuf", "text/html", "text/plain", ""]),
)  # fmt: skip
def test_any_body_has_a_meaning(content: bytes, kind: str) -> None:
    """An answer that nobody thought of ends the run with an error of the program, or a page counts as success."""
    printed = why_not_acknowledged(200, kind, content)
    assert partial_success(kind, content).rejected_spans is not None
    if content.startswith(b"<html"):
        assert printed is not None


NOT_ACKNOWLEDGED: list[Reply] = [
    Reply(200, HTML, PAGE),
    Reply(200, {"Content-Type": "Text/HTML"}, b""),
    Reply(200, {"Content-Type": "application/xhtml+xml"}, b"ok"),
    Reply(200, {"Content-Type": "text/xml"}, b"<ok/>"),
    Reply(200, {"Content-Type": "application/soap+xml"}, b"<soap:Envelope/>"),
    *(
        Reply(code, kind, start + PAGE)
        for code in (200, 202, 206)
        for kind in (PROTOBUF, JSON, TEXT, {}, {"Content-Type": "application/octet-stream"})
        for start in (b"", b"\xef\xbb\xbf", b" \r\n\t")
    ),
    Reply(200, {}, b"\n<html>"),
    Reply(200, PROTOBUF, PAGE.decode().encode("utf-16")),
    Reply(200, {}, PAGE.decode().encode("utf-16-be")),
    Reply(200, {}, gzip.compress(PAGE)),
    Reply(200, {**PROTOBUF, "Content-Encoding": "gzip"}, gzip.compress(PAGE)),
    json_reply(200, {"error": "quota exceeded"}),
    json_reply(200, {"errors": [{"message": "no such path"}], "data": None}),
    json_reply(202, {"Error": {"code": 1}}),
    Reply(200, TEXT, b'{"error": true}'),
    Reply(200, PROTOBUF, b'{"error": true}'),
    Reply(200, TEXT, b"Forbidden by policy"),
    Reply(200, TEXT, b"not ok"),
    Reply(200, {}, b"error"),
    Reply(200, PROTOBUF, b"error"),
    Reply(200, JSON, b"upstream is not there"),
    Reply(200, {"Content-Type": "image/png"}, b"\x89PNG\r\n\x1a\n"),
    Reply(200, JSON, b'{"errors": [{"message": "broken o'),
    Reply(200, JSON, b'{"partialSucc'),
    Reply(200, JSON, b"[" * 50_000),
    Reply(200, {"Content-Type": "application/x-ndjson"}, b'{}\n{"error": "no such tenant"}\n'),
    Reply(200, {"Content-Type": "application/x-ndjson"}, b'{}\n{"id": 2, "broken o'),
    Reply(200, {**HTML, "Content-Encoding": "br"}, b"\x0b\x02\x80<p>\x03"),
    Reply(200, {**HTML, "Content-Encoding": "gzip"}, b"<html>the proxy unpacked it and left the header</html>"),
]


@pytest.mark.parametrize("reply", NOT_ACKNOWLEDGED, ids=range(len(NOT_ACKNOWLEDGED)))
async def test_answer_of_somebody_else(reply: Reply, kelet: OtlpReceiver, client: TargetClient) -> None:
    """A login page, a block page or a proxy's error counts as if Kelet had taken the spans: they never arrive."""
    kelet.script = faults.always(reply)
    with pytest.raises(SourcePaused, match=r"no acknowledgement.*KELET_API_URL"):
        await client.post(spans(3))


async def test_redirect_to_nowhere(kelet: OtlpReceiver, client: TargetClient) -> None:
    """The message advises an address that is not there: `()`."""
    kelet.script = faults.always(Reply(304))
    with pytest.raises(SourcePaused, match=r"not given \(304\).*KELET_API_URL"):
        await client.post(spans(3))


ACKNOWLEDGED: list[Reply] = [
    *(Reply(200, TEXT, word) for word in (b"ok", b"OK\n", b" Success! ", b'"accepted"', b"ACCEPTED.")),
    Reply(200, JSON, b"ok"),
    Reply(204, HTML),
    Reply(202, TEXT, b"queued"),
    Reply(203, JSON, b"{}"),
    json_reply(200, {"error": None, "errors": [], "id": 7}),
    json_reply(200, {"name": "otel-ingestion-job", "data": {"payload": {"error": "inside"}}, "attemptsMade": 0}),
    json_reply(207, {"successes": [{"id": "1", "status": 201}], "errors": []}),
    json_reply(200, {"status": "success"}),
    Reply(200, {"Content-Type": "application/vnd.kelet+json"}, b"\xef\xbb\xbf{}"),
    Reply(200, {**JSON, "Content-Encoding": "gzip"}, gzip.compress(b'{"partialSuccess": {}}')),
    Reply(200, {}, b"\r\n"),
    Reply(200, {"Content-Type": "application/x-ndjson"}, b'{"id": 1, "error": null}\n{"id": 2, "errors": []}\n'),
]


@pytest.mark.parametrize("reply", ACKNOWLEDGED, ids=range(len(ACKNOWLEDGED)))
async def test_scant_acknowledgement(reply: Reply, kelet: OtlpReceiver, client: TargetClient) -> None:
    """A receiver that says less than OTLP wants is sent the same spans for ever."""
    kelet.script = faults.always(reply)
    assert await client.post(spans(3)) == Accepted()


def test_partial_success_that_begins_like_a_page() -> None:
    """A partial success of sixty bytes, which begins with a line break and `<`, is taken for a web page."""
    content = _partial(3, "x" * 56)
    assert content[:2] == b"\n<"
    assert why_not_acknowledged(200, "application/x-protobuf", content) is None


MEANINGS: list[tuple[Reply, type[Exception], str]] = [
    (faults.status(400), Rejected, "400"),
    (faults.status(413), Rejected, "413"),
    (faults.status(422), Rejected, "422"),
    (faults.status(401), CredentialsRejected, "KELET_API_KEY"),
    (faults.status(403), CredentialsRejected, "KELET_API_KEY"),
    (faults.no_such_project(), ProjectUnknown, "create the project"),
    (faults.status(405), SourcePaused, "KELET_API_URL"),
    (faults.status(409), SourcePaused, "KELET_API_URL"),
    (faults.status(415), SourcePaused, "KELET_API_URL"),
    (faults.redirect("/other"), SourcePaused, "redirects"),
    (faults.status(408), RequestFailed, "408"),
    (faults.status(429), TransientError, "429"),
    (faults.status(500), RequestFailed, "500"),
    (faults.status(500, retry_after=1), TransientError, "500"),
    (faults.status(502), RequestFailed, "502"),
    (faults.status(504), RequestFailed, "504"),
    (faults.status(524), RequestFailed, "524"),
    (faults.status(503), TransientError, "503"),
    (faults.status(529), TransientError, "529"),
    (faults.drop(), RequestFailed, "cannot be reached"),
]


@pytest.mark.parametrize(("reply", "kind", "words"), MEANINGS, ids=[str(reply.status) for reply, *_ in MEANINGS])
async def test_meaning(
    reply: Reply, kind: type[Exception], words: str, kelet: OtlpReceiver, client: TargetClient
) -> None:
    """What passes is given up, what does not is tried for ever, or spans pay for a wrong setting."""
    kelet.script = faults.always(reply)
    with pytest.raises(kind, match=words) as caught:
        await client.post(spans(2))
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert len(kelet.requests) == 1


async def test_rejection_says_where_and_why(kelet: OtlpReceiver, client: TargetClient) -> None:
    """A dead letter does not tell what is wrong with its span."""
    kelet.script = faults.always(faults.status(400, message="no such kind"))
    with pytest.raises(Rejected) as caught:
        await client.post(spans(1))
    assert str(caught.value).startswith(f"Kelet rejected it (400 at {kelet.url}/api/traces: ")
    assert "no such kind" in str(caught.value)


@pytest.mark.parametrize("code", [408, 429, 500, 503])
async def test_wait_that_kelet_asks_for(code: int, kelet: OtlpReceiver, client: TargetClient) -> None:
    """A wait that Kelet asks for is not handed on."""
    kelet.script = faults.always(faults.status(code, retry_after=17))
    with pytest.raises(TransientError) as caught:
        await client.post(spans(2))
    assert caught.value.retry_after == 17.0


@pytest.mark.parametrize(
    ("error", "kind"), [(TooSlow("not complete in 60 s"), RequestFailed), (BrokenOff("it broke off"), TransientError)]
)
async def test_answer_that_does_not_come_whole(error: Exception, kind: type[Exception], client: TargetClient) -> None:
    """A request that is too much for a server is sent as it is for ever, or one is halved that was taken."""

    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    client._http._transport = httpx.MockTransport(answer)
    with pytest.raises(kind, match="the answer of Kelet") as caught:
        await client.post(spans(2))
    assert type(caught.value) is kind


async def test_slow_answer_passes(kelet: OtlpReceiver, make_client: MakeClient) -> None:
    """A receiver that hangs holds the worker for ever."""
    kelet.script = faults.always(faults.slow(0.5))
    with pytest.raises(TransientError, match="ReadTimeout"):
        await make_client(timeout=0.05).post(spans(2))


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(code: int, kelet: OtlpReceiver, client: TargetClient) -> None:
    """The key and the spans go to wherever a server sends its callers."""
    with OtlpReceiver() as elsewhere:
        kelet.script = faults.always(faults.redirect(f"{elsewhere.url}/api/traces?token=abc", code))
        with pytest.raises(SourcePaused, match="KELET_API_URL") as caught:
            await client.post(spans(2))
        assert elsewhere.url in str(caught.value)
        assert "abc" not in str(caught.value)
        assert elsewhere.requests == []


def _echo(request: TraceRequest) -> Reply:
    return json_reply(int(request.headers["x-kelet-project"]), {"detail": f"{'x' * 185} {request.headers}"})


@pytest.mark.parametrize("code", [200, 302, 400, 401, 403, 404, 405, 413, 422, 429, 500, 503])
async def test_no_key_in_any_message(
    code: int, kelet: OtlpReceiver, client: TargetClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The key lands in an error, its traceback, a dead letter or a log, at a server that repeats what it was sent."""
    caplog.set_level(logging.DEBUG)
    batch = [encoded(project=str(code))]
    reported = ""
    for script in (_echo, faults.always(Reply(code, PROTOBUF, _partial(code % 3, f"bad key {KEY}")))):
        kelet.script = script
        try:
            reported += repr(await client.post(batch))
        except (SyncError, Rejected) as error:
            reported += "".join(traceback.format_exception(error))
    assert reported
    assert KEY not in reported + caplog.text + repr(client)


async def test_one_connection_for_many_requests(kelet: OtlpReceiver, client: TargetClient) -> None:
    """Every request pays for a new connection, TLS handshake and all."""
    accepted = []
    accept = kelet._http.get_request

    def counting() -> tuple[object, object]:
        accepted.append(1)
        return accept()

    kelet._http.get_request = counting  # type: ignore[method-assign,assignment]
    for _ in range(20):
        await client.post(spans(1))
    assert len(accepted) == 1
