"""Rows by trace, each once; and whether a trace may go."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_worker.pipeline.assemble import Assembly, newer
from sync_worker.pipeline.readiness import Readiness, ReadinessLimits, pending_observations, readiness
from sync_worker.records import Observation

_PATIENCE = ReadinessLimits(quiet_period=30, max_open=1800)


def _row(id: str = "r", start: int = 0, end: int | None = 10, **values: Any) -> Observation:  # noqa: A002
    return Observation(id, values.pop("trace_id", "t"), "p", values.pop("type", "SPAN"), start, end, **values)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"updated_ms": 2, "end": None}, {"updated_ms": 1, "input": "text", "output": "text"}),
        ({"updated_ms": 1}, {"updated_ms": None, "input": "text"}),
        ({"updated_ms": 1, "end": 10}, {"updated_ms": 1, "end": None, "input": "text"}),
        ({"updated_ms": 1, "input": "longer"}, {"updated_ms": 1, "input": "text"}),
        ({"updated_ms": 1, "output": "text"}, {"updated_ms": 1}),
        ({"updated_ms": 1, "metadata": {"a": 1}}, {"updated_ms": 1}),
        ({"updated_ms": 1, "start": 1}, {"updated_ms": 1, "start": 2}),
    ],
)
def test_newest_and_most_complete_state_stays(better: dict[str, Any], worse: dict[str, Any]) -> None:
    """A row that repeats within a walk would go in an older state, or without its content."""
    assert newer(_row(**better), _row(**worse)) == _row(**better)
    assert newer(_row(**worse), _row(**better)) == _row(**better)


_STATES = st.builds(
    _row,
    start=st.integers(0, 3),
    end=st.none() | st.integers(0, 3),
    updated_ms=st.none() | st.integers(0, 3),
    input=st.none() | st.text(max_size=2),
    metadata=st.dictionaries(st.text(max_size=1), st.none(), max_size=2),
)


@pytest.mark.slow
@given(st.lists(_STATES, min_size=1, max_size=5), st.randoms())
def test_state_that_stays_does_not_hang_on_pages(states: list[Observation], chance: Any) -> None:
    """The same walk, paged otherwise, would send another state."""
    shuffled = list(states)
    chance.shuffle(shuffled)
    kept = []
    for order in (states, shuffled):
        assembly = Assembly()
        for state in order:
            assembly.add([state], 1)
        ((row,),) = assembly.take().values()
        kept.append(
            (row.updated_ms or 0, row.end_ms is not None, len(row.input or "") + len(row.metadata), row.start_ms)
        )
    assert kept[0] == kept[1]
    assert kept[0][0] == max(state.updated_ms or 0 for state in states)


def test_assembly_keeps_rows_by_trace() -> None:
    """Rows of two traces with the same id would be one, or rows without a trace would be one trace."""
    assembly = Assembly()
    assembly.add([_row("a"), _row("b"), _row("a", trace_id="u")], 100)
    assembly.add([_row("x", trace_id=None), _row("y", trace_id=None), _row("a")], 50)
    assert assembly.size == 150
    taken = assembly.take()
    assert sorted(sorted(row.id for row in rows) for rows in taken.values()) == [["a"], ["a", "b"], ["x"], ["y"]]
    assert (assembly.size, assembly.take()) == (0, {})


_ROOT = _row("root", 0, 100)
_OPEN_ROOT = _row("root", 0, None)
_CHILD = _row("child", 5, 50, parent_id="root")
_OPEN_CHILD = _row("child", 5, None, parent_id="root")


@pytest.mark.parametrize(
    ("rows", "newest", "now", "expected"),
    [
        ([_ROOT, _CHILD], 100, 130, Readiness.READY),
        ([_ROOT, _CHILD], 100, 129, Readiness.PENDING),
        ([_ROOT, _CHILD], 120, 149, Readiness.PENDING),
        ([_ROOT, _CHILD], 120, 150, Readiness.READY),
        ([_ROOT, _OPEN_CHILD], 100, 130, Readiness.READY),
        ([_CHILD], 50, 500, Readiness.PENDING),
        ([_OPEN_ROOT, _CHILD], 50, 500, Readiness.PENDING),
        ([], 50, 500, Readiness.PENDING),
        ([_CHILD], 50, 1799, Readiness.PENDING),
        ([_CHILD], 50, 1800, Readiness.OVERDUE),
        ([_OPEN_ROOT, _CHILD], 1799, 1800, Readiness.OVERDUE),
        ([_ROOT, _CHILD], 1799, 1800, Readiness.OVERDUE),
        ([_row("e", 0, None, type="EVENT")], 0, 30, Readiness.READY),
        ([_row("t-t", 0, None), _CHILD], 50, 80, Readiness.READY),
        ([_row("child", 5, 50, parent_id="gone", is_root=True)], 50, 80, Readiness.READY),
        ([_ROOT], 1000, 500, Readiness.PENDING),
    ],
)
def test_readiness(rows: list[Observation], newest: int, now: int, expected: Readiness) -> None:
    """A trace would go in pieces while it is being written, or wait although it is whole."""
    assert readiness(rows, 0, newest, now, _PATIENCE) is expected


def test_verdict_counts_rows_that_were_seen_before() -> None:
    """A trace that began long ago would wait anew with each of its rows."""
    assert readiness([_row("late", 5000, 5100, parent_id="root")], 0, 5100, 5110, _PATIENCE) is Readiness.OVERDUE


def test_withheld_rows_are_those_that_still_run() -> None:
    """A row would go out before it has ended, and again after, or wait for an end that never comes."""
    rows = [
        _row("ended", 100, 200),
        _row("running", 100, None),
        _row("lost", -1000, None),
        _row("event", 100, None, type="EVENT"),
        _row("t-t", 100, None),
        _row("alone", 100, None, trace_id=None),
    ]
    assert [row.id for row in pending_observations(rows, 800, _PATIENCE)] == ["running"]
    assert [row.id for row in pending_observations(rows, 799, _PATIENCE)] == ["running", "lost"]
    assert pending_observations(rows, 1900, _PATIENCE) == []


def test_row_that_comes_twice_is_unsettled() -> None:
    """A mix of two versions goes out; or rows of v1, whose walks repeat them, wait for nothing."""
    for api, unsettled in (("v2", True), ("v1", False)):
        assembly = Assembly()
        assembly.add([_row(updated_ms=2, api=api), _row("other", api=api)], 1)
        assembly.add([_row(updated_ms=1, api=api)], 1)
        held = {row.id: row.unsettled for row in assembly.take()["t"]}
        assert held == {"r": unsettled, "other": False}


@given(st.permutations([(1, 1), (1, 3), (2, 2)]))
def test_other_start_is_another_row(order: list[tuple[int, int]]) -> None:
    """Which of three states comes last hides that the newest has two versions, or makes one up."""
    assembly = Assembly()
    for start, updated in order:
        assembly.add([_row(start=start, updated_ms=updated)], 1)
    ((row,),) = assembly.take().values()
    assert (row.start_ms, row.updated_ms, row.unsettled) == (1, 3, True)


def test_trace_with_an_unproven_row_is_not_whole() -> None:
    """A trace goes while the other version of one of its rows stands behind the border of a page."""
    root = _row(is_root=True)
    assembly = Assembly()
    assembly.add([root], 1, border=root)
    assembly.add([_row("far", trace_id="u")], 1)
    assert assembly.take_complete() == {}
    assembly.mark_unmerged([])
    assert list(assembly.take_complete()) == ["t"]


@pytest.mark.parametrize(
    ("since", "now", "waits"), [(None, 1_809, True), (None, 1_810, False), (0, 1_799, True), (0, 1_800, False)]
)
def test_row_with_two_versions_waits_so_long(since: int | None, now: int, waits: bool) -> None:
    """A row that is written again and again, or never merged, waits for ever."""
    row = _row(updated_ms=10, unsettled=True)
    assert (pending_observations([row], now, _PATIENCE, since) == [row]) is waits
