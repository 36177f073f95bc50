"""Which cuts are due, and how long they are."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_worker.intervals import Interval, merged
from sync_worker.langfuse.score_reader import ScorePage, ScoreReader
from sync_worker.pipeline.plan import TARGET_OBSERVATIONS, Density, DueTime, IntervalPlanner, due
from sync_worker.records import Score
from sync_worker.runs.score_explain import estimate_scores

_HOUR = 3_600_000
_INTERVALS = st.lists(
    st.tuples(st.integers(0, 10**9), st.integers(1, 10**8)).map(lambda pair: Interval(pair[0], sum(pair))), max_size=4
).map(merged)


@settings(deadline=None)
@given(_INTERVALS, st.integers(500_000, 10**8), st.lists(st.integers(0, 10**6), min_size=1))
def test_cuts_are_the_stretches_and_nothing_else(intervals: list[Interval], length: int, rows: list[int]) -> None:
    """A piece of time would be read twice, or never."""
    planner = IntervalPlanner(length)
    cuts: list[Interval] = []
    for number, interval in enumerate(planner.split(intervals)):
        cuts.append(interval)
        planner.adjust(interval, max(rows[number % len(rows)], 1) if number < 50 else 1)
    assert merged(cuts) == intervals
    assert all(left.end <= right.start for left, right in pairwise(cuts))
    assert all(interval.length > 0 for interval in cuts)


def test_rest_goes_with_the_last_interval() -> None:
    """A rest of seconds would be a request and a cut through the traces of its own."""
    assert list(IntervalPlanner(1000).split([Interval(0, 2499)])) == [Interval(0, 1000), Interval(1000, 2499)]
    assert list(IntervalPlanner(1000).split([Interval(0, 2500)])) == [
        Interval(0, 1000),
        Interval(1000, 2000),
        Interval(2000, 2500),
    ]
    assert list(IntervalPlanner(1000).split([Interval(0, 10), Interval(20, 30)])) == [Interval(0, 10), Interval(20, 30)]
    assert list(IntervalPlanner().split([Interval(0, 2 * _HOUR)])) == [Interval(0, _HOUR), Interval(_HOUR, 2 * _HOUR)]
    assert list(IntervalPlanner().split([])) == []


def test_cuts_follow_the_density() -> None:
    """Intervals of a handful of rows cost a request each; cuts of a million, the memory and hours of repeats."""
    planner = IntervalPlanner(_HOUR)
    planner.adjust(Interval(0, _HOUR), TARGET_OBSERVATIONS)
    assert planner.length == _HOUR
    planner.adjust(Interval(0, _HOUR), 4 * TARGET_OBSERVATIONS)
    assert planner.length == _HOUR // 4
    planner.adjust(Interval(0, _HOUR // 4), TARGET_OBSERVATIONS // 4)
    assert planner.length == _HOUR
    planner.adjust(Interval(0, _HOUR), 0)
    assert planner.length == 16 * _HOUR


def test_cuts_stay_within_reason() -> None:
    """After a busy second intervals would last milliseconds; after an empty night, years."""
    planner = IntervalPlanner(_HOUR)
    planner.adjust(Interval(0, 1000), 10**9)
    assert planner.length == 1_000
    for _ in range(1000):
        planner.adjust(Interval(0, 60_000), 0)
    assert planner.length == 60_000 * TARGET_OBSERVATIONS  # 60 s without a row


def test_short_cuts_do_not_shrink_the_next() -> None:
    """Each cycle's minute is shorter than what is learnt: after an outage its cuts would be cut to minutes again."""
    planner = IntervalPlanner(_HOUR)
    for _ in range(5):
        planner.adjust(Interval(0, 60_000), 100)
    assert planner.length == 60_000 * TARGET_OBSERVATIONS // 100  # 100 rows a minute


@pytest.mark.parametrize("stored", [None, 0, -5, 1])
def test_nonsense_in_the_state_file_does_not_hang(stored: int | None) -> None:
    """A stored length of nothing would cut for ever."""
    cuts = list(IntervalPlanner(stored).split([Interval(0, 10_000)]))
    assert merged(cuts) == [Interval(0, 10_000)]


def test_due_is_what_nobody_has_done_or_does() -> None:
    """A backfill and the live sync would send the same rows, or leave some to each other."""
    completed = [Interval(0, 10), Interval(20, 30)]
    assert due(0, 50, completed) == [Interval(10, 20), Interval(30, 50)]
    assert due(0, 50, completed, [Interval(35, 40)]) == [Interval(10, 20), Interval(30, 35), Interval(40, 50)]
    assert due(5, 25, completed) == [Interval(10, 20)]
    assert due(50, 50, []) == []
    assert due(60, 50, []) == []


def test_due_time_is_taken_oldest_first() -> None:
    """What is put back or left to others is taken twice, or never."""
    left = DueTime([Interval(0, 2500), Interval(4000, 5000)], IntervalPlanner(1000))
    assert (left.take(), left.length) == (Interval(0, 1000), 2500)
    left.put_back(Interval(0, 400))
    left.put_back(Interval(7, 7))
    left.put_back(Interval(8, 9))
    assert left.take() == Interval(8, 9)
    assert left.before(4200) == [Interval(0, 400), Interval(1000, 2500), Interval(4000, 4200)]
    left.remove(left.before(4200))
    assert (left.take(), bool(left)) == (Interval(4200, 5000), False)


def test_last_intervals_are_shared() -> None:
    """One job would work on what is left for minutes while the others have nothing to do."""
    left, taken = DueTime([Interval(0, 10_000)], IntervalPlanner(2000)), list[Interval]()
    while left:
        before = left.length
        taken.append(left.take(4))
        assert taken[-1].length <= max(500, before // 4) * 1.5
    assert merged(taken) == [Interval(0, 10_000)]
    assert [interval.length for interval in taken] == [2000, 2000, 1500, 1125, 843, 633, 500, 500, 500, 399]
    assert DueTime([Interval(0, 740)], IntervalPlanner(2000)).take(4) == Interval(0, 740)  # no rest of less than half


def test_density_is_that_of_all_and_the_highest() -> None:
    """Jobs start for a night after a busy minute, or not for the day after a night."""
    read = Density()
    assert (read.average, read.highest, read.is_known) == (0, 0, False)
    read.add(Interval(0, 1), 3)
    assert read.average == 3
    read.add(Interval(1, 100), 97)
    read.add(Interval(100, 1000), 0)
    assert (read.average, read.highest) == (0.1, 0.1)
    read.add(Interval(1000, 1100), 1000)
    assert (read.average, read.highest, read.is_known) == (1.0, 10.0, True)


class _NewScores:
    """Stands in for a reader of scores: one a minute, from a time on."""

    def __init__(self, since: int) -> None:
        self._since = since

    async def interval(self, interval: Interval) -> AsyncGenerator[ScorePage, None]:
        minutes = range(max(interval.start, self._since), interval.end, 60_000)
        yield ScorePage([Score(str(at), "s", "NUMERIC", "API", at, 1) for at in minutes], down_to_ms=interval.start)


async def test_scores_of_many_gaps_are_estimated_from_all_of_them() -> None:
    """A backfill that is mostly done would be planned by its oldest gaps alone: without scores, if these have none."""
    gaps = [Interval(start, start + _HOUR) for start in range(0, 96 * _HOUR, 2 * _HOUR)]
    reader = cast("ScoreReader", _NewScores(48 * _HOUR))
    assert await estimate_scores(reader, gaps) == pytest.approx(24 * 60, rel=0.1)
    assert await estimate_scores(reader, []) == 0
