"""What one would write without this project: the Langfuse SDK reads, the OpenTelemetry SDK sends.

`python -m bench.sdk_client LANGFUSE_URL KELET_URL FROM TO [THREADS]`. It keeps no state, waits for no trace and handles
no fault. With threads, batches are made and sent in so many while pages are read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import islice
from typing import Any

from langfuse.api.client import LangfuseAPI
from langfuse.api.commons.types.observation_v2 import ObservationV2
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

FIELDS = "core,basic,time,io,metadata,model,usage,prompt,trace_context"
BATCH = 512

_SCOPE = InstrumentationScope("langfuse-sdk")
_RESOURCE = Resource({"service.name": "bench", "kelet.project": "bench"})
_OPERATIONS = {"GENERATION": "chat", "EMBEDDING": "embeddings", "TOOL": "execute_tool", "AGENT": "invoke_agent"}


def rows(api: LangfuseAPI, start: datetime, end: datetime) -> Iterator[ObservationV2]:
    """Yield all observations that start in an interval of time."""
    cursor: str | None = None
    while True:
        page = api.observations.get_many(
            fields=FIELDS, limit=1000, cursor=cursor, from_start_time=start, to_start_time=end
        )
        yield from page.data
        cursor = page.meta.cursor
        if cursor is None:
            return


def span_of(row: ObservationV2) -> ReadableSpan:
    """Return the span of an observation."""
    trace_id = int(row.trace_id or row.id, 16)
    parent = row.parent_observation_id
    is_error = row.level == "ERROR"
    return ReadableSpan(
        name=row.name or row.type,
        context=SpanContext(trace_id, int(row.id, 16), is_remote=False, trace_flags=TraceFlags(1)),
        parent=None if parent is None else SpanContext(trace_id, int(parent, 16), is_remote=True),
        resource=_RESOURCE,
        attributes=attributes_of(row),
        kind=SpanKind.CLIENT if row.type in {"GENERATION", "EMBEDDING"} else SpanKind.INTERNAL,
        instrumentation_scope=_SCOPE,
        status=Status(StatusCode.ERROR, row.status_message) if is_error else Status(StatusCode.UNSET),
        start_time=_ns(row.start_time),
        end_time=_ns(row.end_time or row.start_time),
    )


def attributes_of(row: ObservationV2) -> dict[str, Any]:
    """Return Langfuse's attributes and the basic ones of OpenTelemetry's GenAI conventions."""
    usage = row.usage_details or {}
    found = {
        "kelet.project": "bench",
        "langfuse.observation.type": row.type.lower(),
        "langfuse.observation.level": row.level,
        "langfuse.observation.status_message": row.status_message,
        "langfuse.observation.input": row.input,
        "langfuse.observation.output": row.output,
        "langfuse.observation.model.name": row.model,
        "langfuse.observation.model.parameters": _json(row.model_parameters),
        "langfuse.observation.usage_details": _json(usage),
        "langfuse.observation.cost_details": _json(row.cost_details),
        "langfuse.observation.prompt.name": row.prompt_name,
        "langfuse.trace.name": row.trace_name,
        "langfuse.trace.tags": row.tags,
        "langfuse.environment": row.environment,
        "langfuse.release": row.release,
        "langfuse.version": row.version,
        "session.id": row.session_id,
        "user.id": row.user_id,
        "gen_ai.conversation.id": row.session_id,
        "gen_ai.operation.name": _OPERATIONS.get(row.type),
        "gen_ai.request.model": row.model,
        "gen_ai.usage.input_tokens": usage.get("input"),
        "gen_ai.usage.output_tokens": usage.get("output"),
    }
    found |= {f"langfuse.observation.metadata.{key}": _plain(value) for key, value in (row.metadata or {}).items()}
    return {key: value for key, value in found.items() if value not in (None, "", [])}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | bool | int | float) else _json(value)


def _json(value: Any) -> str | None:
    return json.dumps(value) if value else None


def _ns(moment: datetime) -> int:
    return int(moment.timestamp() * 1000) * 1_000_000


def main(langfuse_url: str, kelet_url: str, start: str, end: str, threads: str = "0") -> None:
    """Send all observations of an interval of time."""
    api = LangfuseAPI(base_url=langfuse_url, username="pk-lf-bench", password="sk-lf-bench", timeout=60)  # noqa: S106
    exporter = OTLPSpanExporter(
        endpoint=f"{kelet_url}/api/traces",
        headers={"Authorization": "bench-key", "X-Kelet-Project": "bench"},
        compression=Compression.Gzip,
        timeout=60,
    )
    all_batches = batches(rows(api, datetime.fromisoformat(start), datetime.fromisoformat(end)))
    if int(threads):
        with ThreadPoolExecutor(int(threads)) as pool:
            for sent in [pool.submit(_send, exporter, batch) for batch in all_batches]:
                sent.result()
    else:
        for batch in all_batches:
            _send(exporter, batch)
    exporter.shutdown()  # type: ignore[no-untyped-call]


def batches(found: Iterator[ObservationV2]) -> Iterator[list[ObservationV2]]:
    """Yield the rows of one request after the other."""
    while batch := list(islice(found, BATCH)):
        yield batch


def _send(exporter: OTLPSpanExporter, batch: list[ObservationV2]) -> None:
    if exporter.export([span_of(row) for row in batch]) is not SpanExportResult.SUCCESS:
        raise SystemExit("a batch was not taken")


if __name__ == "__main__":
    main(*sys.argv[1:])
