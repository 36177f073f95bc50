"""A receiver that takes every OTLP request at once and counts its spans: `python -m bench.otlp_sink SHAPE`."""

from __future__ import annotations

import sys
import zlib
from collections import Counter

from bench.otlp import span_ids
from bench.serving import CONTROL, Reply, Request, json_reply, serve
from bench.shape import Shape, block_of, row_of

_MARKER_BYTES = 3
_PROTOBUF = b"application/x-protobuf"


class Sink:
    """Counts requests, bytes and spans, and how often each row of the project arrived."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._counts: Counter[str] = Counter()
        self._seen: dict[bytes, bytearray] = {}  # by the first bytes of span ids, how often each row of that block came

    def answer(self, request: Request) -> Reply:
        """Take a request in; it is looked at after it was answered."""
        if request.path.startswith(CONTROL):
            return self._control(request.path.removeprefix(CONTROL))
        if request.method != "POST" or request.path != "/api/traces":
            return json_reply({"detail": "Not Found"}, 404)
        return Reply(content_type=_PROTOBUF, afterwards=lambda: self._take(request))

    def _take(self, request: Request) -> None:
        zipped = request.headers.get("content-encoding") == "gzip"
        plain = zlib.decompress(request.body, 31) if zipped else request.body
        ids = list(span_ids(plain))
        self._counts.update(requests=1, bytes=len(request.body), plain_bytes=len(plain), spans=len(ids))
        for span_id in ids:
            self._count(span_id)

    def _count(self, span_id: bytes) -> None:
        seen = self._seen.get(span_id[:_MARKER_BYTES])
        if seen is None:
            if block_of(span_id[:_MARKER_BYTES].hex()) >= self._shape.blocks:
                self._counts["strange"] += 1
                return
            seen = self._seen[span_id[:_MARKER_BYTES]] = bytearray(self._shape.block_rows)
        row = row_of(span_id[_MARKER_BYTES:].hex())
        if row >= len(seen):
            self._counts["strange"] += 1
        elif seen[row]:
            self._counts["repeated"] += 1
        else:
            seen[row] = 1
            self._counts["unique"] += 1

    def _control(self, what: str) -> Reply:
        told = {"counts": dict(self._counts)}
        if what == "reset":
            self._counts.clear()
            self._seen.clear()
        return json_reply(told)


if __name__ == "__main__":
    serve(Sink(Shape.from_text(sys.argv[1])).answer)
