"""Hourly counts of observations that were completed and then forgotten: enough for `verify` to find a missing one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sync_worker.ledger.store import Store

HOUR_MS = 3_600_000

_SENT = f"SELECT start_ms / {HOUR_MS}, count(*) FROM sent WHERE source_id = ? GROUP BY 1"
_FORGOTTEN = "SELECT hour, rows FROM hourly_counts WHERE source_id = ?"
_DEAD_LETTERED = (
    f"SELECT start_ms / {HOUR_MS}, count(*) FROM dead_letters d WHERE source_id = ? AND observation_id IS NOT NULL "
    "AND start_ms IS NOT NULL AND NOT EXISTS (SELECT 1 FROM sent s WHERE s.source_id = d.source_id "
    "AND s.trace_id = d.trace_id AND s.observation_id = d.observation_id) GROUP BY 1"
)


def add_forgotten(store: Store, traces: Iterable[tuple[int, str]]) -> None:
    """Count what was sent of traces (source, id) that are about to be forgotten, within the current transaction."""
    store.execute_many(
        f"INSERT INTO hourly_counts (source_id, hour, rows) SELECT source_id, start_ms / {HOUR_MS}, count(*) FROM sent "
        "WHERE source_id = ? AND trace_id = ? GROUP BY 1, 2 "
        "ON CONFLICT (source_id, hour) DO UPDATE SET rows = rows + excluded.rows",
        traces,
    )


def forgotten_hours(store: Store, source_id: int) -> set[int]:
    """Return the hours (counted from 1970) in which observations start that were sent and forgotten."""
    return {hour for hour, count in store.query(_FORGOTTEN, [source_id]) if count}


def completed_by_hour(store: Store, source_id: int) -> Counter[int]:
    """Return how many observations that start in each hour (counted from 1970) are completed.

    Sent, forgotten or dead-lettered.
    """
    done: Counter[int] = Counter()
    for sql in (_SENT, _FORGOTTEN, _DEAD_LETTERED):
        done.update(dict(store.query(sql, [source_id])))
    return done
