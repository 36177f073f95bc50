"""A fast script that moves observations and does not convert them: `python -m bench.tuned_client URL URL FROM TO`.

httpx reads, orjson decodes, OpenTelemetry's protobuf classes serialise, ISA-L compresses. Input, output and metadata
go over as text, under Langfuse's names. It keeps no state, waits for no trace and handles no fault.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import orjson
from isal import igzip
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

FIELDS = "core,basic,time,io,metadata,model,usage,prompt,trace_context"
BATCH = 512
KEPT = {
    "input": "langfuse.observation.input", "output": "langfuse.observation.output", "type": "langfuse.observation.type",
    "model": "langfuse.observation.model.name", "traceName": "langfuse.trace.name", "sessionId": "session.id",
    "userId": "user.id", "environment": "langfuse.environment", "release": "langfuse.release",
}  # fmt: skip
AS_JSON = {"metadata": "langfuse.observation.metadata", "usageDetails": "langfuse.observation.usage_details",
           "costDetails": "langfuse.observation.cost_details"}  # fmt: skip


def rows(client: httpx.Client, url: str, start: str, end: str) -> Iterator[dict[str, Any]]:
    """Yield all observations that start in an interval of time."""
    asked = {"fields": FIELDS, "limit": "1000", "fromStartTime": start, "toStartTime": end}
    while True:
        page = orjson.loads(client.get(f"{url}/api/public/v2/observations", params=asked).raise_for_status().content)
        yield from page["data"]
        if "cursor" not in page["meta"]:
            return
        asked["cursor"] = page["meta"]["cursor"]


def add(span: Span, row: dict[str, Any]) -> None:
    """Fill the span of an observation."""
    span.trace_id, span.span_id = bytes.fromhex(row["traceId"]), bytes.fromhex(row["id"])
    span.parent_span_id = bytes.fromhex(row["parentObservationId"] or "")
    span.name, span.kind = row["name"], Span.SPAN_KIND_INTERNAL
    span.start_time_unix_nano = _ns(row["startTime"])
    span.end_time_unix_nano = _ns(row["endTime"] or row["startTime"])
    for key, name in KEPT.items():
        if row[key]:
            span.attributes.add(key=name).value.string_value = row[key]
    for key, name in AS_JSON.items():
        if row[key]:
            span.attributes.add(key=name).value.string_value = orjson.dumps(row[key]).decode()


def _ns(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1_000) * 1_000_000


def main(langfuse_url: str, kelet_url: str, start: str, end: str) -> None:
    """Send all observations of an interval of time."""
    headers = {"Authorization": "bench-key", "X-Kelet-Project": "bench", "Content-Encoding": "gzip",
               "Content-Type": "application/x-protobuf"}  # fmt: skip
    with httpx.Client(timeout=60, auth=("pk-lf-bench", "sk-lf-bench")) as langfuse, httpx.Client(timeout=60) as kelet:
        request = ExportTraceServiceRequest()
        spans = request.resource_spans.add().scope_spans.add().spans

        def send() -> None:
            body = igzip.compress(request.SerializeToString(), 2)
            kelet.post(f"{kelet_url}/api/traces", content=body, headers=headers).raise_for_status()
            del spans[:]

        for row in rows(langfuse, langfuse_url, start, end):
            add(spans.add(), row)
            if len(spans) == BATCH:
                send()
        if spans:
            send()


if __name__ == "__main__":
    main(*sys.argv[1:])
