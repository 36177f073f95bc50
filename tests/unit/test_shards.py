"""Which parts of a range a shard takes: whoever asks, all shards together take it once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_worker.cli.commands.backfill import INDEX_VARIABLE
from sync_worker.cli.shard import full_range, shard_of
from sync_worker.errors import ConfigError
from sync_worker.intervals import Interval, clip, merged
from sync_worker.sync.shards import Shard

_HOUR, _DAY = 3_600_000, 86_400_000
_RANGES = st.builds(
    lambda start, length: Interval(start, start + length),
    st.integers(0, 40_000 * _DAY),
    st.one_of(st.integers(1, 3 * _HOUR), st.integers(1, 400 * _DAY)),
)


@given(_RANGES, st.integers(1, 40))
def test_shards_share_a_range_without_rest(whole: Interval, of: int) -> None:
    """Rows of a part that no shard takes would be lost, those of a part that two take would be sent twice."""
    parts = [part for index in range(of) for part in Shard(index, of).partitions(whole)]
    assert sum(part.length for part in parts) == whole.length
    assert merged(parts) == [whole]


@given(_RANGES, st.integers(2, 16), st.floats(0, 1), st.floats(0, 1))
def test_what_is_due_later_does_not_move_the_cuts(whole: Interval, of: int, first: float, second: float) -> None:
    """A shard that starts later would take what another one took, if its clock had a say in where parts begin."""
    seen = sorted(whole.start + round(whole.length * share) for share in (first, second))
    for index in range(of):
        early, late = (clip(Shard(index, of).partitions(whole), Interval(whole.start, end)) for end in seen)
        assert clip(late, Interval(whole.start, seen[0])) == early


@pytest.mark.parametrize("days", [7, 30, 90, 365])
@pytest.mark.parametrize("of", [2, 3, 4, 5, 6, 8, 10, 12, 16, 24])
def test_busy_hours_are_spread(days: int, of: int) -> None:
    """One machine would get the working hours of all days, and the others would have long been done."""

    def load(moment: int) -> float:
        busy = 9 <= moment // _HOUR % 24 < 18
        return (10.0 if busy else 1.0) * (1.0 if (moment // _DAY + 3) % 7 < 5 else 0.2)

    whole = Interval(20_000 * _DAY + 5 * _HOUR, (20_000 + days) * _DAY + 5 * _HOUR)
    step = _HOUR // 4
    loads = [
        sum(load(moment) for part in Shard(index, of).partitions(whole) for moment in range(part.start, part.end, step))
        for index in range(of)
    ]
    assert max(loads) < 1.25 * sum(loads) / of


@pytest.mark.parametrize(("days", "of", "at_most"), [(7, 4, 200), (30, 4, 300), (365, 4, 366), (365, 16, 1_000)])
def test_borders_are_few_and_stand_on_whole_hours(days: int, of: int, at_most: int) -> None:
    """Each border cuts the traces across it and costs a request, and hours cut in two cannot be verified alone."""
    whole = Interval(20_000 * _DAY + 1, (20_000 + days) * _DAY)
    parts = [part for index in range(of) for part in Shard(index, of).partitions(whole)]
    assert 10 * of <= len(parts) <= at_most
    assert all(part.start % _HOUR == 0 for part in parts if part.start != whole.start)


def test_what_shard_means() -> None:
    """A machine would take another share than it was told."""
    assert shard_of("0/4", {}) == Shard(0, 4)
    assert shard_of("auto/4", {INDEX_VARIABLE: "3"}) == Shard(3, 4)
    assert shard_of("1/4", {INDEX_VARIABLE: "3"}) == Shard(1, 4)
    assert shard_of(None, {}) is None
    assert shard_of(None, {INDEX_VARIABLE: "0"}) is None


@pytest.mark.parametrize(
    ("text", "index", "expected"),
    [
        ("4/4", None, "no shard 4 of 4"),
        ("auto/4", "4", "JOB_COMPLETION_INDEX=4"),
        ("auto/4", None, "is not set"),
        ("auto/4", "", "is not set"),
        ("auto/4", "one", "is not a number"),
        ("auto/4", "-1", "is not a number"),
        ("0/0", None, "1 to 1000 shards"),
        ("0/1001", None, "1 to 1000 shards"),
        ("-1/4", None, "is not a shard"),
        ("4", None, "is not a shard"),
        ("", None, "is not a shard"),
        (None, "1", "each pod of this Job would send the whole range"),
    ],
)
def test_what_shard_cannot_mean(text: str | None, index: str | None, expected: str) -> None:
    """A range would be sent several times, or a part of it never, without a word."""
    with pytest.raises(ConfigError, match=expected) as refused:
        shard_of(text, {} if index is None else {INDEX_VARIABLE: index})
    assert "Try: " in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("30d", "2026-02-01T00:00:00Z", "--from '30d' with --shard: a time relative to now"),
        ("2026-01-01T00:00:00Z", "now", "--to 'now' with --shard: a time relative to now"),
        ("2026-01-01", "2026-02-01T00:00:00Z", "without an offset"),
        ("2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z", "is not before"),
        ("2026-06-01T00:00:00Z", "2026-07-01T00:00:00Z", "is not before"),
    ],
)
def test_ranges_that_shards_cannot_share(start: str, end: str, expected: str) -> None:
    """Shards that start at different moments would cut different ranges, and overlap or leave gaps."""
    with pytest.raises(ConfigError, match=expected):
        full_range(start, end, 1_776_000_000_000)  # 2026-04-12


def test_an_end_in_the_future_is_kept() -> None:
    """The cuts would depend on when a shard starts."""
    found = full_range("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z", 1_776_000_000_000)
    assert found.length == 365 * _DAY
