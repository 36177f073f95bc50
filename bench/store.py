"""Pages of a project's rows as bytes, put together from one serialised block."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from bench.shape import MARKER, MOMENT, Shape, block_of, marker_of
from bench.template import Row, block_rows, offset_ms
from sync_worker.compression import compress
from sync_worker.langfuse.v2 import FULL

#: Which keys of a row a group of fields brings, but for those of `core`, which is always there.
_GROUPS = {
    "basic": "name level statusMessage version environment userId sessionId isRootObservation bookmarked public",
    "time": "completionStartTime createdAt updatedAt",
    "io": "input output",
    "metadata": "metadata",
    "model": "model internalModelId modelParameters",
    "usage": "usageDetails inputUsage outputUsage totalUsage costDetails inputCost outputCost totalCost "
    "usagePricingTierId usagePricingTierName",
    "prompt": "promptId promptName promptVersion",
    "trace_context": "traceName release tags",
}

_MOST_KEPT = 96 * 1024 * 1024  # bytes of compressed pages kept for the next round
_NEVER = -(2**60)


def fields_of(rows: Sequence[Row], fields: str) -> list[Row]:
    """Return rows with the keys that these groups of fields bring."""
    groups = set(fields.split(","))
    hidden = {key for group, keys in _GROUPS.items() if group not in groups for key in keys.split()}
    return [{key: value for key, value in row.items() if key not in hidden} for row in rows]


class Blob:
    """The rows of a block in one kind of fields: each as JSON with a comma behind it, newest first."""

    def __init__(self, rows: Sequence[Row]) -> None:
        parts = [json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"," for row in rows]
        self._bytes = b"".join(parts)
        self._at = array("Q", accumulate((len(part) for part in parts), initial=0))

    def rows(self, start: int, end: int) -> bytes:
        """Return the rows `[start, end)` of the block."""
        return self._bytes[self._at[start] : self._at[end]]


class Store:
    """All rows of a project, newest first: position 0 is the newest row of the last block."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.rows = shape.rows
        rows = block_rows(shape)
        self._full = rows
        self._blobs: dict[str, Blob] = {}
        self._ages = array("q", (-offset_ms(row["startTime"], shape.period_ms) for row in rows))  # ascending
        self._ends = array("q", (_end(row, shape) for row in rows))
        self._by_id = {row["id"][len(MARKER) :]: number for number, row in enumerate(rows)}
        self._by_trace: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            self._by_trace.setdefault(row["traceId"][len(MARKER) :], []).append(number)
        self._moment = MOMENT[shape.period_ms].encode()
        self._kept: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._kept_bytes = 0
        self._blob(FULL)  # what takes seconds is done before anything is measured

    def position(self, moment_ms: int) -> int:
        """Return how many rows start at or after a time."""
        shape = self.shape
        if moment_ms <= shape.first_ms:
            return shape.rows
        if moment_ms >= shape.end_ms:
            return 0
        block, offset = divmod(moment_ms - shape.first_ms, shape.period_ms)
        return (shape.blocks - 1 - block) * shape.block_rows + bisect_right(self._ages, -offset)

    def listed(self, start: int, end: int, most: int) -> Sequence[int]:
        """Return the positions `[start, end)`, of which only so many count."""
        del most
        return range(start, max(start, end))

    def ended_since(self, since_ms: int, start: int, end: int) -> Iterator[int]:
        """Yield the positions in `[start, end)` of rows that ended at or after a time."""
        for position in range(start, end):
            block, row = self._place(position)
            begun = self.shape.start_of(block)
            if begun + self.shape.period_ms <= since_ms:
                return  # older blocks are over even longer
            if self._ends[row] >= since_ms - begun:
                yield position

    def of_traces(self, trace_ids: Sequence[str], *, roots: bool) -> list[int]:
        """Return the positions of all rows of some traces, or of their roots, newest first."""
        found: list[int] = []
        for trace_id in trace_ids:
            block, rows = self._look_up(trace_id, lambda tail: self._by_trace.get(tail, []))
            found += [self._at(block, row) for row in rows if not roots or self._full[row]["isRootObservation"]]
        return sorted(found)

    def of_ids(self, observation_ids: Sequence[str]) -> list[int]:
        """Return the positions of some rows, newest first."""
        found: list[int] = []
        for observation_id in observation_ids:
            block, rows = self._look_up(observation_id, lambda tail: [self._by_id[tail]] if tail in self._by_id else [])
            found += [self._at(block, row) for row in rows]
        return sorted(found)

    def page(self, fields: str, positions: Sequence[int], cursor: int | None, *, zipped: bool) -> bytes:
        """Return the answer that lists these positions, compressed if asked for."""
        whole = isinstance(positions, range)
        key = (fields, positions, cursor) if whole and zipped else None
        if key is not None and key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        blob = self._blob(fields)
        runs = self._runs(positions.start, positions.stop) if isinstance(positions, range) else self._singles(positions)
        parts = [
            blob.rows(start, end).replace(MARKER.encode(), marker_of(block).encode())
            .replace(self._moment, self.shape.moment_of(block).encode())
            for block, start, end in runs
        ]  # fmt: skip
        meta = b"{}" if cursor is None else b'{"cursor":"%d"}' % cursor
        plain = b'{"data":[%b],"meta":%b}' % (b"".join(parts)[:-1], meta)
        if not zipped:
            return plain
        content = compress(plain)
        if key is not None:
            self._keep(key, content)
        return content

    def _blob(self, fields: str) -> Blob:
        blob = self._blobs.get(fields)
        if blob is None:
            blob = self._blobs[fields] = Blob(fields_of(self._full, fields))
        return blob

    def _keep(self, key: tuple[object, ...], content: bytes) -> None:
        self._kept[key] = content
        self._kept_bytes += len(content)
        while self._kept_bytes > _MOST_KEPT:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1])

    def _look_up(self, full_id: str, find: Callable[[str], Sequence[int]]) -> tuple[int, Sequence[int]]:
        try:
            block = block_of(full_id[: len(MARKER)])
        except ValueError:
            return 0, ()
        return block, find(full_id[len(MARKER) :]) if block < self.shape.blocks else ()

    def _place(self, position: int) -> tuple[int, int]:
        """Return block and row of a position."""
        age, row = divmod(position, self.shape.block_rows)
        return self.shape.blocks - 1 - age, row

    def _at(self, block: int, row: int) -> int:
        return (self.shape.blocks - 1 - block) * self.shape.block_rows + row

    def _runs(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield (block, first row, row after the last) of an interval of positions."""
        while start < end:
            block, row = self._place(start)
            count = min(end - start, self.shape.block_rows - row)
            yield block, row, row + count
            start += count

    def _singles(self, positions: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        for position in positions:
            block, row = self._place(position)
            yield block, row, row + 1


def _end(row: Row, shape: Shape) -> int:
    return _NEVER if row["endTime"] is None else offset_ms(row["endTime"], shape.period_ms)
