"""Reads and writes the ledger. Every change of one answer or one window is one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlite_utils import Database

from sync_worker.clock import Clock
from sync_worker.errors import LeaseHeld
from sync_worker.ledger.records import DeadLetter, Parked, SentRow, SourceState, TraceNote
from sync_worker.windows import Window, merged

if TYPE_CHECKING:
    from sync_worker.ledger.lease import Lease
    from sync_worker.spans.model import EncodedSpan

_IN_LIST = 500  # values in one IN (...): SQLite's limit on variables is 32,766, plans are cached by text
_KEPT_RUNS = 200


class Ledger:
    """The state file, open. Not for use by two threads at once."""

    def __init__(self, db: Database, clock: Clock, path: Path) -> None:
        self.db = db
        self.clock = clock
        self.path = path
        self.lease: Lease | None = None

    def close(self) -> None:
        """Close the file."""
        self.db.conn.close()

    @contextmanager
    def transaction(self, *, fenced: bool = True) -> Iterator[None]:
        """Do several changes at once or none. Raises StateError, or LeaseHeld when the lease was taken over."""
        from sync_worker.ledger.file import explanation  # noqa: PLC0415 - file opens ledgers

        connection = self.db.conn
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                if fenced:
                    self._check_lease()
                yield
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as fault:
            raise explanation(self.path, fault) from fault

    def _check_lease(self) -> None:
        if self.lease is None:
            return
        row = self.db.execute("SELECT token FROM leases WHERE role = ?", [self.lease.role]).fetchone()
        if row is None or row[0] != self.lease.token:
            raise LeaseHeld(
                f"another run took over the lease ({self.lease.role}) of {self.path} while this one slept; "
                "nothing more is written by this one"
            )

    # Sources

    def source_by_key(self, key_hash: str) -> SourceState | None:
        """Return the source that a pair of keys opened before."""
        row = self.db.execute(
            "SELECT s.id, langfuse_url, project_id, project_name, organization_id, first_edge_ms, checked_ms "
            "FROM keys k JOIN sources s ON s.id = k.source_id WHERE k.hash = ?",
            [key_hash],
        ).fetchone()
        return None if row is None else SourceState(*row)

    def sources(self) -> list[SourceState]:
        """Return all sources ever opened."""
        rows = self.db.execute(
            "SELECT id, langfuse_url, project_id, project_name, organization_id, first_edge_ms, "
            "coalesce((SELECT max(checked_ms) FROM keys WHERE source_id = sources.id), 0) FROM sources ORDER BY id"
        ).fetchall()
        return [SourceState(*row) for row in rows]

    def remember_source(
        self, key_hash: str, langfuse_url: str, project_id: str, name: str, organization_id: str
    ) -> SourceState:
        """Store which project a pair of keys opens, and return it."""
        now = self.clock.now_ms()
        with self.transaction():
            self.db.execute(
                "INSERT INTO sources (langfuse_url, project_id, project_name, organization_id, created_ms) "
                "VALUES (?, ?, ?, ?, ?) ON CONFLICT (langfuse_url, project_id) DO UPDATE SET "
                "project_name = excluded.project_name, organization_id = excluded.organization_id",
                [langfuse_url, project_id, name, organization_id, now],
            )
            source_id = self.db.execute(
                "SELECT id FROM sources WHERE langfuse_url = ? AND project_id = ?", [langfuse_url, project_id]
            ).fetchone()[0]
            self.db.table("keys").upsert({"hash": key_hash, "source_id": source_id, "checked_ms": now}, pk="hash")
        found = self.source_by_key(key_hash)
        if found is None:
            raise AssertionError("a source that was just stored is not there")
        return found

    def set_first_edge(self, source_id: int, first_edge_ms: int) -> int:
        """Store where the live sync of a source begins, once; return what stands."""
        with self.transaction():
            self.db.execute(
                "UPDATE sources SET first_edge_ms = ? WHERE id = ? AND first_edge_ms IS NULL",
                [first_edge_ms, source_id],
            )
        return int(self.db.execute("SELECT first_edge_ms FROM sources WHERE id = ?", [source_id]).fetchone()[0])

    # Facts learnt on the way

    def fact(self, scope: str, name: str) -> str | None:
        """Return a fact learnt earlier."""
        row = self.db.execute("SELECT value FROM facts WHERE scope = ? AND name = ?", [scope, name]).fetchone()
        return None if row is None else str(row[0])

    def learn(self, scope: str, name: str, value: str) -> None:
        """Store a fact, such as a limit the server told."""
        if self.fact(scope, name) != value:
            with self.transaction():
                self.db.table("facts").upsert({"scope": scope, "name": name, "value": value}, pk=("scope", "name"))

    # Coverage

    def coverage(self, source_id: int, role: str) -> list[Window]:
        """Return the stretches proven done by a role, merged and in order."""
        rows = self.db.execute(
            "SELECT from_ms, to_ms FROM coverage WHERE source_id = ? AND role = ?", [source_id, role]
        ).fetchall()
        return merged(Window(*row) for row in rows)

    def _cover(self, source_id: int, role: str, window: Window) -> None:
        touching = self.db.execute(
            "SELECT from_ms, to_ms FROM coverage WHERE source_id = ? AND role = ? AND from_ms <= ? AND to_ms >= ?",
            [source_id, role, window.end, window.start],
        ).fetchall()
        self.db.execute(
            "DELETE FROM coverage WHERE source_id = ? AND role = ? AND from_ms <= ? AND to_ms >= ?",
            [source_id, role, window.end, window.start],
        )
        for whole in merged([window, *(Window(*row) for row in touching)]):
            self.db.execute("INSERT INTO coverage VALUES (?, ?, ?, ?)", [source_id, role, whole.start, whole.end])

    # What was sent

    def done_rows(self, source_id: int, trace_ids: Iterable[str]) -> dict[tuple[str, str], SentRow]:
        """Return what is done of these traces, by (trace id, row id): sent rows and dead letters."""
        done: dict[tuple[str, str], SentRow] = {}
        for part in _chunks(list(trace_ids)):
            marks = ",".join("?" * len(part))
            for trace, row, fingerprint in self.db.execute(
                f"SELECT trace_id, row_id, fingerprint FROM dead_letters WHERE source_id = ? "
                f"AND trace_id IN ({marks}) AND fingerprint IS NOT NULL",
                [source_id, *part],
            ):
                done[trace, row] = SentRow(0, fingerprint)
            for trace, row, updated, fingerprint in self.db.execute(
                f"SELECT trace_id, row_id, updated_ms, fingerprint FROM sent WHERE source_id = ? "
                f"AND trace_id IN ({marks})",
                [source_id, *part],
            ):
                done[trace, row] = SentRow(updated, fingerprint)
        return done

    def commit_answer(
        self, source_id: int, accepted: Sequence[EncodedSpan], dead_letters: Sequence[DeadLetter]
    ) -> None:
        """Note in one transaction what one answer settled."""
        now = self.clock.now_ms()
        with self.transaction():
            self.db.conn.executemany(
                "INSERT OR REPLACE INTO sent VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (source_id, span.key.trace, span.key.row, span.start_ms, span.updated_ms, span.fingerprint, now)
                    for span in accepted
                ],
            )
            self._drop_dead_letters(source_id, [(span.key.trace, span.key.row) for span in accepted])
            self._add_dead_letters(dead_letters)

    # Traces

    def traces(self, source_id: int, trace_ids: Iterable[str]) -> dict[str, TraceNote]:
        """Return what is remembered of these traces."""
        found: dict[str, TraceNote] = {}
        for part in _chunks(list(trace_ids)):
            marks = ",".join("?" * len(part))
            for row in self.db.execute(
                f"SELECT {_TRACE_COLUMNS} FROM traces WHERE source_id = ? AND trace_id IN ({marks})",
                [source_id, *part],
            ):
                found[row[0]] = _trace_note(row)
        return found

    def parked_due(self, source_id: int, now_ms: int, limit: int) -> list[TraceNote]:
        """Return parked traces that are to be looked at now, those that waited longest first."""
        rows = self.db.execute(
            f"SELECT {_TRACE_COLUMNS} FROM traces WHERE source_id = ? AND parked = 1 AND check_ms <= ? "
            "ORDER BY check_ms, trace_id LIMIT ?",
            [source_id, now_ms, limit],
        ).fetchall()
        return [_trace_note(row) for row in rows]

    def parked(self, source_id: int) -> Parked:
        """Return how many traces are parked."""
        count, oldest = self.db.execute(
            "SELECT count(*), min(parked_ms) FROM traces WHERE source_id = ? AND parked = 1", [source_id]
        ).fetchone()
        return Parked(count, oldest)

    def note_traces(self, source_id: int, notes: Iterable[TraceNote]) -> None:
        """Store what is known of traces."""
        with self.transaction():
            self._note_traces(source_id, notes)

    def commit_window(
        self,
        source_id: int,
        role: str,
        window: Window,
        notes: Iterable[TraceNote],
        dead_letters: Sequence[DeadLetter],
    ) -> None:
        """Note in one transaction that a window is done, with the traces it parked and the rows it set aside."""
        with self.transaction():
            self._cover(source_id, role, window)
            self._note_traces(source_id, notes)
            self._add_dead_letters(dead_letters)

    def _note_traces(self, source_id: int, notes: Iterable[TraceNote]) -> None:
        self.db.conn.executemany(
            "INSERT OR REPLACE INTO traces (source_id, trace_id, parked, earliest_ms, newest_ms, check_ms, parked_ms, "
            "project, context) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    source_id, note.trace_id, int(note.parked), note.earliest_ms, note.newest_ms, note.check_ms,
                    note.parked_ms, note.project, json.dumps(note.context, ensure_ascii=True),
                )
                for note in notes
            ],
        )  # fmt: skip

    def forget(self, source_id: int, before_ms: int, covered: Sequence[Window], limit: int = 5_000) -> int:
        """Forget released traces, and their sent rows, that are older than `before_ms` and wholly covered.

        Returns how many traces were forgotten; at most `limit`, so that no transaction grows long.
        """
        rows = self.db.execute(
            "SELECT trace_id, earliest_ms, (SELECT max(start_ms) FROM sent s WHERE s.source_id = t.source_id "
            "AND s.trace_id = t.trace_id) FROM traces t WHERE source_id = ? AND newest_ms < ? AND parked = 0 "
            "ORDER BY newest_ms LIMIT ?",
            [source_id, before_ms, limit],
        ).fetchall()
        old = [
            (source_id, trace)
            for trace, earliest, latest in rows
            if _all_covered(covered, earliest, earliest if latest is None else max(earliest, latest))
        ]
        if old:
            with self.transaction():
                self.db.conn.executemany("DELETE FROM sent WHERE source_id = ? AND trace_id = ?", old)
                self.db.conn.executemany("DELETE FROM traces WHERE source_id = ? AND trace_id = ?", old)
        return len(old)

    # Dead letters

    def dead_letters(self, source_id: int | None = None, ids: Sequence[int] = ()) -> list[DeadLetter]:
        """Return dead letters in the order they were made."""
        where, values = ["1 = 1"], list[Any]()
        if source_id is not None:
            where.append("source_id = ?")
            values.append(source_id)
        if ids:
            where.append(f"id IN ({','.join('?' * len(ids))})")
            values.extend(ids)
        rows = self.db.table("dead_letters").rows_where(" AND ".join(where), values, order_by="id")
        return [DeadLetter(**row) for row in rows]

    def count_dead_letters(self, source_id: int) -> int:
        """Return how many spans stand in the dead letters of a source."""
        return int(
            self.db.execute(
                "SELECT coalesce(sum(spans), 0) FROM dead_letters WHERE source_id = ?", [source_id]
            ).fetchone()[0]
        )

    def drop_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Remove dead letters; their rows count as done, so that they are not sent when they are read again."""
        now = self.clock.now_ms()
        with self.transaction():
            self.db.conn.executemany(
                "INSERT OR IGNORE INTO sent VALUES (?, ?, ?, ?, 0, ?, ?)",
                [
                    (item.source_id, item.trace_id, item.row_id, item.start_ms, item.fingerprint, now)
                    for item in letters
                    if item.fingerprint is not None and item.start_ms is not None
                ],
            )
            self.db.conn.executemany("DELETE FROM dead_letters WHERE id = ?", [(item.id,) for item in letters])

    def _drop_dead_letters(self, source_id: int, rows: Sequence[tuple[str, str]]) -> None:
        if not self.db.execute("SELECT 1 FROM dead_letters WHERE source_id = ? LIMIT 1", [source_id]).fetchone():
            return
        self.db.conn.executemany(
            "DELETE FROM dead_letters WHERE source_id = ? AND trace_id = ? AND row_id = ?",
            [(source_id, *row) for row in rows],
        )

    def _add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            if letter.row_id is not None:
                self._drop_dead_letters(letter.source_id, [(letter.trace_id or "", letter.row_id)])
            values = {name: getattr(letter, name) for name in DeadLetter.__slots__ if name != "id"}
            self.db.table("dead_letters").insert(values)

    # Runs

    def note_run(self, command: str, started_ms: int, exit_code: int, report: dict[str, Any]) -> None:
        """Store what a run did; the oldest notes go."""
        with self.transaction(fenced=False):
            self.db.table("runs").insert(
                {
                    "command": command, "started_ms": started_ms, "ended_ms": self.clock.now_ms(),
                    "exit_code": exit_code, "report": json.dumps(report),
                }
            )  # fmt: skip
            self.db.execute(f"DELETE FROM runs WHERE id <= (SELECT max(id) FROM runs) - {_KEPT_RUNS}")

    def last_run(self, command: str | None = None) -> dict[str, Any] | None:
        """Return the note of the last run."""
        where = "1 = 1" if command is None else "command = ?"
        rows = self.db.table("runs").rows_where(
            where, [] if command is None else [command], order_by="id desc", limit=1
        )
        return next(iter(rows), None)

    def size_bytes(self) -> int:
        """Return the size of the state file, its write-ahead log included."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())


_TRACE_COLUMNS = "trace_id, parked, earliest_ms, newest_ms, check_ms, parked_ms, project, context"


def _trace_note(row: Sequence[Any]) -> TraceNote:
    return TraceNote(row[0], bool(row[1]), row[2], row[3], row[4], row[5], row[6], json.loads(row[7]))


def _all_covered(covered: Sequence[Window], earliest: int, latest: int) -> bool:
    return any(window.holds(earliest) and window.holds(latest) for window in covered)


def _chunks(values: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(values), _IN_LIST):
        yield values[start : start + _IN_LIST]
