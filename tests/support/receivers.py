"""A receiver that is not Kelet: another path, another key, and OTLP in both encodings."""

from __future__ import annotations

import gzip
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import orjson
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sync_worker.demo.receiver import PROTOBUF, TRACES_PATH, OtlpReceiver, TraceRequest
from sync_worker.demo.serving import Reply, Request

_IDS = ("traceId", "spanId", "parentSpanId")


class AnyReceiver(OtlpReceiver):
    """Receives spans at `{url}{path}`; `authorization` is what that header must be, None: it must not be there."""

    def __init__(self, path: str = "/v1/traces", authorization: str | None = None) -> None:
        super().__init__()
        self.path = path
        self.authorization = authorization

    def parse(self, request: Request) -> TraceRequest:
        """Decode a body of either encoding."""
        content = request.body
        target = TRACES_PATH if request.path == self.path else request.target
        headers = dict(request.headers)
        if headers.get("content-type") == "application/json" and content:
            if headers.pop("content-encoding", "") == "gzip":
                content = gzip.decompress(content)
            content = from_json(content).SerializeToString()
            headers["content-type"] = PROTOBUF
        parsed = super().parse(Request(request.method, target, headers, content))
        return TraceRequest(
            request.method, request.target, request.headers, request.body, None, parsed.decoded_size, parsed.spans,
            parsed.problem,
        )  # fmt: skip

    def answer(self, request: TraceRequest, scripted: Reply | None) -> Reply:
        """Accept the spans, or return an error."""
        if request.headers.get("authorization") != self.authorization:
            return Reply(401, {"Content-Type": "text/plain"}, b"Invalid token")
        known = request.path == self.path
        as_kelet = TraceRequest(
            request.method, TRACES_PATH if known else "/", {**request.headers, "content-type": PROTOBUF}, request.body,
            None, request.decoded_size, request.spans, request.problem,
        )  # fmt: skip
        return super().answer(as_kelet, scripted)


def from_json(content: bytes) -> ExportTraceServiceRequest:
    """Return a request of OTLP/JSON as protobuf; ids are hex there, and Base64 in protobuf's own JSON."""
    whole = orjson.loads(content)
    for span in _spans(whole):
        for name in _IDS:
            if name in span:
                span[name] = b64encode(bytes.fromhex(span[name])).decode()
    return ParseDict(whole, ExportTraceServiceRequest())


def _spans(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for group in whole.get("resourceSpans", ()):
        for scope in group["scopeSpans"]:
            yield from scope["spans"]
