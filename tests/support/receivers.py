"""A receiver that is not Kelet: another path, another key, and OTLP in both encodings."""

from __future__ import annotations

import gzip
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import orjson
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from sync_worker.demo.receiver import PROTOBUF, TRACES_PATH, OtlpReceiver, TraceRequest
from sync_worker.demo.serving import Reply, Request

_IDS = ("traceId", "spanId", "parentSpanId")


class AnyReceiver(OtlpReceiver):
    """Receives spans at `{url}{path}`; `authorization` is what that header must be, None: it must not be there."""

    def __init__(self, path: str = "/v1/traces", authorization: str | None = None) -> None:
        super().__init__()
        self.path = path
        self.authorization = authorization
        self.logs_path: str | None = None  # where it takes logs too, one record a request
        self.records: list[LogRecord] = []
        self.log_resources: list[dict[str, str]] = []

    def parse(self, request: Request) -> TraceRequest:
        """Decode a body of either encoding."""
        content = request.body
        target = TRACES_PATH if request.path == self.path else request.target
        headers = dict(request.headers)
        if request.path == self.path and headers.get("content-type") == "application/json" and content:
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
        if request.path == self.logs_path and request.method == "POST":
            return self._take_logs(request, scripted)
        known = request.path == self.path
        as_kelet = TraceRequest(
            request.method, TRACES_PATH if known else "/", {**request.headers, "content-type": PROTOBUF}, request.body,
            None, request.decoded_size, request.spans, request.problem,
        )  # fmt: skip
        return super().answer(as_kelet, scripted)

    def _take_logs(self, request: TraceRequest, scripted: Reply | None) -> Reply:
        """Take the records of a request of either encoding."""
        kind = request.headers.get("content-type")
        whole = logs_from_json(request.body) if kind == "application/json" else logs_of(request.body)
        if scripted is not None:
            return scripted
        with self._lock:
            for group in whole.resource_logs:
                self.log_resources.append({pair.key: pair.value.string_value for pair in group.resource.attributes})
                self.records += group.scope_logs[0].log_records
        return Reply(200, {"Content-Type": str(kind)}, b"{}" if kind == "application/json" else b"")


def logs_of(content: bytes) -> ExportLogsServiceRequest:
    """Return a request for logs."""
    return ExportLogsServiceRequest.FromString(content)


def logs_from_json(content: bytes) -> ExportLogsServiceRequest:
    """Return a request for logs of OTLP/JSON as protobuf."""
    whole = orjson.loads(content)
    for group in whole["resourceLogs"]:
        for scope in group["scopeLogs"]:
            for record in scope["logRecords"]:
                for name in _IDS:
                    if name in record:
                        record[name] = b64encode(bytes.fromhex(record[name])).decode()
    return ParseDict(whole, ExportLogsServiceRequest())


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
