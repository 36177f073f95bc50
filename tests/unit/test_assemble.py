"""Rows by trace, each once; and whether a trace may go."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_worker.langfuse.reader import Page
from sync_worker.pipeline.assemble import Assembly, newer
from sync_worker.pipeline.readiness import Readiness, ReadinessLimits, awaits_merge, pending_observations, readiness
from sync_worker.pipeline.report import SourceReport
from sync_worker.pipeline.trace import Trace, as_done
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


def test_size_is_that_of_what_is_held() -> None:
    """A large interval would be sent in one piece, with all of it in memory, or page by page."""
    assembly = Assembly()
    root, child, other = _row("root"), _row("child", parent_id="root"), _row("o", trace_id="u", parent_id="x")
    assembly.add([root, child], 90)
    assembly.add([other], 30)
    assert assembly.size == 120
    assert set(assembly.take_complete()) == {"t"}
    assert assembly.size == 40
    assembly.add([other], 30)
    assembly.add([_row("x", trace_id="u")], 30)
    assert assembly.size == 100
    assembly.add([], 0)
    assert set(assembly.take_complete()) == {"u"}
    assert assembly.size == 0


def test_a_page_is_added_with_its_size() -> None:
    """`explain` and previews would show nothing."""
    assembly = Assembly()
    assembly.add_page(Page([_row()], size=7))
    assert (set(assembly.traces), assembly.size) == ({"t"}, 7)


def test_versions_of_another_start_are_another_observation() -> None:
    """A trace would wait for the merge of an observation that is not its own."""
    assembly = Assembly()
    assembly.add([_row("r", 5)], 1)
    assembly.mark_unmerged([("t", "r", 6), ("unknown", "r", 5)])
    assert not assembly.traces["t"]["r"].unsettled
    assembly.mark_unmerged([("t", "r", 5)])
    assert assembly.traces["t"]["r"].unsettled


def test_an_observation_without_a_trace_awaits_no_merge() -> None:
    """It cannot be read by its trace again, so it would wait for ever."""
    assert not awaits_merge(_row(trace_id=None, updated_ms=0), 1, _PATIENCE, None)
    assert awaits_merge(_row(updated_ms=0), 1, _PATIENCE, None)


def test_a_trace_has_an_error_where_one_of_its_observations_has() -> None:
    """A rule that keeps traces with errors would drop most of them."""
    fine, wrong = _row("a"), _row("b", level="ERROR")
    assert Trace("t", [fine], others=[wrong]).has_error
    assert not Trace("t", [fine]).has_error


def test_what_is_done_is_stored_with_its_update() -> None:
    """What was left out would be taken for changed at each scan, or a change of it never be seen."""
    assert as_done(_row(updated_ms=7))[1:3] == (0, 7)
    assert as_done(_row(updated_ms=None))[1:3] == (0, 0)


def test_counts_of_a_job_are_added_to_those_of_its_run() -> None:
    """The report of a run with jobs would tell less than was done, or the line count what was not left out."""
    run, job = SourceReport("source"), SourceReport("source")
    job.filtered["rule"], job.notes["note"], job.not_read = 2, 1, ["dev"]
    job.scores_filtered, job.scores_of_experiments, job.scores_gone, job.scores_without_trace = 3, 2, 4, 1
    for _ in range(2):
        run.add(job)
    assert (run.filtered, run.notes, run.not_read) == ({"rule": 4}, {"note": 2}, ["dev"])
    assert "10 scores left out, 10 scores without a trace" in run.line()
    assert run.line().endswith("not read: environment dev")


@pytest.mark.parametrize(
    ("source", "target", "label"),
    [
        ("a", "kelet", "a"),
        ("a", "tempo", "a (tempo)"),
        ("a/tempo", "tempo", "a/tempo"),
        ("a/kelet", "kelet", "a/kelet"),
    ],
)
def test_a_line_names_its_target_where_that_is_not_clear(source: str, target: str, label: str) -> None:
    """Lines of two targets of one project could not be told apart, or tell the usual one each time."""
    assert SourceReport(source, target=target).line().startswith(f"{label}: ")


def test_a_report_begins_at_nothing() -> None:
    """Each run of each source would report one too many, and so would their sum."""
    values = SourceReport("one").as_json()
    assert {name for name, value in values.items() if value} == {"source", "target"}
