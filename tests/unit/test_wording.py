"""Numbers as people write them."""

from __future__ import annotations

import pytest

from sync_worker.wording import counted, in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0s"), (0.4, "0s"), (-3, "0s"), (1, "1s"), (59.4, "59s"), (59.6, "1m"), (61, "1m 1s"), (3_599.9, "1h"),
        (7_500, "2h 5m"), (7_205, "2h"), (86_400, "1d"), (90_061, "1d 1h"), (40 * 86_400 + 3_600 * 3, "40d 3h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    """A duration is written as 2:05:00 or 0 days, with 60s in it, or with seconds behind days."""
    assert in_words(seconds) == words


def test_plurals() -> None:
    """One thing is written as 1 traces, or with another word's plural."""
    assert [counted(number, "trace") for number in (0, 1, 2, 2_000)] == [
        "0 traces",
        "1 trace",
        "2 traces",
        "2,000 traces",
    ]
    assert [counted(number, "query", "queries") for number in (1, 2)] == ["1 query", "2 queries"]
