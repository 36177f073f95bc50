"""Pages of a flow's observations, as far as they have come: newest first, position 0 is the last of all to start."""

from __future__ import annotations

import json
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence

from bench.flow import Comes, Flow
from bench.shape import HOUR_MS, iso
from bench.store import fields_of
from bench.template import Row, offset_ms
from sync_worker.compression import compress

_FILLED = ("id", "traceId", "parentObservationId")
_MOMENTS = ("startTime", "endTime", "completionStartTime", "createdAt", "updatedAt")


class FlowStore:
    """All observations of a flow, of which only those are listed that have been written by now."""

    def __init__(self, flow: Flow, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._flow = flow
        self.now_ms = now_ms
        self.rows = len(flow.all)
        self._comes = sorted(flow.all, key=lambda one: (-one.start_ms, one.number))
        self._ages = array("q", (-one.start_ms for one in self._comes))  # ascending
        self._position = {one.number: position for position, one in enumerate(self._comes)}
        self._by_trace: dict[str, list[int]] = {}
        for position, one in enumerate(self._comes):
            self._by_trace.setdefault(one.trace_id, []).append(position)
        self._by_id = {flow.id_of(one.number): position for position, one in enumerate(self._comes)}
        self._patterns: dict[str, list[bytes]] = {}

    def position(self, moment_ms: int) -> int:
        """Return how many observations start at or after a time."""
        return bisect_right(self._ages, -moment_ms)

    def listed(self, start: int, end: int, most: int) -> Sequence[int]:
        """Return the first positions of those in `[start, end)` that are there, at most so many."""
        now, found = self.now_ms(), []
        for position in range(start, end):
            if self._comes[position].written_ms <= now:
                found.append(position)
                if len(found) == most:
                    break
        return found

    def ended_since(self, since_ms: int, start: int, end: int) -> Iterator[int]:
        """Yield the positions in `[start, end)` of observations that ended at or after a time."""
        for position in self.listed(start, end, self.rows):
            if (self._comes[position].end_ms or 0) >= since_ms:
                yield position

    def of_traces(self, trace_ids: Sequence[str], *, roots: bool) -> list[int]:
        """Return the positions of all observations of some traces, or of their roots, newest first."""
        found = [position for trace_id in trace_ids for position in self._by_trace.get(trace_id, ())]
        return self._there(one for one in found if not roots or self._comes[one].parent is None)

    def of_ids(self, observation_ids: Sequence[str]) -> list[int]:
        """Return the positions of some observations, newest first."""
        return self._there(self._by_id[one] for one in observation_ids if one in self._by_id)

    def page(self, fields: str, positions: Sequence[int], cursor: int | None, *, zipped: bool) -> bytes:
        """Return the answer that lists these positions, compressed if asked for."""
        patterns = self._patterns.get(fields)
        if patterns is None:
            patterns = self._patterns[fields] = [_pattern(row) for row in fields_of(self._flow.templates, fields)]
        rows = b",".join(patterns[self._comes[one].template] % self._values(self._comes[one]) for one in positions)
        meta = b"{}" if cursor is None else b'{"cursor":"%d"}' % cursor
        plain = b'{"data":[%b],"meta":%b}' % (rows, meta)
        return compress(plain) if zipped else plain

    def _there(self, positions: Iterable[int]) -> list[int]:
        now = self.now_ms()
        return sorted(one for one in positions if self._comes[one].written_ms <= now)

    def _values(self, one: Comes) -> dict[bytes, bytes]:
        row = self._flow.templates[one.template]
        answered = row["completionStartTime"]
        first_token = None if answered is None else one.shift_ms + offset_ms(answered, HOUR_MS)
        return {
            b"id": _text(self._flow.id_of(one.number)),
            b"traceId": _text(one.trace_id),
            b"parentObservationId": _text(None if one.parent is None else self._flow.id_of(one.parent)),
            b"startTime": _moment(one.start_ms),
            b"endTime": _moment(one.end_ms),
            b"completionStartTime": _moment(first_token),
            b"createdAt": _moment(one.written_ms),
            b"updatedAt": _moment(one.written_ms),
        }


def _pattern(row: Row) -> bytes:
    """Return a row as JSON, with a name in place of each id and time."""
    marked = {name: f"~%{name}~" if name in _FILLED + _MOMENTS else value for name, value in row.items()}
    text = json.dumps(marked, ensure_ascii=False, separators=(",", ":")).replace("%", "%%")
    for name in _FILLED + _MOMENTS:
        text = text.replace(f'"~%%{name}~"', f"%({name})b")
    return text.encode()


def _text(value: str | None) -> bytes:
    return b"null" if value is None else b'"%b"' % value.encode()


def _moment(value: int | None) -> bytes:
    return _text(None if value is None else iso(value))
