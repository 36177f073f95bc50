"""The intervals in which scores were read, each by the names that were wanted then."""

from __future__ import annotations

from sync_worker.intervals import Interval, merged
from sync_worker.ledger.dead_letters import DeadLetters
from sync_worker.ledger.stored_records import ReadScores


class ScoreIntervals(DeadLetters):
    """The part of the ledger about them."""

    def read_scores(self, source_id: int) -> list[ReadScores]:
        """Return what was read of the scores of a source, by whom and under which names ever."""
        rows = self.query(
            "SELECT from_ms, to_ms, selection, window_ms FROM score_coverage WHERE source_id = ?", [source_id]
        )
        return [ReadScores(Interval(start, end), selection, window) for start, end, selection, window in rows]

    def completed_scores(self, source_id: int, selection: str) -> list[Interval]:
        """Return the intervals whose scores of a selection backfills have read, merged and in order."""
        return merged(
            read.interval for read in self.read_scores(source_id) if read.selection == selection and not read.window_ms
        )

    def commit_scores_interval(self, source_id: int, interval: Interval, selection: str) -> None:
        """Store that a backfill has read the scores of an interval."""
        with self.transaction():
            self.add_read_scores(source_id, ReadScores(interval, selection))

    def add_read_scores(self, source_id: int, read: ReadScores) -> None:
        """Add an interval within the current transaction, merged with those like it that it touches."""
        alike = [
            one.interval
            for one in self.read_scores(source_id)
            if (one.selection, one.window_ms) == (read.selection, read.window_ms)
        ]
        kind = [source_id, read.selection, read.window_ms]
        self.execute("DELETE FROM score_coverage WHERE source_id = ? AND selection = ? AND window_ms = ?", kind)
        self.execute_many(
            "INSERT INTO score_coverage (source_id, selection, window_ms, from_ms, to_ms) VALUES (?, ?, ?, ?, ?)",
            [(*kind, part.start, part.end) for part in merged([read.interval, *alike])],
        )
