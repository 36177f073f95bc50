"""Finds the spans of an OTLP request without decoding them: a benchmark's receiver must not be what is measured."""

from __future__ import annotations

from collections.abc import Iterator

_TRACE_ID, _SPAN_ID = b"\x0a\x10", b"\x12\x08"  # tag and length of a span's first two fields, in this order
_IDS = 2 + 16 + 2 + 8  # bytes


def span_ids(request: bytes) -> Iterator[bytes]:
    """Yield the id of each span of an ExportTraceServiceRequest. Raises ValueError when it is none."""
    for resource_spans in _fields(memoryview(request), 1):
        for scope_spans in _fields(resource_spans, 2):
            for span in _fields(scope_spans, 2):
                ids = bytes(span[:_IDS])
                if not (ids.startswith(_TRACE_ID) and ids[18:20] == _SPAN_ID):
                    raise ValueError("a span does not begin with its ids")
                yield ids[20:]


def _fields(message: memoryview, number: int) -> Iterator[memoryview]:
    """Yield a message's fields of this number; all of its fields must be of the kind that tells its length."""
    at, end = 0, len(message)
    while at < end:
        tag = message[at]
        length, at = _varint(message, at + 1)
        if tag & 7 != 2 or at + length > end:
            raise ValueError("this is no OTLP request")
        if tag >> 3 == number:
            yield message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
