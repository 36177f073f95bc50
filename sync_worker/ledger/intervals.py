"""Completed intervals."""

from __future__ import annotations

from sync_worker.intervals import Interval, gaps, merged
from sync_worker.ledger.store import Store


class CompletedIntervals(Store):
    """The part of the ledger about completed intervals."""

    def completed_intervals(self, source_id: int, role: str) -> list[Interval]:
        """Return the completed intervals of a role, merged and in order."""
        rows = self.query("SELECT from_ms, to_ms FROM coverage WHERE source_id = ? AND role = ?", [source_id, role])
        return merged(Interval(*row) for row in rows)

    def completed_by_role(self, source_id: int) -> dict[str, list[Interval]]:
        """Return the completed intervals by role, merged and in order."""
        found: dict[str, list[Interval]] = {}
        for role, start, end in self.query(
            "SELECT role, from_ms, to_ms FROM coverage WHERE source_id = ?", [source_id]
        ):
            found.setdefault(role, []).append(Interval(start, end))
        return {role: merged(intervals) for role, intervals in found.items()}

    def add_completed(self, source_id: int, role: str, interval: Interval) -> None:
        """Add an interval within the current transaction, merged with those that it touches."""
        touching = self.query(
            "DELETE FROM coverage WHERE source_id = ? AND role = ? AND from_ms <= ? AND to_ms >= ? "
            "RETURNING from_ms, to_ms",
            [source_id, role, interval.end, interval.start],
        )
        for whole in merged([interval, *(Interval(*row) for row in touching)]):
            self.execute("INSERT INTO coverage VALUES (?, ?, ?, ?)", [source_id, role, whole.start, whole.end])

    def reopen(self, source_id: int, role: str, interval: Interval) -> None:
        """Reopen an interval of a role: the next run reads it again."""
        with self.transaction(fenced=False):
            left = [part for whole in self.completed_intervals(source_id, role) for part in gaps(whole, [interval])]
            self.execute("DELETE FROM coverage WHERE source_id = ? AND role = ?", [source_id, role])
            self.execute_many(
                "INSERT INTO coverage VALUES (?, ?, ?, ?)", [(source_id, role, part.start, part.end) for part in left]
            )
