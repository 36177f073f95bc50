"""Requests of the last minute, limits and waits told by Langfuse: what the processes on one state file tell each other.

Nothing here is worth a flush to disk: after a power cut the last seconds may be missing, and no more. Times are Unix
milliseconds, as they were written; what to make of a time that a clock was wrong about is up to who reads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sync_worker.ledger.faults import explanation
from sync_worker.ledger.lease import LIMIT, LIVE
from sync_worker.ledger.store import Store

#: The ledger's names for the limit that Langfuse told, and for when it told to wait and until when.
PER_MINUTE, BLOCKED = "requests_per_minute", "blocked"


@dataclass(frozen=True, slots=True)
class News:
    """What stands in the state file. `sent` are requests (when, whether of the live sync) not read before."""

    sent: list[tuple[int, bool]]
    last: int  # the number to read on behind
    limit: int | None
    blocked: tuple[int, int] | None  # from, until
    live_beside: bool  # a live sync is at work in another process


class Requests:
    """The part of the ledger about one organisation's requests. Raises StateError, soon, when the file is busy."""

    def __init__(self, ledger: Store, organization: str) -> None:
        self._ledger = ledger
        self._organization = organization

    @property
    def is_live(self) -> bool:
        """Whether this process is the live sync."""
        lease = self._ledger.lease
        return lease is not None and lease.role == LIVE

    def news(self, last: int) -> News:
        """Return what was written behind a number, and what stands."""
        with self._explained() as light:
            rows = light.execute(
                "SELECT id, sent_ms, live FROM requests WHERE id > ? AND organization = ? ORDER BY id",
                [last, self._organization],
            ).fetchall()
            facts = dict(
                light.execute(
                    "SELECT name, value FROM facts WHERE scope = ? AND name IN (?, ?)",
                    [self._organization, PER_MINUTE, BLOCKED],
                ).fetchall()
            )
            return News(
                [(sent, bool(live)) for _, sent, live in rows],
                rows[-1][0] if rows else last,
                int(facts[PER_MINUTE]) if PER_MINUTE in facts else None,
                _pair(facts.get(BLOCKED)),
                not self.is_live and self._live_beats(light),
            )

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keep all other processes from writing, so that what was read is still true when it is answered."""
        with self._explained() as light:
            light.execute("BEGIN IMMEDIATE")
            try:
                yield
                light.execute("COMMIT")
            except BaseException:
                if light.in_transaction:
                    light.execute("ROLLBACK")
                raise

    def note_sent(self, times: Iterable[int]) -> int:
        """Write down requests of this process, within a turn; return the number of the last one."""
        light, live, last = self._ledger.light(), int(self.is_live), 0
        for sent in times:
            cursor = light.execute(
                "INSERT INTO requests (organization, sent_ms, live) VALUES (?, ?, ?)", [self._organization, sent, live]
            )
            last = int(cursor.lastrowid or 0)
        return last

    def keep_limit(self, limit: int) -> None:
        """Write down the limit that Langfuse told, within a turn."""
        self._keep(PER_MINUTE, str(limit))

    def keep_block(self, since: int, until: int) -> None:
        """Write down that Langfuse told to wait, within a turn."""
        self._keep(BLOCKED, f"{since} {until}")

    def forget_outside(self, start: int, end: int) -> None:
        """Remove requests, of any organisation, from before or after a time, within a turn."""
        self._ledger.light().execute("DELETE FROM requests WHERE sent_ms < ? OR sent_ms > ?", [start, end])

    def _keep(self, name: str, value: str) -> None:
        self._ledger.light().execute(
            "INSERT OR REPLACE INTO facts (scope, name, value) VALUES (?, ?, ?)", [self._organization, name, value]
        )

    def _live_beats(self, light: sqlite3.Connection) -> bool:
        """Whether a live sync gave a sign of life lately. One that was killed counts until its lease ends."""
        row = light.execute("SELECT beat_ms FROM leases WHERE role = ?", [LIVE]).fetchone()
        return row is not None and abs(self._ledger.clock.now_ms() - int(row[0])) < LIMIT * 1000

    @contextmanager
    def _explained(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._ledger.light()
        except sqlite3.Error as fault:
            raise explanation(self._ledger.path, fault) from fault


def _pair(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    since, until = text.split()
    return int(since), int(until)
