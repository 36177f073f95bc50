"""Endpoints for traces and signals like Kelet's, on the loopback address, that record what they receive.

Kelet's response to an invalid key is known and reproduced; other responses are left to the `script`.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from sync_worker.demo.serving import Reply, Request, Server, json_reply

TRACES_PATH = "/api/traces"
_SIGNAL_PATH = re.compile(r"/api/projects/([^/]+)/signal")
PROTOBUF = "application/x-protobuf"

Attributes = dict[str, Any]


@dataclass(frozen=True)
class ReceivedSpan:
    """A received span with its resource, its scope and the project of its request."""

    trace_id: str
    span_id: str
    parent_id: str  # '' for a root
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status_code: int
    status_message: str
    attributes: Attributes
    resource: Attributes
    scope_name: str
    scope_version: str
    scope_attributes: Attributes
    events: list[tuple[str, int, Attributes]]
    dropped_attributes_count: int
    project: str  # of the request's X-Kelet-Project header


@dataclass(frozen=True)
class ReceivedSignal:
    """A received signal: the project in the address, and the JSON object."""

    project: str
    content: dict[str, Any]


@dataclass
class TraceRequest(Request):
    """A request to the receiver. `problem` is why its body could not be decoded."""

    decoded_size: int = 0
    spans: list[ReceivedSpan] = field(default_factory=list)
    problem: str = ""

    @property
    def project(self) -> str:
        """The Kelet project in the request's header."""
        return self.headers.get("x-kelet-project", "")


@dataclass(frozen=True)
class PartialSuccess(Reply):
    """A scripted reply: accept a request without its last `rejected` spans, and report a partial success."""

    rejected: int = 0
    message: str = ""


class OtlpReceiver(Server[TraceRequest]):
    """Receives spans at `{url}/api/traces` and signals; `spans` and `signals` are those accepted, as they arrived."""

    def __init__(self, api_key: str | None = None) -> None:
        super().__init__()
        self.api_key = api_key
        self.spans: list[ReceivedSpan] = []
        self.signals: list[ReceivedSignal] = []

    @property
    def trace_requests(self) -> list[TraceRequest]:
        """The requests that carried spans."""
        return [request for request in self.requests if request.spans]

    def clear(self) -> None:
        """Discard what was received so far."""
        with self._lock:
            self.spans.clear()
            self.signals.clear()
            self.requests.clear()

    def parse(self, request: Request) -> TraceRequest:
        """Decode the body, so that a script can read the spans."""
        parsed = TraceRequest(request.method, request.target, request.headers, request.body)
        if parsed.method != "POST" or parsed.path != TRACES_PATH:
            return parsed
        try:
            compressed = parsed.headers.get("content-encoding", "").lower() == "gzip"
            decoded = gzip.decompress(parsed.body) if compressed else parsed.body
            parsed.decoded_size = len(decoded)
            parsed.spans = list(decode(ExportTraceServiceRequest.FromString(decoded), parsed.project))
        except (OSError, EOFError, zlib.error, DecodeError) as error:
            parsed.problem = f"the body cannot be decoded: {error}"
        return parsed

    def answer(self, request: TraceRequest, scripted: Reply | None) -> Reply:
        """Accept the spans, or return an error."""
        signal_of = _SIGNAL_PATH.fullmatch(request.path)
        if signal_of is not None:
            return self._answer_signal(request, signal_of[1])
        if request.path != TRACES_PATH:
            return json_reply(404, {"detail": "Not Found"})
        if request.method != "POST":
            return json_reply(405, {"detail": "Method Not Allowed"}, {"Allow": "POST"})
        if self.api_key is not None and request.headers.get("authorization") != self.api_key:
            return json_reply(401, {"detail": "Not authenticated"})
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != PROTOBUF:
            return json_reply(415, {"detail": "Unsupported Media Type"})
        if request.problem:
            return json_reply(400, {"detail": request.problem})
        response = ExportTraceServiceResponse()
        accepted = request.spans
        if isinstance(scripted, PartialSuccess):
            response.partial_success.rejected_spans = scripted.rejected
            response.partial_success.error_message = scripted.message
            accepted = accepted[: max(len(accepted) - scripted.rejected, 0)]
        with self._lock:
            self.spans.extend(accepted)
        return Reply(200, {"Content-Type": PROTOBUF}, response.SerializeToString())

    def _answer_signal(self, request: TraceRequest, project: str) -> Reply:
        if request.method != "POST":
            return json_reply(405, {"detail": "Method Not Allowed"}, {"Allow": "POST"})
        if self.api_key is not None and request.headers.get("authorization") != self.api_key:
            return json_reply(401, {"detail": "Not authenticated"})
        wrong = "not JSON"
        try:
            content = json.loads(request.body)
            wrong = _wrong_signal(content)
        except ValueError:
            content = {}
        if wrong:
            return json_reply(422, {"detail": wrong})
        with self._lock:
            self.signals.append(ReceivedSignal(project, content))
        return json_reply(200, {"status": "ok"})


def _wrong_signal(content: Any) -> str:
    """Return what is wrong with a signal, as Kelet's own SDKs would not send it; an empty text for nothing."""
    if not isinstance(content, dict):
        return "not an object"
    score = content.get("score")
    rules = {
        "kind": content.get("kind") in {"feedback", "edit", "event", "metric", "arbitrary"},
        "source": content.get("source") in {"human", "label", "synthetic"},
        "session_id or trace_id": bool(content.get("session_id") or content.get("trace_id")),
        "score": score is None or (isinstance(score, int | float) and 0 <= score <= 1),
        "value": isinstance(content.get("value", ""), str),
        "metadata": isinstance(content.get("metadata", {}), dict),
        "null": None not in content.values(),
    }
    return ", ".join(name for name, is_right in rules.items() if not is_right)


def decode(export: ExportTraceServiceRequest, project: str = "") -> Iterator[ReceivedSpan]:
    """Iterate over the spans of an OTLP request."""
    for resource_spans in export.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            scope = scope_spans.scope
            scope_attributes = _attributes(scope.attributes)
            for span in scope_spans.spans:
                yield ReceivedSpan(
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    name=span.name,
                    kind=span.kind,
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    status_code=span.status.code,
                    status_message=span.status.message,
                    attributes=_attributes(span.attributes),
                    resource=resource,
                    scope_name=scope.name,
                    scope_version=scope.version,
                    scope_attributes=scope_attributes,
                    events=[(event.name, event.time_unix_nano, _attributes(event.attributes)) for event in span.events],
                    dropped_attributes_count=span.dropped_attributes_count,
                    project=project,
                )


def _attributes(pairs: Iterable[KeyValue]) -> Attributes:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    which = value.WhichOneof("value")
    if which is None:
        return None
    if which == "array_value":
        return [_value(item) for item in value.array_value.values]
    if which == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, which)
