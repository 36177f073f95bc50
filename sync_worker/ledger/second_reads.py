"""What is to be read once more: noted when a row is done, gone when it was read again and is settled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sync_worker.intervals import Interval
from sync_worker.ledger.records import SecondRead
from sync_worker.ledger.store import Store, storable


class SecondReads(Store):
    """The part of the ledger about second reads."""

    def second_reads_due(
        self, source_id: int, now_ms: int, limit: int, taken: Sequence[Interval] = ()
    ) -> list[SecondRead]:
        """Return what is to be read again now, longest due first, but for what starts in a interval that is `taken`."""
        outside = "".join(" AND NOT (start_ms >= ? AND start_ms < ?)" for _ in taken)
        bounds = [bound for interval in taken for bound in (interval.start, interval.end)]
        rows = self.query(
            "SELECT trace_id, observation_id, start_ms, due_ms, tries FROM second_reads "
            "WHERE source_id = ? AND due_ms <= ?"
            f"{outside} ORDER BY due_ms LIMIT ?",
            [source_id, now_ms, *bounds, limit],
        )
        return [SecondRead(*row) for row in rows]

    def count_second_reads(self, source_id: int) -> int:
        """Return how many rows of a source are to be read once more."""
        return int(self.query("SELECT count(*) FROM second_reads WHERE source_id = ?", [source_id])[0][0])

    def note_second_reads(self, source_id: int, reads: Iterable[SecondRead]) -> None:
        """Note what is to be read again, and when; what was noted of the same rows before is replaced."""
        with self.transaction():
            self._note_second_reads(source_id, reads)

    def end_second_reads(self, source_id: int, reads: Iterable[SecondRead]) -> None:
        """Note that these were read again as noted, and are settled. One that was noted anew meanwhile stays."""
        with self.transaction():
            self.db.conn.executemany(
                "DELETE FROM second_reads WHERE source_id = ? AND trace_id = ? AND observation_id = ? AND due_ms = ?",
                [(source_id, storable(read.trace_id), storable(read.observation_id), read.due_ms) for read in reads],
            )

    def _note_second_reads(self, source_id: int, reads: Iterable[SecondRead]) -> None:
        self.db.conn.executemany(
            "INSERT OR REPLACE INTO second_reads (source_id, trace_id, observation_id, start_ms, due_ms, tries) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    source_id,
                    storable(read.trace_id),
                    storable(read.observation_id),
                    read.start_ms,
                    read.due_ms,
                    read.tries,
                )
                for read in reads
            ],
        )
