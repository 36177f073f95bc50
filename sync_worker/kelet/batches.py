"""Puts serialised spans together into OTLP requests.

A span is serialised once, when it is converted. A request is those bytes with envelopes around them: protobuf lets
messages be joined byte by byte, so halving a batch or sending it again costs no second serialisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

from sync_worker.spans.model import EncodedSpan

_RESOURCE_SPANS = ExportTraceServiceRequest.DESCRIPTOR.fields_by_name["resource_spans"].number
_RESOURCE = ResourceSpans.DESCRIPTOR.fields_by_name["resource"].number
_SCOPE_SPANS = ResourceSpans.DESCRIPTOR.fields_by_name["scope_spans"].number
_SCOPE = ScopeSpans.DESCRIPTOR.fields_by_name["scope"].number
_SPANS = ScopeSpans.DESCRIPTOR.fields_by_name["spans"].number

#: Bytes counted for a span's share of tags and lengths.
_OVERHEAD = 24


def pack(traces: Iterable[Sequence[EncodedSpan]], max_spans: int, max_bytes: int) -> Iterator[list[EncodedSpan]]:
    """Yield batches of one project each; a trace stays whole where it fits into one batch.

    `max_bytes` counts the request before compression. A span that is larger alone goes alone.
    """
    open_batches: dict[str, tuple[list[EncodedSpan], int]] = {}
    for trace in traces:
        for project, members in groupby(trace, key=lambda span: span.project):
            spans = list(members)
            cost = sum(_cost(span) for span in spans)
            batch, used = open_batches.get(project, ([], 0))
            if batch and (len(batch) + len(spans) > max_spans or used + cost > max_bytes):
                yield batch
                batch, used = [], 0
            for span in spans:
                if batch and (len(batch) >= max_spans or used + _cost(span) > max_bytes):
                    yield batch
                    batch, used = [], 0
                batch.append(span)
                used += _cost(span)
            open_batches[project] = (batch, used)
    yield from (batch for batch, _ in open_batches.values() if batch)


def body(batch: Sequence[EncodedSpan]) -> bytes:
    """Return the ExportTraceServiceRequest of a batch, grouped by resource and scope in order of appearance."""
    resources: dict[bytes, dict[bytes, list[bytes]]] = {}
    for span in batch:
        resources.setdefault(span.resource, {}).setdefault(span.scope, []).append(span.span)
    request = bytearray()
    for resource, scopes in resources.items():
        inner = bytearray(_field(_RESOURCE, resource))
        for scope, spans in scopes.items():
            scope_spans = bytearray(_field(_SCOPE, scope))
            for span_bytes in spans:
                scope_spans += _head(_SPANS, len(span_bytes))
                scope_spans += span_bytes
            inner += _head(_SCOPE_SPANS, len(scope_spans))
            inner += scope_spans
        request += _head(_RESOURCE_SPANS, len(inner))
        request += inner
    return bytes(request)


def _cost(span: EncodedSpan) -> int:
    return len(span.span) + _OVERHEAD + (len(span.resource) + len(span.scope)) // 8


def _field(number: int, value: bytes) -> bytes:
    return _head(number, len(value)) + value


def _head(number: int, length: int) -> bytes:
    """Return tag and length of a length-delimited field."""
    out = bytearray([number << 3 | 2])
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out)
