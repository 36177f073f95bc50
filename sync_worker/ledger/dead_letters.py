"""Rows and spans set aside, and why. A row has at most one dead letter: its latest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sync_worker.ledger.records import DeadLetter
from sync_worker.ledger.store import SENT_COLUMNS, in_lists, storable
from sync_worker.ledger.traces import Traces

#: Of a row that could not be read its trace may be unknown.
_OF_ROW = "source_id = ? AND row_id = ? AND (trace_id IS NULL OR trace_id = ?)"


class DeadLetters(Traces):
    """The part of the ledger about dead letters."""

    def dead_letters(self, source_id: int | None = None, ids: Sequence[int] = ()) -> list[DeadLetter]:
        """Return dead letters in the order they were made."""
        where, values = ["1 = 1"], list[Any]()
        if source_id is not None:
            where.append("source_id = ?")
            values.append(source_id)
        if ids:
            where.append(f"id IN ({','.join('?' * len(ids))})")
            values.extend(ids)
        rows = self.records(f"SELECT * FROM dead_letters WHERE {' AND '.join(where)} ORDER BY id", values)
        return [DeadLetter(**row) for row in rows]

    def count_dead_letters(self, source_id: int) -> int:
        """Return how many spans stand in the dead letters of a source."""
        rows = self.query("SELECT coalesce(sum(spans), 0) FROM dead_letters WHERE source_id = ?", [source_id])
        return int(rows[0][0])

    def drop_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Remove dead letters; their rows count as done, so that they are not sent when they are read again.

        A letter that is gone meanwhile, since its row was accepted after all, is passed over.
        """
        now = self.clock.now_ms()
        with self.transaction():
            for letter in letters:
                row = self.db.execute(
                    "SELECT source_id, trace_id, row_id, start_ms, fingerprint, project FROM dead_letters WHERE id = ?",
                    [letter.id],
                ).fetchone()
                if row is None or any(value is None for value in row[:5]):
                    continue
                source_id, trace, row_id, start, fingerprint, project = row
                self.db.execute(
                    f"INSERT INTO sent ({SENT_COLUMNS}) VALUES (?, ?, ?, ?, 0, ?, ?, NULL) "
                    "ON CONFLICT (source_id, trace_id, row_id) DO UPDATE SET fingerprint = excluded.fingerprint",
                    [source_id, trace, row_id, start, fingerprint, now],
                )
                self._note_unknown(source_id, [(trace, start, project)])
            self.db.conn.executemany("DELETE FROM dead_letters WHERE id = ?", [(item.id,) for item in letters])

    def _set_aside_states(self, source_id: int, trace_ids: Sequence[str]) -> dict[tuple[str, str], bytes]:
        """Return the fingerprints in which rows of these traces were set aside (b"" of rows that could not be read)."""
        found: dict[tuple[str, str], bytes] = {}
        for marks, part in in_lists(trace_ids):
            rows = self.query(
                f"SELECT trace_id, row_id, fingerprint FROM dead_letters WHERE source_id = ? "
                f"AND trace_id IN ({marks}) AND row_id IS NOT NULL",
                [source_id, *part],
            )
            found |= {(trace, row): fingerprint or b"" for trace, row, fingerprint in rows}
        return found

    def _drop_dead_letters(self, source_id: int, rows: Sequence[tuple[str | None, str]]) -> None:
        if not self.query("SELECT 1 FROM dead_letters WHERE source_id = ? LIMIT 1", [source_id]):
            return
        self.db.conn.executemany(
            f"DELETE FROM dead_letters WHERE {_OF_ROW}", [(source_id, row, trace) for trace, row in rows]
        )

    def _add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            values = {name: getattr(letter, name) for name in DeadLetter.__slots__ if name != "id"}
            values = {name: storable(value) if isinstance(value, str) else value for name, value in values.items()}
            if letter.row_id is not None:
                self._drop_dead_letters(letter.source_id, [(values["trace_id"], values["row_id"])])
            self.db.table("dead_letters").insert(values)
