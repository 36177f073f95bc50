"""Sources, state keys, and reports of runs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from sync_worker.ledger.store import Store
from sync_worker.ledger.stored_records import SourceState

_KEPT_RUNS = 200


def source_scope(source_id: int) -> str:
    """Return the scope of the state keys of one source."""
    return f"source {source_id}"


def memory_name(langfuse_url: str, project_id: str, target: str) -> str:
    """Return the name of the state keys that hold what of a source was merged from other files."""
    return f"{langfuse_url} {project_id} {target}"


def same_address(one: str, other: str) -> bool:
    """Whether two base addresses are spellings of one: case and final dot of the host, default port, final slash."""
    return _address(one) == _address(other)


def _address(url: str) -> tuple[str, str, int | None, str]:
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or default, parts.path.rstrip("/")


class Sources(Store):
    """The part of the ledger about sources (Langfuse project and target) and runs."""

    def source_by_key(self, key_hash: str, target: str) -> SourceState | None:
        """Return the source that a pair of keys and a target belong to, where it is known."""
        rows = self.query(
            "SELECT s.id, langfuse_url, project_id, s.target, project_name, organization_id, sync_start_ms, checked_ms "
            "FROM keys k JOIN sources s ON s.id = k.source_id WHERE k.hash = ? AND k.target = ?",
            [key_hash, target],
        )
        return SourceState(*rows[0]) if rows else None

    def sources(self) -> list[SourceState]:
        """Return all known sources."""
        rows = self.query(
            "SELECT id, langfuse_url, project_id, target, project_name, organization_id, sync_start_ms, "
            "coalesce((SELECT max(checked_ms) FROM keys WHERE source_id = sources.id), 0) FROM sources ORDER BY id"
        )
        return [SourceState(*row) for row in rows]

    def store_source(
        self, key_hash: str, langfuse_url: str, project_id: str, target: str, name: str, organization_id: str
    ) -> SourceState:
        """Store which project a pair of keys belongs to, and return the source: that project with the target."""
        now = self.clock.now_ms()
        with self.transaction():
            self.execute(
                "INSERT INTO sources (langfuse_url, project_id, target, project_name, organization_id, created_ms) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (langfuse_url, project_id, target) DO UPDATE SET "
                "project_name = excluded.project_name, organization_id = excluded.organization_id",
                [langfuse_url, project_id, target, name, organization_id, now],
            )
            self.execute(
                "INSERT OR REPLACE INTO keys (hash, target, source_id, checked_ms) "
                "SELECT ?, target, id, ? FROM sources WHERE langfuse_url = ? AND project_id = ? AND target = ?",
                [key_hash, now, langfuse_url, project_id, target],
            )
        found = self.source_by_key(key_hash, target)
        if found is None:
            raise AssertionError("a source that was just stored is not there")
        return found

    def move_source(self, source_id: int, langfuse_url: str) -> None:
        """Store that a project is reached at another address from now on; its keys were known at the old one.

        Where nothing of it was ever sent, its time is read again: nothing can arrive twice by that, and nothing is
        missed should it be another project of the same id.
        """
        with self.transaction():
            ((was, project_id, target),) = self.query(
                "SELECT langfuse_url, project_id, target FROM sources WHERE id = ?", [source_id]
            )
            self.execute("UPDATE sources SET langfuse_url = ? WHERE id = ?", [langfuse_url, source_id])
            self.execute(
                "UPDATE state_keys SET name = ? WHERE scope GLOB 'merged *' AND name = ?",
                [memory_name(langfuse_url, project_id, target), memory_name(was, project_id, target)],
            )
            self.execute("DELETE FROM keys WHERE source_id = ?", [source_id])
            if not any(
                self.query(f"SELECT 1 FROM {table} WHERE source_id = ? LIMIT 1", [source_id])
                for table in ("sent", "hourly_counts", "dead_letters")
            ):
                self.execute("DELETE FROM coverage WHERE source_id = ?", [source_id])

    def latest_sent(self, source_id: int, count: int) -> Sequence[tuple[str, str, int, bytes]]:
        """Return trace id, observation id, start in Unix ms and fingerprint of what was sent last."""
        return self.query(
            "SELECT trace_id, observation_id, start_ms, fingerprint FROM sent WHERE source_id = ? "
            "ORDER BY sent_ms DESC, start_ms DESC LIMIT ?",
            [source_id, count],
        )

    def set_sync_start(self, source_id: int, sync_start_ms: int, noted: str | None = None) -> int:
        """Store where the live sync of a source begins, once; return the stored one.

        The keys of another scope, `noted`, are deleted in the same transaction.
        """
        with self.transaction():
            self.execute("DELETE FROM state_keys WHERE scope = ?", [noted])
            self.execute(
                "UPDATE sources SET sync_start_ms = ? WHERE id = ? AND sync_start_ms IS NULL",
                [sync_start_ms, source_id],
            )
        if noted is not None:
            self.reload(noted)
        return int(self.query("SELECT sync_start_ms FROM sources WHERE id = ?", [source_id])[0][0])

    # The file itself

    def stored_key(self, scope: str, name: str) -> str | None:
        """Return a state key as it is stored."""
        rows = self.query("SELECT value FROM state_keys WHERE scope = ? AND name = ?", [scope, name])
        return str(rows[0][0]) if rows else None

    def file_id(self) -> str:
        """Return the id that this state file has in common with its copies; a file of an older version gets it here."""
        if self.stored_key("file", "id") is None:
            with self.transaction(fenced=False):
                self.execute("INSERT OR IGNORE INTO state_keys VALUES ('file', 'id', ?)", [secrets.token_hex(16)])
        return str(self.stored_key("file", "id"))

    # Runs

    def store_run(self, command: str, started_ms: int, exit_code: int, report: dict[str, Any]) -> None:
        """Store the report of a run; the oldest are deleted."""
        with self.transaction(fenced=False):
            self.insert(
                "runs",
                {
                    "command": command, "started_ms": started_ms, "ended_ms": self.clock.now_ms(),
                    "exit_code": exit_code, "report": json.dumps(report),
                },
            )  # fmt: skip
            self.execute(f"DELETE FROM runs WHERE id <= (SELECT max(id) FROM runs) - {_KEPT_RUNS}")

    def last_run(self) -> dict[str, Any] | None:
        """Return the report of the last run."""
        return next(iter(self.records("SELECT * FROM runs ORDER BY id DESC LIMIT 1")), None)
