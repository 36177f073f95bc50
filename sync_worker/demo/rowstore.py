"""Rows of Langfuse's store in the order in which the API lists them, safe to change while a server reads them.

A row is one version of an observation: until the store merges them, an observation may have several.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sync_worker.demo.xxh32 import trace_hash

Row = dict[str, Any]

#: Start in milliseconds, hash of the trace id, id: the position in a cursor. The lowest is listed last.
Position = tuple[int, int, str]


def to_ms(time: str) -> int:
    """Return the Unix milliseconds of an ISO time with an offset, floored."""
    return _epoch_us(datetime.fromisoformat(time)) // 1000


def _epoch_us(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"a time without an offset: {moment}")
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00Z")


class Entry(NamedTuple):
    """A row with its keys for sorting and filtering."""

    key: tuple[int, int, str, int]  # its position, then newer rows below older ones
    row: Row
    end_ms: int | None


def _key(entry: Entry) -> tuple[Any, ...]:
    return entry.key


#: Trace id, observation id and start: the key of which Langfuse's store keeps one row, once it has merged.
StoreKey = tuple[Any, str, str]


def store_key(row: Mapping[str, Any]) -> StoreKey:
    """Return the key of a row in Langfuse's store: rows with different starts are never merged."""
    return row.get("traceId"), row["id"], row["startTime"]


def joined(row: Mapping[str, Any], content: Mapping[str, Any]) -> Row:
    """Return a version as it is listed before a merge: with the input and output of another version."""
    return {**row, "input": content.get("input"), "output": content.get("output")}


class RowStore:
    """A multiset of rows: an id may occur more than once, as on a server before its store has merged."""

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._lock = threading.Lock()
        self._added = 0
        self._content: dict[StoreKey, Row] = {}  # whose input and output all versions of an observation have
        self._entries: list[Entry] = []  # oldest first; replaced on a change, so that readers need no lock
        self.extend(rows)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Row]:
        """Iterate over the rows as they are listed, newest first."""
        return (entry.row for entry in reversed(self._entries))

    def add(self, *rows: Mapping[str, Any]) -> None:
        """Add rows, in addition to any with the same id."""
        self.extend(rows)

    def extend(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add many rows."""
        with self._lock:
            new = [self._entry(row) for row in rows]
            self._entries = sorted([*self._entries, *new], key=_key)

    def update(self, *rows: Mapping[str, Any], content: Literal["old", "new"] = "old") -> None:
        """Add newer versions to those that exist, as a server does, until `merge`.

        Until then all versions are listed, each with the input and output of the `old` one or of the `new`.
        """
        with self._lock:
            for row in rows:
                key = store_key(row)
                before = [entry for entry in self._entries if store_key(entry.row) == key]
                oldest = max(before, key=lambda entry: entry.key[3]).row if before else dict(row)
                self._content[key] = dict(row) if content == "new" else self._content.get(key, oldest)
        self.extend(rows)

    def merge(self, *, content_too: bool = True) -> None:
        """Keep the last version of each observation, as the server's store does in the background.

        Rows and their content are two tables that merge independently: without `content_too`, an observation is listed
        once, still with the content that it was listed with before.
        """
        with self._lock:
            last: dict[StoreKey, Entry] = {}
            for entry in self._entries:
                key = store_key(entry.row)
                if key not in last or entry.key[3] < last[key].key[3]:
                    last[key] = entry
            self._entries = sorted(last.values(), key=_key)
            if content_too:
                self._content = {}

    def listed(self, entry: Entry) -> Row:
        """Return a row as it is listed at present."""
        content = self._content.get(store_key(entry.row)) if self._content else None
        return entry.row if content is None else joined(entry.row, content)

    def replace(self, *rows: Mapping[str, Any]) -> None:
        """Replace the rows with the same trace and id."""
        which = {(row.get("traceId"), row["id"]) for row in rows}
        with self._lock:
            kept = [entry for entry in self._entries if (entry.row.get("traceId"), entry.row["id"]) not in which]
            self._entries = sorted([*kept, *(self._entry(row) for row in rows)], key=_key)

    def remove(self, matches: Callable[[Row], bool]) -> int:
        """Remove the rows for which `matches` is true; return their number."""
        with self._lock:
            before = len(self._entries)
            self._entries = [entry for entry in self._entries if not matches(entry.row)]
            return before - len(self._entries)

    def clear(self) -> None:
        """Remove all rows."""
        self.remove(lambda _: True)

    def newest_first(self, *, from_ms: int | None, to_ms: int | None, below: Position | None) -> Iterator[Entry]:
        """Iterate over the rows that start in `[from_ms, to_ms)` and are listed after the position `below`."""
        entries = self._entries
        low = 0 if from_ms is None else bisect_left(entries, (from_ms,), key=_key)
        high = len(entries) if to_ms is None else bisect_left(entries, (to_ms,), key=_key)
        if below is not None:
            high = min(high, bisect_left(entries, below, key=_key))
        return (entries[at] for at in range(high - 1, low - 1, -1))

    def _entry(self, row: Mapping[str, Any]) -> Entry:
        self._added += 1
        end = row.get("endTime")
        key = (to_ms(row["startTime"]), trace_hash(row.get("traceId")), str(row["id"]), -self._added)
        return Entry(key, dict(row), None if end is None else to_ms(end))
