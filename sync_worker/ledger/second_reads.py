"""Second reads: scheduled when an observation is completed, deleted when the second read has decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sync_worker.intervals import Interval
from sync_worker.ledger.store import Store, storable
from sync_worker.ledger.stored_records import SecondRead


class SecondReads(Store):
    """The part of the ledger about second reads."""

    def second_reads_due(
        self, source_id: int, now_ms: int, limit: int, taken: Sequence[Interval] = ()
    ) -> list[SecondRead]:
        """Return second reads that are due, longest due first, without those that start in a `taken` interval."""
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
        """Return how many observations of a source are to be read once more."""
        return int(self.query("SELECT count(*) FROM second_reads WHERE source_id = ?", [source_id])[0][0])

    def schedule_second_reads(self, source_id: int, reads: Iterable[SecondRead]) -> None:
        """Schedule second reads; earlier ones of the same observations are replaced."""
        with self.transaction():
            self._schedule_second_reads(source_id, reads)

    def delete_second_reads(self, source_id: int, reads: Iterable[SecondRead]) -> None:
        """Delete second reads that are decided. One that was scheduled again in between stays."""
        with self.transaction():
            self.execute_many(
                "DELETE FROM second_reads WHERE source_id = ? AND trace_id = ? AND observation_id = ? AND due_ms = ?",
                [(source_id, storable(read.trace_id), storable(read.observation_id), read.due_ms) for read in reads],
            )

    def _schedule_second_reads(self, source_id: int, reads: Iterable[SecondRead]) -> None:
        self.execute_many(
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
