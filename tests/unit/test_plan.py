"""Which windows are due, and how long they are."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_worker.pipeline.plan import TARGET_OBSERVATIONS, Cutter, due
from sync_worker.windows import Window, merged

_HOUR = 3_600_000
_STRETCHES = st.lists(
    st.tuples(st.integers(0, 10**9), st.integers(1, 10**8)).map(lambda pair: Window(pair[0], sum(pair))), max_size=4
).map(merged)


@settings(deadline=None)
@given(_STRETCHES, st.integers(500_000, 10**8), st.lists(st.integers(0, 10**6), min_size=1))
def test_windows_are_the_stretches_and_nothing_else(stretches: list[Window], length: int, rows: list[int]) -> None:
    """A piece of time would be read twice, or never."""
    cutter = Cutter(length)
    windows: list[Window] = []
    for number, window in enumerate(cutter.cut(stretches)):
        windows.append(window)
        cutter.learn(window, max(rows[number % len(rows)], 1) if number < 50 else 1)
    assert merged(windows) == stretches
    assert all(left.end <= right.start for left, right in pairwise(windows))
    assert all(window.length > 0 for window in windows)


def test_rest_goes_with_the_last_window() -> None:
    """A rest of seconds would be a request and a cut through the traces of its own."""
    assert list(Cutter(1000).cut([Window(0, 2499)])) == [Window(0, 1000), Window(1000, 2499)]
    assert list(Cutter(1000).cut([Window(0, 2500)])) == [Window(0, 1000), Window(1000, 2000), Window(2000, 2500)]
    assert list(Cutter(1000).cut([Window(0, 10), Window(20, 30)])) == [Window(0, 10), Window(20, 30)]
    assert list(Cutter().cut([Window(0, 2 * _HOUR)])) == [Window(0, _HOUR), Window(_HOUR, 2 * _HOUR)]
    assert list(Cutter().cut([])) == []


def test_windows_follow_the_density() -> None:
    """Windows of a handful of rows cost a request each; windows of a million, the memory and hours of repeats."""
    cutter = Cutter(_HOUR)
    cutter.learn(Window(0, _HOUR), TARGET_OBSERVATIONS)
    assert cutter.length == _HOUR
    cutter.learn(Window(0, _HOUR), 4 * TARGET_OBSERVATIONS)
    assert cutter.length == _HOUR // 4
    cutter.learn(Window(0, _HOUR // 4), TARGET_OBSERVATIONS // 4)
    assert cutter.length == _HOUR
    cutter.learn(Window(0, _HOUR), 0)
    assert cutter.length == 16 * _HOUR


def test_windows_stay_within_reason() -> None:
    """After a busy second the worker would cut by milliseconds; after an empty night a window would be years long."""
    cutter = Cutter(_HOUR)
    cutter.learn(Window(0, 1000), 10**9)
    assert cutter.length == 1_000
    for _ in range(1000):
        cutter.learn(Window(0, 60_000), 0)
    assert cutter.length == 60_000 * TARGET_OBSERVATIONS  # 60 s without a row


def test_short_windows_do_not_shrink_the_next() -> None:
    """Each cycle's minute is shorter than what is learnt: after an outage its windows would be cut to minutes again."""
    cutter = Cutter(_HOUR)
    for _ in range(5):
        cutter.learn(Window(0, 60_000), 100)
    assert cutter.length == 60_000 * TARGET_OBSERVATIONS // 100  # 100 rows a minute


@pytest.mark.parametrize("stored", [None, 0, -5, 1])
def test_nonsense_in_the_state_file_does_not_hang(stored: int | None) -> None:
    """A stored length of nothing would cut for ever."""
    windows = list(Cutter(stored).cut([Window(0, 10_000)]))
    assert merged(windows) == [Window(0, 10_000)]


def test_due_is_what_nobody_has_done_or_does() -> None:
    """A backfill and the live sync would send the same rows, or leave some to each other."""
    covered = [Window(0, 10), Window(20, 30)]
    assert due(0, 50, covered) == [Window(10, 20), Window(30, 50)]
    assert due(0, 50, covered, [Window(35, 40)]) == [Window(10, 20), Window(30, 35), Window(40, 50)]
    assert due(5, 25, covered) == [Window(10, 20)]
    assert due(50, 50, []) == []
    assert due(60, 50, []) == []
