"""Stretches of time, against the plain set of their milliseconds."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sync_worker.windows import Window, contiguous_end, gaps, merged

_WINDOW = st.tuples(st.integers(-20, 40), st.integers(-3, 12)).map(lambda pair: Window(pair[0], sum(pair)))
_WINDOWS = st.lists(_WINDOW, max_size=10)


def _moments(windows: list[Window]) -> set[int]:
    return {moment for window in windows for moment in range(window.start, window.end)}


def _is_tidy(windows: list[Window]) -> bool:
    """Whether windows are in order, none is empty and no two touch."""
    return all(window.length > 0 for window in windows) and all(a.end < b.start for a, b in pairwise(windows))


@given(_WINDOWS)
def test_merged_is_the_union(windows: list[Window]) -> None:
    """Time would be made up or lost where windows touch, overlap or are empty."""
    result = merged(windows)
    assert (_moments(result), _is_tidy(result)) == (_moments(windows), True)


@given(_WINDOW, _WINDOWS)
def test_gaps_are_what_is_left(within: Window, covered: list[Window]) -> None:
    """A gap would be overlooked for ever, or covered time read again in each cycle."""
    result = gaps(within, covered)
    assert (_moments(result), _is_tidy(result)) == (_moments([within]) - _moments(covered), True)


@given(st.integers(-25, 55), _WINDOWS)
def test_contiguous_end_is_the_first_moment_that_is_not_covered(start: int, covered: list[Window]) -> None:
    """The edge would jump over a gap, or stay behind."""
    done = _moments(covered)
    expected = start
    while expected in done:
        expected += 1
    assert contiguous_end(start, covered) == expected


@given(_WINDOW, st.integers(-25, 55))
def test_window_holds_its_start_and_not_its_end(window: Window, moment: int) -> None:
    """Rows on a boundary would be sent by two windows, or by none."""
    assert window.holds(moment) == (moment in _moments([window]))


def test_edges() -> None:
    """The cases that are thought of first would be wrong."""
    assert merged([Window(5, 9), Window(0, 5)]) == [Window(0, 9)]
    assert merged([Window(0, 5), Window(6, 9), Window(3, 3)]) == [Window(0, 5), Window(6, 9)]
    assert gaps(Window(0, 10), []) == [Window(0, 10)]
    assert gaps(Window(0, 10), [Window(-5, 0), Window(10, 15)]) == [Window(0, 10)]
    assert gaps(Window(0, 10), [Window(2, 3), Window(3, 4)]) == [Window(0, 2), Window(4, 10)]
    assert gaps(Window(10, 0), []) == []
    assert contiguous_end(5, [Window(5, 5)]) == 5
    assert Window(3, 10).length == 7
