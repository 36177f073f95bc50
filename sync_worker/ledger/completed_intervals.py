"""Completed intervals, and the rules that each was read under."""

from __future__ import annotations

from collections.abc import Iterable

from sync_worker.intervals import Interval, clip, gaps, merged
from sync_worker.ledger.store import Store
from sync_worker.ledger.stored_records import PLUS, CompletedInterval


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

    def completed_with_rules(self, source_id: int) -> list[CompletedInterval]:
        """Return the completed intervals of all roles, with the rules that each was read under."""
        rows = self.query(
            "SELECT from_ms, to_ms, role, rules, coalesce(text, '') FROM coverage LEFT JOIN rules ON digest = rules "
            "WHERE source_id = ?",
            [source_id],
        )
        return [CompletedInterval(Interval(start, end), *rest) for start, end, *rest in rows]

    def add_completed(self, source_id: int, role: str, interval: Interval, rules: str = "") -> None:
        """Add an interval within the current transaction, merged with those that it touches of the same rules.

        What it overlaps of others was read again, and is under both from then on.
        """
        if interval.length <= 0:
            return
        touching = self.query(
            "DELETE FROM coverage WHERE source_id = ? AND role = ? AND from_ms <= ? AND to_ms >= ? "
            "RETURNING from_ms, to_ms, rules",
            [source_id, role, interval.end, interval.start],
        )
        found = [(Interval(start, end), name) for start, end, name in touching]
        by_rules: dict[str, list[Interval]] = {rules: gaps(interval, [one for one, _ in found])}
        for one, name in found:
            again = clip([one], interval)
            by_rules.setdefault(name, []).extend(gaps(one, again))
            by_rules.setdefault(self._joined(name, rules), []).extend(again)
        self._insert(source_id, role, [(part, name) for name, parts in by_rules.items() for part in merged(parts)])

    def _joined(self, before: str, now: str) -> str:
        """Return the name of rules under which an interval counts that was read under both."""
        names = sorted({*before.split(PLUS), *now.split(PLUS)})
        if "" in names:
            return ""  # what is under none is sent
        name = PLUS.join(names)
        if name not in {before, now}:
            marks = ",".join("?" * len(names))
            texts = dict(self.query(f"SELECT digest, text FROM rules WHERE digest IN ({marks})", names))
            text = f'{{"any": [{", ".join(texts.get(one) or "{}" for one in names)}]}}'
            self.execute("INSERT OR IGNORE INTO rules (digest, text) VALUES (?, ?)", [name, text])
        return name

    def reopen(self, source_id: int, role: str, interval: Interval) -> None:
        """Reopen an interval of a role: the next run reads it again."""
        with self.transaction(fenced=False):
            left = [
                (part, rules)
                for whole, whose, rules, _ in self.completed_with_rules(source_id)
                if whose == role
                for part in gaps(whole, [interval])
            ]
            self.execute("DELETE FROM coverage WHERE source_id = ? AND role = ?", [source_id, role])
            self._insert(source_id, role, left)

    def _insert(self, source_id: int, role: str, intervals: Iterable[tuple[Interval, str]]) -> None:
        self.execute_many(
            "INSERT INTO coverage (source_id, role, from_ms, to_ms, rules) VALUES (?, ?, ?, ?, ?)",
            [(source_id, role, part.start, part.end, rules) for part, rules in intervals],
        )

    def store_rules(self, digest: str, text: str) -> None:
        """Store what a digest stands for."""
        if digest in self._stored_rules:
            return
        if digest and not self.query("SELECT 1 FROM rules WHERE digest = ?", [digest]):
            with self.transaction(fenced=False):
                self.execute("INSERT OR IGNORE INTO rules (digest, text) VALUES (?, ?)", [digest, text])
        self._stored_rules.add(digest)
