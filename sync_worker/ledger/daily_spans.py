"""How many spans of a source were accepted on each of the last days, counted in the transaction that stores them.

Days are those of UTC, by the corrected time: a clock of this machine that is set does not begin a new one. Spans that a
process is sending are counted beside them, by lease and job, for as long as that lease is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync_worker.ledger.lease import SENDING, is_owned

if TYPE_CHECKING:
    from sync_worker.ledger.lease import Lease
    from sync_worker.ledger.store import Leases, Store

DAY_MS = 86_400_000
#: Days that are kept, so that one that comes again, as the time is corrected, goes on from where it was.
_KEPT_DAYS = 8


def today(store: Store) -> int:
    """Return the day, counted from 1970."""
    return store.clock.now_ms() // DAY_MS


def count_spans(store: Store, source_id: int, spans: int) -> None:
    """Count spans that were accepted today, within the current transaction."""
    day = today(store)
    store.execute(
        "INSERT INTO state_keys (scope, name, value) VALUES (?, ?, ?) ON CONFLICT (scope, name) "
        "DO UPDATE SET value = CAST(value AS INTEGER) + ?",
        [_scope(source_id), str(day), str(spans), spans],
    )
    store.execute(
        "DELETE FROM state_keys WHERE scope = ? AND CAST(name AS INTEGER) < ?", [_scope(source_id), day - _KEPT_DAYS]
    )


def spans_of_day(store: Store, source_id: int, day: int) -> int:
    """Return how many spans of a source were accepted on a day, counted from 1970."""
    rows = store.query(
        "SELECT CAST(value AS INTEGER) FROM state_keys WHERE scope = ? AND name = ?", [_scope(source_id), str(day)]
    )
    return int(rows[0][0]) if rows else 0


def spans_of_others(store: Store, source_id: int, leases: Leases) -> int:
    """Return how many spans of a source other processes are sending; those of runs that ended or died are not."""
    own = None if store.lease is None else _process(store.lease)
    found: dict[str, int] = {}  # by lease: its role and token
    for process, spans in store.query(
        "SELECT name, CAST(value AS INTEGER) FROM state_keys WHERE scope = ?", [_sending_scope(source_id)]
    ):
        if process != own:
            lease = process.rpartition(" ")[0]
            found[lease] = found.get(lease, 0) + spans
    return sum(
        spans
        for lease, spans in found.items()
        if (held := leases.get(lease.partition(" ")[0])) is not None
        and held["token"] == lease.partition(" ")[2]
        and is_owned(store, held)
    )


def count_sending(store: Store, source_id: int, spans: int) -> None:
    """Store how many spans of a source this process is sending now, within the current transaction."""
    if store.lease is not None:
        store.execute(*_stored_sending(source_id, store.lease, spans))


def count_sending_later(store: Store, source_id: int, spans: int) -> None:
    """Store how many spans of a source this process is sending now, with the next transaction."""
    if store.lease is not None:
        store.execute_later(*_stored_sending(source_id, store.lease, spans))


def _stored_sending(source_id: int, lease: Lease, spans: int) -> tuple[str, list[str]]:
    return (
        "INSERT OR REPLACE INTO state_keys (scope, name, value) VALUES (?, ?, ?)",
        [_sending_scope(source_id), _process(lease), str(spans)],
    )


def _process(lease: Lease) -> str:
    return f"{lease.role} {lease.token} {lease.job}"


def _sending_scope(source_id: int) -> str:
    return f"{SENDING} {source_id}"


def _scope(source_id: int) -> str:
    return f"days {source_id}"
