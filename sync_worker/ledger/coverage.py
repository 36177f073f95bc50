"""Stretches of start times proven done."""

from __future__ import annotations

from sync_worker.ledger.store import Store
from sync_worker.windows import Window, gaps, merged


class Coverage(Store):
    """The part of the ledger about time."""

    def coverage(self, source_id: int, role: str) -> list[Window]:
        """Return the stretches proven done by a role, merged and in order."""
        rows = self.query("SELECT from_ms, to_ms FROM coverage WHERE source_id = ? AND role = ?", [source_id, role])
        return merged(Window(*row) for row in rows)

    def coverage_of_all(self, source_id: int) -> dict[str, list[Window]]:
        """Return, by role, the stretches proven done, merged and in order."""
        found: dict[str, list[Window]] = {}
        for role, start, end in self.query(
            "SELECT role, from_ms, to_ms FROM coverage WHERE source_id = ?", [source_id]
        ):
            found.setdefault(role, []).append(Window(start, end))
        return {role: merged(windows) for role, windows in found.items()}

    def cover(self, source_id: int, role: str, window: Window) -> None:
        """Add a window within the transaction at hand; what it touches becomes one row with it."""
        touching = self.query(
            "SELECT from_ms, to_ms FROM coverage WHERE source_id = ? AND role = ? AND from_ms <= ? AND to_ms >= ?",
            [source_id, role, window.end, window.start],
        )
        self.db.execute(
            "DELETE FROM coverage WHERE source_id = ? AND role = ? AND from_ms <= ? AND to_ms >= ?",
            [source_id, role, window.end, window.start],
        )
        for whole in merged([window, *(Window(*row) for row in touching)]):
            self.db.execute("INSERT INTO coverage VALUES (?, ?, ?, ?)", [source_id, role, whole.start, whole.end])

    def uncover(self, source_id: int, role: str, window: Window) -> None:
        """Take a stretch out of what a role has done: the next run reads it again."""
        with self.transaction(fenced=False):
            left = [part for whole in self.coverage(source_id, role) for part in gaps(whole, [window])]
            self.db.conn.execute("DELETE FROM coverage WHERE source_id = ? AND role = ?", [source_id, role])
            self.db.conn.executemany(
                "INSERT INTO coverage VALUES (?, ?, ?, ?)", [(source_id, role, part.start, part.end) for part in left]
            )
