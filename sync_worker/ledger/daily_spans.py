"""How many spans of a source were accepted on each of the last days, counted in the transaction that stores them.

Days are those of UTC, by the corrected time: a clock of this machine that is set does not begin a new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sync_worker.ledger.store import Store

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


def _scope(source_id: int) -> str:
    return f"days {source_id}"
