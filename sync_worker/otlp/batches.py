"""Puts serialised spans together into OTLP requests.

A span is serialised once, when it is converted. A request is those bytes with envelopes around them: protobuf lets
messages be joined byte by byte, so halving a batch or sending it again costs no second serialisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

from sync_worker.spans.span_model import EncodedSpan
from sync_worker.spans.wire import varint

# Tags of fields of ExportTraceServiceRequest, ResourceSpans and ScopeSpans, which OTLP never changes. Its library is
# not asked for them, since importing that takes longer than the rest of this module.
_RESOURCE_SPANS = b"\x0a"
_RESOURCE, _SCOPE_SPANS = b"\x0a", b"\x12"
_SCOPE, _SPANS = b"\x0a", b"\x12"

_PROJECT = attrgetter("project")

#: The most bytes that tag and length of one field take.
_HEADER = 6


@dataclass(slots=True)
class Batcher:
    """Puts spans into batches of one project each; a trace stays whole where it fits into one batch.

    `max_bytes` counts the request before compression. A span that is larger alone goes alone.
    """

    max_spans: int
    max_bytes: int
    _open: dict[str, _Batch] = field(default_factory=dict)  # by project

    def add(self, trace: Sequence[EncodedSpan]) -> Iterator[list[EncodedSpan]]:
        """Take in the spans of a trace; yield batches that are full."""
        for project, members in groupby(trace, key=_PROJECT):
            spans = list(members)
            batch = self._open.get(project) or self._begin(project)
            if batch.take(spans):
                continue
            if batch.spans:
                yield batch.spans
                batch = self._begin(project)
            if batch.take(spans):
                continue
            for span in spans:  # more than fits into one batch
                if not batch.take([span]):
                    yield batch.spans
                    batch = self._begin(project)
                    batch.take([span])

    def rest(self) -> Iterator[list[EncodedSpan]]:
        """Yield the batches that are not full, and restart."""
        batches, self._open = self._open, {}
        yield from (batch.spans for batch in batches.values() if batch.spans)

    def _begin(self, project: str) -> _Batch:
        batch = self._open[project] = _Batch(self.max_spans, self.max_bytes)
        return batch


class _Batch:
    """A batch in the making, and at most how large its request will be. Any span alone fits an empty one."""

    def __init__(self, max_spans: int, max_bytes: int) -> None:
        self.spans: list[EncodedSpan] = []
        self._max_spans = max_spans
        self._max_bytes = max_bytes
        self._bytes = 0
        self._resources: set[bytes] = set()
        self._scopes: set[tuple[bytes, bytes]] = set()

    def take(self, spans: Sequence[EncodedSpan]) -> bool:
        """Take all of the spans, or none where they do not fit."""
        if len(self.spans) + len(spans) > self._max_spans and not self._is_first(spans):
            return False
        resources = {span.resource for span in spans} - self._resources
        scopes = {(span.resource, span.scope) for span in spans} - self._scopes
        size = sum([_HEADER + len(span.span) for span in spans])
        size += sum([2 * _HEADER + len(resource) for resource in resources])
        size += sum([2 * _HEADER + len(scope) for _, scope in scopes])
        if self._bytes + size > self._max_bytes and not self._is_first(spans):
            return False
        self._bytes += size
        self._resources |= resources
        self._scopes |= scopes
        self.spans += spans
        return True

    def _is_first(self, spans: Sequence[EncodedSpan]) -> bool:
        return not self.spans and len(spans) == 1


def body(batch: Sequence[EncodedSpan]) -> bytes:
    """Return the ExportTraceServiceRequest of a batch, grouped by resource and scope in order of appearance."""
    return request_of((span.resource, span.scope, span.span) for span in batch)


def request_of(serialized: Iterable[tuple[bytes, bytes, bytes]]) -> bytes:
    """Return the ExportTraceServiceRequest of serialised resources, scopes and spans, grouped as by `body`."""
    resources: dict[bytes, dict[bytes, list[bytes]]] = {}
    for resource, scope, span_bytes in serialized:
        resources.setdefault(resource, {}).setdefault(scope, []).append(span_bytes)
    request: list[bytes] = []
    for resource, scopes in resources.items():
        inner = [_RESOURCE, varint(len(resource)), resource]
        for scope, spans in scopes.items():
            of_scope = [_SCOPE, varint(len(scope)), scope]
            for span_bytes in spans:
                of_scope += _SPANS, varint(len(span_bytes)), span_bytes
            inner += _SCOPE_SPANS, varint(sum(map(len, of_scope))), *of_scope
        request += _RESOURCE_SPANS, varint(sum(map(len, inner))), *inner
    return b"".join(request)
