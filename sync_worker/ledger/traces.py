"""Traces: which are pending, their Kelet project, their context."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from sync_worker.ledger.lease import LIVE
from sync_worker.ledger.store import Store, in_lists, storable
from sync_worker.ledger.stored_records import Pending, TraceNote

_COLUMNS = (
    "trace_id, pending, earliest_ms, newest_ms, check_ms, pending_ms, project, context, open_ms, origin, left_out_by, "
    "rules, exceptional"
)
_INSERT = f"INSERT INTO traces (source_id, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
#: A trace that has a project is sent; one that is left out stays so until it gets one.
_LEFT_OUT = ", ".join(
    f"{name} = CASE WHEN coalesce(project, excluded.project) IS NULL THEN coalesce(excluded.{name}, {name}) END"
    for name in ("left_out_by", "rules")
)
_LASTING = f"{_LEFT_OUT}, exceptional = max(exceptional, excluded.exceptional)"
#: The project is decided once: the first stays, also when two runs decide at the same moment.
_REPLACE = (
    "ON CONFLICT (source_id, trace_id) DO UPDATE SET pending = excluded.pending, earliest_ms = excluded.earliest_ms, "
    "newest_ms = excluded.newest_ms, check_ms = excluded.check_ms, pending_ms = excluded.pending_ms, "
    "origin = CASE WHEN project IS NULL THEN excluded.origin ELSE origin END, "
    "project = coalesce(project, excluded.project), context = excluded.context, open_ms = excluded.open_ms, "
    f"{_LASTING}"
)
#: Only the live sync knows which observations of a pending trace remain: other runs leave it pending. So do its jobs,
#: since another one may have stored it in the meantime.
_MERGE = (
    "ON CONFLICT (source_id, trace_id) DO UPDATE SET pending = max(pending, excluded.pending), "
    "earliest_ms = min(earliest_ms, excluded.earliest_ms), newest_ms = max(newest_ms, excluded.newest_ms), "
    "check_ms = CASE WHEN pending THEN check_ms ELSE excluded.check_ms END, "
    "pending_ms = coalesce(pending_ms, excluded.pending_ms), "
    "origin = CASE WHEN project IS NULL THEN excluded.origin ELSE origin END, "
    "project = coalesce(project, excluded.project), context = excluded.context, "
    f"open_ms = coalesce(open_ms, excluded.open_ms), {_LASTING}"
)


class Traces(Store):
    """The part of the ledger about traces."""

    def traces(self, source_id: int, trace_ids: Iterable[str]) -> dict[str, TraceNote]:
        """Return what is stored of these traces."""
        found: dict[str, TraceNote] = {}
        for marks, part in in_lists(trace_ids):
            rows = self.query(
                f"SELECT {_COLUMNS} FROM traces WHERE source_id = ? AND trace_id IN ({marks})", [source_id, *part]
            )
            found |= {row[0]: _note(row) for row in rows}
        return found

    def pending_due(
        self,
        source_id: int,
        now_ms: int,
        never_ms: int,
        limit: int,
        after: tuple[int, str] = (-1, ""),
        *,
        without: Collection[str] = (),
        project: str | None = None,
    ) -> list[TraceNote]:
        """Return pending traces that are due, those pending longest first.

        Those with a check time after `never_ms` are due too: a wrong clock has set it. `after`
        are check time and id of the last one that is not to be returned again. `without` leaves out those of these
        Kelet projects; `project` asks for those of this one alone.
        """
        lanes, values = "", list[str]()
        if without:
            lanes, values = f"AND coalesce(project, '') NOT IN ({','.join('?' * len(without))}) ", list(without)
        if project is not None:
            lanes, values = lanes + "AND project = ? ", [*values, project]
        rows = self.query(
            f"SELECT {_COLUMNS} FROM traces WHERE source_id = ? AND pending = 1 AND (check_ms <= ? OR check_ms > ?) "
            f"AND (check_ms, trace_id) > (?, ?) {lanes}ORDER BY check_ms, trace_id LIMIT ?",
            [source_id, now_ms, never_ms, *after, *values, limit],
        )
        return [_note(row) for row in rows]

    def _reroute(self, source_id: int, traces: Iterable[TraceNote]) -> None:
        """Store another Kelet project and its origin of traces whose decision followed the settings."""
        self.execute_many(
            "UPDATE traces SET project = ?, origin = ? WHERE source_id = ? AND trace_id = ?",
            [(note.project, note.origin, source_id, storable(note.trace_id)) for note in traces],
        )

    def newest_flushed(self, source_id: int, before_ms: int) -> int | None:
        """Return the latest time of flushed traces before a time; None where there are none."""
        ((newest,),) = self.query(
            "SELECT max(newest_ms) FROM traces WHERE source_id = ? AND newest_ms < ? AND pending = 0",
            [source_id, before_ms],
        )
        return None if newest is None else int(newest)

    def pending(self, source_id: int) -> Pending:
        """Return how many traces are pending."""
        ((count, oldest),) = self.query(
            "SELECT count(*), min(pending_ms) FROM traces WHERE source_id = ? AND pending = 1", [source_id]
        )
        return Pending(count, oldest)

    def open_due(self, source_id: int, now_ms: int, limit: int) -> list[TraceNote]:
        """Return open traces whose root lookup is due, longest due first."""
        rows = self.query(
            f"SELECT {_COLUMNS} FROM traces WHERE source_id = ? AND open_ms IS NOT NULL AND pending = 0 "
            "AND check_ms <= ? ORDER BY check_ms, trace_id LIMIT ?",
            [source_id, now_ms, limit],
        )
        return [_note(row) for row in rows]

    def give_up_open(self, source_id: int, before_ms: int, most: int) -> int:
        """Give up the root lookup of traces open since before `before_ms`, and of those beyond `most`.

        Those that are open longest go first. Returns how many were given up.
        """
        open_ones = "FROM traces WHERE source_id = :source AND open_ms IS NOT NULL AND pending = 0"
        with self.transaction():
            return self.execute(
                "UPDATE traces SET open_ms = NULL WHERE source_id = :source AND trace_id IN ("
                f"SELECT trace_id {open_ones} AND open_ms < :before UNION SELECT * FROM (SELECT trace_id "
                f"{open_ones} ORDER BY open_ms LIMIT max(0, (SELECT count(*) {open_ones}) - :most)))",
                {"source": source_id, "before": before_ms, "most": most},
            ).rowcount

    def store_traces(self, source_id: int, notes: Iterable[TraceNote]) -> None:
        """Store traces. Under another lease than the live one, and in a job, a pending trace stays pending."""
        notes = list(notes)
        if notes:
            with self.transaction():
                self._store_traces(source_id, notes)

    def forget_contexts(self, source_id: int, digest: str) -> None:
        """Forget the contexts of traces that other rules redacted than those with this digest, or none."""
        with self.transaction():
            self.execute(
                "UPDATE traces "
                "SET context = json_object('id_kind', coalesce(json_extract(context, '$.id_kind'), '')) "
                "WHERE source_id = ? AND coalesce(json_extract(context, '$.rules'), '') != ?",
                [source_id, digest],
            )

    def _store_traces(self, source_id: int, notes: Iterable[TraceNote]) -> None:
        own = self.lease is None or (self.lease.role == LIVE and not self.lease.job)
        self.execute_many(
            _INSERT + (_REPLACE if own else _MERGE),
            [
                (
                    source_id, storable(note.trace_id), int(note.pending), note.earliest_ms, note.newest_ms,
                    note.check_ms, note.pending_ms, note.project, json.dumps(note.context, ensure_ascii=True),
                    note.open_ms, note.origin, note.left_out_by, note.rules, int(note.exceptional),
                )
                for note in notes
            ],
        )  # fmt: skip

    def _store_unknown(self, source_id: int, traces: Iterable[tuple[str, int, str | None]]) -> None:
        """Note traces (id, a start, project) of which nothing is remembered, so that they can be forgotten."""
        self.execute_many(
            _INSERT + "ON CONFLICT (source_id, trace_id) DO NOTHING",
            [
                (source_id, trace, 0, start, start, 0, None, project, "{}", None, None, None, None, 0)
                for trace, start, project in traces
            ],
        )


def _note(row: Sequence[Any]) -> TraceNote:
    *known, is_exceptional = row
    note = TraceNote(row[0], bool(row[1]), row[2], row[3], row[4], row[5], row[6], json.loads(row[7]), *known[8:])
    return replace(note, exceptional=True) if is_exceptional else note
