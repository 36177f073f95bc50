"""Recent requests, limits and waits of Langfuse: what the processes on one state file share.

Nothing here is worth a flush to disk: after a power cut the last seconds may be missing, and no more. Times are Unix
milliseconds, as they were written; what to make of a time that a clock was wrong about is up to who reads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sync_worker.ledger.lease import LIMIT, LIVE
from sync_worker.ledger.sqlite_errors import state_error
from sync_worker.ledger.store import Store
from sync_worker.request_snapshot import RequestSnapshot

#: The ledger's names for the limit that Langfuse reported (requests, seconds, when), and for start and end of the wait
#: that it asked for.
LAST_LIMIT, BLOCKED = "limit", "blocked"
#: After so long, in milliseconds, no request is counted for anything.
_LONGEST = 86_400_000


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

    def snapshot(self, last: int) -> RequestSnapshot:
        """Return the requests after a number, and the current limit and wait."""
        with self._explained() as connection:
            rows = connection.execute(
                "SELECT id, sent_ms, live FROM requests WHERE id > ? AND bucket = ? ORDER BY id",
                [last, self._bucket],
            ).fetchall()
            state_keys = dict(
                connection.execute(
                    "SELECT name, value FROM state_keys WHERE scope = ? AND name IN (?, ?)",
                    [self._bucket, LAST_LIMIT, BLOCKED],
                ).fetchall()
            )
            return RequestSnapshot(
                [(sent, bool(live)) for _, sent, live in rows],
                rows[-1][0] if rows else last,
                _limit(state_keys.get(LAST_LIMIT)),
                _pair(state_keys.get(BLOCKED)),
                not self.is_live and self._live_has_heartbeat(connection),
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all other processes from writing, so that what was read is still true at the commit."""
        with self._explained() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def store_requests(self, times: Iterable[int]) -> int:
        """Store requests of this process, within a transaction; return the number of the last one."""
        connection, live, last = self._ledger.unflushed(), int(self.is_live), 0
        for sent in times:
            cursor = connection.execute(
                "INSERT INTO requests (bucket, sent_ms, live) VALUES (?, ?, ?)", [self._bucket, sent, live]
            )
            last = int(cursor.lastrowid or 0)
        return last

    def store_limit(self, requests: int, window: int, reported_ms: int) -> None:
        """Store the limit that Langfuse reported, within a transaction."""
        self._keep(LAST_LIMIT, f"{requests} {window} {reported_ms}")

    def store_block(self, since: int, until: int) -> None:
        """Store the wait that Langfuse asked for, within a transaction."""
        self._keep(BLOCKED, f"{since} {until}")

    def delete_outside(self, start: int, end: int) -> None:
        """Remove requests from before or after a time, and all that are older than a day, within a transaction."""
        self._ledger.unflushed().execute(
            "DELETE FROM requests WHERE (bucket = ? AND (sent_ms < ? OR sent_ms > ?)) OR sent_ms < ?",
            [self._bucket, start, end, end - _LONGEST - 2 * LIMIT * 1000],
        )

    def _keep(self, name: str, value: str) -> None:
        self._ledger.unflushed().execute(
            "INSERT OR REPLACE INTO state_keys (scope, name, value) VALUES (?, ?, ?)", [self._bucket, name, value]
        )

    def _live_has_heartbeat(self, connection: sqlite3.Connection) -> bool:
        """Whether a live sync had a heartbeat lately. One that was killed counts until its lease ends."""
        row = connection.execute("SELECT heartbeat_ms FROM leases WHERE role = ?", [LIVE]).fetchone()
        return row is not None and abs(self._ledger.clock.now_ms() - int(row[0])) < LIMIT * 1000

    @contextmanager
    def _explained(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._ledger.unflushed()
        except sqlite3.Error as error:
            raise state_error(self._ledger.path, error) from error


def request_limits(ledger: Store, organization: str) -> dict[str, tuple[int | None, int, int | None]]:
    """Return by bucket the limit that Langfuse reported, its window in seconds, and the end of a wait in Unix ms."""
    found: dict[str, tuple[int | None, int, int | None]] = {}
    scopes = f"{organization} "
    for scope, name, value in ledger.query(
        "SELECT scope, name, value FROM state_keys WHERE substr(scope, 1, ?) = ? AND name IN (?, ?)",
        [len(scopes), scopes, LAST_LIMIT, BLOCKED],
    ):
        bucket = scope.removeprefix(scopes)
        requests, window, until = found.get(bucket, (None, 0, None))
        if name == LAST_LIMIT:
            requests, window, _ = _limit(value) or (None, 0, 0)
        else:
            until = (_pair(value) or (0, 0))[1]
        found[bucket] = requests, window, until
    return found


def _limit(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    requests, window, reported_ms = text.split()
    return int(requests), int(window), int(reported_ms)


def _pair(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    since, until = text.split()
    return int(since), int(until)
