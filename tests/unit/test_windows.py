"""Intervals of time, against the plain set of their milliseconds."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sync_worker.intervals import Interval, contiguous_end, gaps, merged

_INTERVAL = st.tuples(st.integers(-20, 40), st.integers(-3, 12)).map(lambda pair: Interval(pair[0], sum(pair)))
_INTERVALS = st.lists(_INTERVAL, max_size=10)


def _moments(intervals: list[Interval]) -> set[int]:
    return {moment for interval in intervals for moment in range(interval.start, interval.end)}


def _is_tidy(intervals: list[Interval]) -> bool:
    """Whether intervals are in order, none is empty and no two touch."""
    return all(interval.length > 0 for interval in intervals) and all(a.end < b.start for a, b in pairwise(intervals))


@given(_INTERVALS)
def test_merged_is_the_union(intervals: list[Interval]) -> None:
    """Time would be made up or lost where intervals touch, overlap or are empty."""
    result = merged(intervals)
    assert (_moments(result), _is_tidy(result)) == (_moments(intervals), True)


@given(_INTERVAL, _INTERVALS)
def test_gaps_are_what_is_left(within: Interval, completed: list[Interval]) -> None:
    """A gap would be overlooked for ever, or covered time read again in each cycle."""
    result = gaps(within, completed)
    assert (_moments(result), _is_tidy(result)) == (_moments([within]) - _moments(completed), True)


@given(st.integers(-25, 55), _INTERVALS)
def test_contiguous_end_is_the_first_moment_that_is_not_completed(start: int, completed: list[Interval]) -> None:
    """The edge would jump over a gap, or stay behind."""
    done = _moments(completed)
    expected = start
    while expected in done:
        expected += 1
    assert contiguous_end(start, completed) == expected


@given(_INTERVAL, st.integers(-25, 55))
def test_interval_holds_its_start_and_not_its_end(interval: Interval, moment: int) -> None:
    """Rows on a boundary would be sent by two intervals, or by none."""
    assert interval.contains(moment) == (moment in _moments([interval]))


def test_edges() -> None:
    """The cases that are thought of first would be wrong."""
    assert merged([Interval(5, 9), Interval(0, 5)]) == [Interval(0, 9)]
    assert merged([Interval(0, 5), Interval(6, 9), Interval(3, 3)]) == [Interval(0, 5), Interval(6, 9)]
    assert gaps(Interval(0, 10), []) == [Interval(0, 10)]
    assert gaps(Interval(0, 10), [Interval(-5, 0), Interval(10, 15)]) == [Interval(0, 10)]
    assert gaps(Interval(0, 10), [Interval(2, 3), Interval(3, 4)]) == [Interval(0, 2), Interval(4, 10)]
    assert gaps(Interval(10, 0), []) == []
    assert contiguous_end(5, [Interval(5, 5)]) == 5
    assert Interval(3, 10).length == 7
