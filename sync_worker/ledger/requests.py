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

#: The ledger's names for the limit that Langfuse told (requests, seconds, when), and for when it told to wait and until
#: when.
LIMIT_TOLD, BLOCKED = "limit", "blocked"
#: After so long, in milliseconds, no request is counted for anything.
_LONGEST = 86_400_000


@dataclass(frozen=True, slots=True)
class News:
    """What stands in the state file. `sent` are requests (when, whether of the live sync) not read before."""

    sent: list[tuple[int, bool]]
    last: int  # the number to read on behind
    limit: tuple[int, int, int] | None  # requests, in how many seconds, when it was told
    blocked: tuple[int, int] | None  # from, until
    live_beside: bool  # a live sync is at work in another process


class Requests:
    """The part of the ledger about one organisation's requests in one of Langfuse's buckets.

    Raises StateError, soon, when the file is busy.
    """

    def __init__(self, ledger: Store, bucket: str) -> None:
        self._ledger = ledger
        self._bucket = bucket

    @property
    def is_live(self) -> bool:
        """Whether this process is the live sync."""
        lease = self._ledger.lease
        return lease is not None and lease.role == LIVE

    def news(self, last: int) -> News:
        """Return what was written behind a number, and what stands."""
        with self._explained() as light:
            rows = light.execute(
                "SELECT id, sent_ms, live FROM requests WHERE id > ? AND bucket = ? ORDER BY id",
                [last, self._bucket],
            ).fetchall()
            state_keys = dict(
                light.execute(
                    "SELECT name, value FROM state_keys WHERE scope = ? AND name IN (?, ?)",
                    [self._bucket, LIMIT_TOLD, BLOCKED],
                ).fetchall()
            )
            return News(
                [(sent, bool(live)) for _, sent, live in rows],
                rows[-1][0] if rows else last,
                _limit(state_keys.get(LIMIT_TOLD)),
                _pair(state_keys.get(BLOCKED)),
                not self.is_live and self._live_has_heartbeat(light),
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
                "INSERT INTO requests (bucket, sent_ms, live) VALUES (?, ?, ?)", [self._bucket, sent, live]
            )
            last = int(cursor.lastrowid or 0)
        return last

    def keep_limit(self, requests: int, window: int, told_ms: int) -> None:
        """Write down the limit that Langfuse told, within a turn."""
        self._keep(LIMIT_TOLD, f"{requests} {window} {told_ms}")

    def keep_block(self, since: int, until: int) -> None:
        """Write down that Langfuse told to wait, within a turn."""
        self._keep(BLOCKED, f"{since} {until}")

    def forget_outside(self, start: int, end: int) -> None:
        """Remove requests from before or after a time, and all that are older than a day, within a turn."""
        self._ledger.light().execute(
            "DELETE FROM requests WHERE (bucket = ? AND (sent_ms < ? OR sent_ms > ?)) OR sent_ms < ?",
            [self._bucket, start, end, end - _LONGEST - 2 * LIMIT * 1000],
        )

    def _keep(self, name: str, value: str) -> None:
        self._ledger.light().execute(
            "INSERT OR REPLACE INTO state_keys (scope, name, value) VALUES (?, ?, ?)", [self._bucket, name, value]
        )

    def _live_has_heartbeat(self, light: sqlite3.Connection) -> bool:
        """Whether a live sync gave a sign of life lately. One that was killed counts until its lease ends."""
        row = light.execute("SELECT heartbeat_ms FROM leases WHERE role = ?", [LIVE]).fetchone()
        return row is not None and abs(self._ledger.clock.now_ms() - int(row[0])) < LIMIT * 1000

    @contextmanager
    def _explained(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._ledger.light()
        except sqlite3.Error as fault:
            raise explanation(self._ledger.path, fault) from fault


def _limit(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    requests, window, told_ms = text.split()
    return int(requests), int(window), int(told_ms)


def _pair(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    since, until = text.split()
    return int(since), int(until)
