"""Intervals of start times proven done."""

from __future__ import annotations

from sync_worker.intervals import Interval, gaps, merged
from sync_worker.ledger.store import Store


class Coverage(Store):
    """The part of the ledger about time."""

    def coverage(self, source_id: int, role: str) -> list[Interval]:
        """Return the intervals proven done by a role, merged and in order."""
        rows = self.query("SELECT from_ms, to_ms FROM coverage WHERE source_id = ? AND role = ?", [source_id, role])
        return merged(Interval(*row) for row in rows)

    def coverage_of_all(self, source_id: int) -> dict[str, list[Interval]]:
        """Return, by role, the intervals proven done, merged and in order."""
        found: dict[str, list[Interval]] = {}
        for role, start, end in self.query(
            "SELECT role, from_ms, to_ms FROM coverage WHERE source_id = ?", [source_id]
        ):
            found.setdefault(role, []).append(Interval(start, end))
        return {role: merged(intervals) for role, intervals in found.items()}

    def cover(self, source_id: int, role: str, interval: Interval) -> None:
        """Add a interval within the transaction at hand; what it touches becomes one row with it."""
        touching = self.query(
            "SELECT from_ms, to_ms FROM coverage WHERE source_id = ? AND role = ? AND from_ms <= ? AND to_ms >= ?",
            [source_id, role, interval.end, interval.start],
        )
        self.db.execute(
            "DELETE FROM coverage WHERE source_id = ? AND role = ? AND from_ms <= ? AND to_ms >= ?",
            [source_id, role, interval.end, interval.start],
        )
        for whole in merged([interval, *(Interval(*row) for row in touching)]):
            self.db.execute("INSERT INTO coverage VALUES (?, ?, ?, ?)", [source_id, role, whole.start, whole.end])

    def uncover(self, source_id: int, role: str, interval: Interval) -> None:
        """Take a interval out of what a role has done: the next run reads it again."""
        with self.transaction(fenced=False):
            left = [part for whole in self.coverage(source_id, role) for part in gaps(whole, [interval])]
            self.db.conn.execute("DELETE FROM coverage WHERE source_id = ? AND role = ?", [source_id, role])
            self.db.conn.executemany(
                "INSERT INTO coverage VALUES (?, ?, ?, ?)", [(source_id, role, part.start, part.end) for part in left]
            )
