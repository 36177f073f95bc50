"""A receiver that takes every OTLP request at once and counts its spans later: `python -m bench.otlp_sink SHAPE`.

Requests are written to a file as they came, and read only when it is asked what arrived: on a machine of two cores,
reading them meanwhile would take a part of what is measured.
"""

from __future__ import annotations

import sys
import tempfile
import time
import zlib
from array import array
from collections import Counter
from contextlib import closing

from bench.otlp import span_ids
from bench.serving import CONTROL, Reply, Request, json_reply, serve
from bench.shape import Shape, block_of, row_of

_MARKER_BYTES = 3
_PROTOBUF = b"application/x-protobuf"


class Sink:
    """Counts requests, bytes and spans, and notes when each row of the project arrived first."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._cpu = time.process_time()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - until close
        self._taken: list[tuple[int, int, bool]] = []  # Unix ms, bytes, and whether they are compressed
        self._counts: Counter[str] = Counter()
        self._arrived: dict[bytes, array[int]] = {}  # by the first bytes of span ids, Unix ms of each row of that block

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    def answer(self, request: Request) -> Reply:
        """Take a request in."""
        if request.path.startswith(CONTROL):
            return self._control(request.path.removeprefix(CONTROL))
        if request.method != "POST" or request.path != "/api/traces":
            return json_reply({"detail": "Not Found"}, 404)
        self._file.write(request.body)
        zipped = request.headers.get("content-encoding") == "gzip"
        self._taken.append((time.time_ns() // 1_000_000, len(request.body), zipped))
        return Reply(content_type=_PROTOBUF)

    def _count_all(self) -> None:
        """Read what was taken in since the last time."""
        self._file.seek(0)
        for moment_ms, size, zipped in self._taken:
            body = self._file.read(size)
            plain = zlib.decompress(body, 31) if zipped else body
            ids = list(span_ids(plain))
            self._counts.update(requests=1, bytes=size, plain_bytes=len(plain), spans=len(ids))
            for span_id in ids:
                self._count(span_id, moment_ms)
        self._taken.clear()
        self._file.seek(0)
        self._file.truncate()

    def _count(self, span_id: bytes, moment_ms: int) -> None:
        arrived = self._arrived.get(span_id[:_MARKER_BYTES])
        if arrived is None:
            if block_of(span_id[:_MARKER_BYTES].hex()) >= self._shape.blocks:
                self._counts["strange"] += 1
                return
            arrived = self._arrived[span_id[:_MARKER_BYTES]] = array("q", bytes(8 * self._shape.block_rows))
        row = row_of(span_id[_MARKER_BYTES:].hex())
        if row >= len(arrived):
            self._counts["strange"] += 1
        elif arrived[row]:
            self._counts["repeated"] += 1
        else:
            arrived[row] = moment_ms
            self._counts["unique"] += 1

    def _control(self, what: str) -> Reply:
        cpu = time.process_time() - self._cpu
        self._count_all()
        reported = {"counts": dict(self._counts), "cpu": cpu}
        if what == "arrivals":
            blocks = {block_of(marker.hex()): list(moments) for marker, moments in self._arrived.items()}
            reported["arrivals"] = [
                blocks.get(block, [0] * self._shape.block_rows) for block in range(self._shape.blocks)
            ]
        if what == "reset":
            self._counts.clear()
            self._arrived.clear()
            self._cpu = time.process_time()
        return json_reply(reported)


if __name__ == "__main__":
    with closing(Sink(Shape.from_text(sys.argv[1]))) as sink:
        serve(sink.answer)
