"""How many observations of each hour are done: of those that the other file has forgotten, the count is all there is.

Counts of two files cannot be compared by name, so what was taken in from a file before is remembered. Of the
observations that a file has done in an hour, new are those beyond what was taken in from it, or is known here by name.
The count is then set so that it and the observations known by id add up to those completed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sync_worker.ledger.hourly_counts import HOUR_MS
from sync_worker.ledger.ledger import Ledger
from sync_worker.ledger.merging.sent_observations import Pair

_SENT = f"SELECT start_ms / {HOUR_MS}, count(*) FROM sent WHERE source_id = ? GROUP BY 1"
_FORGOTTEN = "SELECT hour, rows FROM {}hourly_counts WHERE source_id = ?"


def done_by_hour(ledger: Ledger, source_id: int) -> Counter[int]:
    """Return how many observations that start in each hour were sent, remembered or forgotten."""
    done = Counter(dict(ledger.query(_SENT, [source_id])))
    done.update(dict(ledger.query(_FORGOTTEN.format(""), [source_id])))
    return done


def known_by_hour(pair: Pair) -> Counter[int]:
    """Return how many observations of each hour stand in both files by name, before any is taken in."""
    rows = pair.ledger.query(
        f"SELECT o.start_ms / {HOUR_MS}, count(*) FROM other.sent o JOIN main.sent m ON m.source_id = ? "
        "AND m.trace_id = o.trace_id AND m.observation_id = o.observation_id WHERE o.source_id = ? GROUP BY 1",
        [pair.own, pair.other],
    )
    return Counter(dict(rows))


def take_hourly_counts(
    pair: Pair, done: Mapping[int, int], known: Counter[int], before: Counter[int], shared: Counter[int]
) -> int:
    """Count in observations that only have a count; returns how many are new.

    `done` is what the other file has done, `known` what was known of it by name, `before` what was taken in from it,
    and `shared` what both have from the same third files.
    """
    forgotten = Counter(dict(pair.ledger.query(_FORGOTTEN.format("other."), [pair.other])))
    own = Counter(dict(pair.ledger.query(_FORGOTTEN.format("main."), [pair.own])))
    changed: list[tuple[int, int, int]] = []
    new = 0
    for hour, observations in done.items():
        accounted = min(observations, max(known[hour], before[hour], shared[hour]))
        # Taking in the observations that are known by name has added those of them that were not.
        count = max(0, own[hour] + forgotten[hour] + known[hour] - accounted)
        if count != own[hour]:
            changed.append((pair.own, hour, count))
            new += max(0, count - own[hour])
    pair.ledger.execute_many(
        "INSERT INTO main.hourly_counts (source_id, hour, rows) VALUES (?, ?, ?) "
        "ON CONFLICT (source_id, hour) DO UPDATE SET rows = excluded.rows",
        changed,
    )
    return new
