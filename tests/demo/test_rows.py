"""The rows that ship with the package."""

from __future__ import annotations

from collections import Counter

from sync_worker.demo.rows import load_rows
from tests.support.rows import recorded_rows


def test_rows_are_recorded_ones() -> None:
    """A row that no server listed would make the demo a fiction; only values of a megabyte are cut."""
    real = {(row["traceId"], row["id"], row["startTime"]): row for row in recorded_rows()}
    for row in load_rows():
        found = real[row["traceId"], row["id"], row["startTime"]]
        for key, value in row.items():
            whole = found[key]
            assert value == (whole[:4000] if isinstance(whole, str) and len(whole) > 8000 else whole)


def test_hard_cases_are_among_them() -> None:
    """The demo is to show what is difficult: odd times, moved rows, orphans, several roots."""
    rows = load_rows()
    ids = {row["id"] for row in rows}
    starts = [row["startTime"] for row in rows]
    assert 120 <= len(rows) <= 200
    assert (max(starts), min(starts)[:4]) == ("2026-11-23T16:00:07.501Z", "2024")
    assert Counter(row["id"] for row in rows).most_common(1)[0][1] == 2
    assert [row["name"] for row in rows if row["parentObservationId"] not in (*ids, None)].count("missing-parent") == 1
    roots = Counter(row["traceId"] for row in rows if row["isRootObservation"])
    assert max(roots.values()) >= 3
