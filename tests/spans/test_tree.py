"""Trees and times of the conversion: parents, cycles, synthetic roots, odd clocks, order."""

import itertools
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.conversion import convert
from sync_worker.spans.span_model import Conversion
from tests.spans.made import CHILD, GRANDCHILD, ROOT, T0, TRACE, converted, held, row, spans

MS = 1_000_000
INCOMPLETE, BACKWARDS = "kelet.source.langfuse.incomplete", "kelet.source.langfuse.end_before_start"
HIDDEN = f"t-{TRACE}"


def test_parents() -> None:
    """A tree that comes out flat, or with other links, is not the trace that the user sees."""
    found = spans(row(ROOT), row(CHILD, parent_id=ROOT), row(GRANDCHILD, parent_id=CHILD))
    assert {key: span.parent_id for key, span in found.items()} == {ROOT: "", CHILD: ROOT, GRANDCHILD: CHILD}
    assert {span.trace_id for span in found.values()} == {TRACE}


def test_mapped_ids_keep_the_tree_together() -> None:
    """Legacy ids are hashed: a parent hashed in another way than the row itself tears the tree apart."""
    rows = [row("obs-1", trace_id="chat_42"), row("obs-2", trace_id="chat_42", parent_id="obs-1")]
    found = spans(*rows)
    assert found["obs-1"].span_id == "31b106bb24acc7b4"
    assert found["obs-2"].parent_id == "31b106bb24acc7b4"
    assert held(
        found["obs-2"].attributes, "kelet.source.langfuse.trace_id", "kelet.source.langfuse.observation_id"
    ) == {"kelet.source.langfuse.trace_id": "chat_42", "kelet.source.langfuse.observation_id": "obs-2"}


def test_kept_ids_are_not_repeated() -> None:
    """Markers on spans whose ids passed through would make them differ from a direct export."""
    assert not [key for key in spans(row())[ROOT].attributes if key.startswith("kelet.source.")]


@pytest.mark.parametrize("order", list(itertools.permutations([ROOT, CHILD, GRANDCHILD])))
def test_cycle_is_cut_once(order: tuple[str, ...]) -> None:
    """A cycle has no root and would make a reader loop; where it is cut must not depend on the order of the rows."""
    parents = {ROOT: GRANDCHILD, CHILD: ROOT, GRANDCHILD: CHILD}
    result = converted([row(name, parent_id=parents[name]) for name in order])
    assert {r.id: span.parent_id for r, span in result.spans} == {ROOT: "", CHILD: ROOT, GRANDCHILD: CHILD}
    assert result.notes == {"parent cut": 1}


@pytest.mark.parametrize("before", ["0000000000000001", "00000000000000ff"])
def test_cycle_with_a_tail_is_cut_at_the_same_row(before: str) -> None:
    """A child that arrives with the cycle would move the cut, and the resent tree would differ from the first."""
    rows = [row(ROOT, parent_id=CHILD), row(CHILD, parent_id=ROOT), row(before, parent_id=CHILD)]
    assert {name: span.parent_id for name, span in spans(*rows).items()} == {ROOT: "", CHILD: ROOT, before: CHILD}


def test_own_parent() -> None:
    """A row that names itself is a root; that it was mended must show."""
    result = converted([row(parent_id=ROOT), row("ABCDEF0123456789", parent_id="abcdef0123456789")])
    assert [span.parent_id for _, span in result.spans] == ["", ""]
    assert result.notes == {"parent cut": 2}


def test_nothing_to_note() -> None:
    """Notes about sound traces would hide those about broken ones."""
    assert not converted([row(), row(CHILD, parent_id=ROOT)]).notes


def test_orphan_keeps_its_parent() -> None:
    """The parent may be in another service: a direct export has the link as well."""
    assert spans(row(parent_id="00000000000000ee"))[ROOT].parent_id == "00000000000000ee"


def test_ancestors_are_not_sent() -> None:
    """Rows that only tell of the trace were sent before: they would be sent twice."""
    found = spans(row(CHILD, parent_id=ROOT), others=[row(ROOT)])
    assert list(found) == [CHILD]
    assert found[CHILD].parent_id == ROOT


def test_times_in_nanoseconds() -> None:
    """Times in another unit put the trace into another year; floats lose its milliseconds."""
    span = spans(row(start=1, end=1235))[ROOT]
    assert (span.start_ns, span.end_ns) == (1_795_000_000_001_000_000, 1_795_000_001_235_000_000)


def test_end_before_start() -> None:
    """Negative durations break charts; the span is mended, marked and counted."""
    result = converted([row(start=500, end=100)])
    span = result.spans[0][1]
    assert (span.start_ns, span.end_ns) == ((T0 + 500) * MS, (T0 + 500) * MS)
    assert span.attributes[BACKWARDS] is True
    assert result.notes == {"end before start": 1}


def test_event_ends_where_it_starts() -> None:
    """Events have no end in Langfuse: they are whole, and must not look unfinished."""
    result = converted([row(type="EVENT", end=None)])
    span = result.spans[0][1]
    assert span.start_ns == span.end_ns
    assert INCOMPLETE not in span.attributes
    assert not result.notes


def test_open_row_ends_with_its_last_child() -> None:
    """An unfinished parent that is shorter than its children makes an impossible tree."""
    rows = [row(end=None), row(CHILD, parent_id=ROOT, end=700), row(GRANDCHILD, parent_id=ROOT, start=200, end=900)]
    result = converted(rows)
    span = result.spans[0][1]
    assert span.end_ns == (T0 + 900) * MS
    assert span.attributes[INCOMPLETE] is True
    assert result.notes == {"incomplete": 1}


def test_open_row_above_an_open_row() -> None:
    """The end of a child that is open itself is made up from its own children, and counts for its parent."""
    found = spans(row(end=None), row(CHILD, parent_id=ROOT, end=None), row(GRANDCHILD, parent_id=CHILD, end=900))
    assert found[CHILD].end_ns == (T0 + 900) * MS
    assert found[ROOT].end_ns == (T0 + 900) * MS


def test_open_row_after_its_children() -> None:
    """Clocks of two machines: an unfinished row ends at its start at least, which is nothing to complain of."""
    result = converted([row(start=5000, end=None), row(CHILD, parent_id=ROOT, end=100)])
    span = result.spans[0][1]
    assert span.end_ns == (T0 + 5000) * MS
    assert BACKWARDS not in span.attributes
    assert result.notes == {"incomplete": 1}


def test_open_row_alone() -> None:
    """A row that never ended and has no children lasts no time, and says so."""
    span = spans(row(end=None))[ROOT]
    assert span.start_ns == span.end_ns
    assert span.attributes[INCOMPLETE] is True


def test_legacy_synthetic_root_is_the_root() -> None:
    """Old SDKs' traces hang on the root that Langfuse makes; without it their rows are orphans."""
    legacy = row("t-chat_42", trace_id="chat_42", end=None, name="chat", input="hello")
    rows = [legacy]
    rows += [row(f"obs-{i}", trace_id="chat_42", parent_id="t-chat_42", start=i, end=i * 100) for i in (1, 2)]
    result = converted(rows)
    root = result.spans[0][1]
    assert (root.span_id, root.parent_id, root.name) == ("74a88fbb2fb95f54", "", "chat")
    assert root.end_ns == (T0 + 200) * MS
    assert {span.parent_id for _, span in result.spans[1:]} == {"74a88fbb2fb95f54"}
    assert INCOMPLETE not in root.attributes
    assert not result.dropped
    assert not result.notes


def test_legacy_synthetic_root_ends_with_the_last_row_of_all() -> None:
    """It spans its whole trace, not only the rows right below it."""
    rows = [row("t-x", trace_id="x", end=None), row("a", trace_id="x", parent_id="t-x", end=100)]
    rows.append(row("b", trace_id="x", parent_id="a", start=50, end=4000))
    assert spans(*rows)["t-x"].end_ns == (T0 + 4000) * MS


def test_synthetic_root_of_an_otel_trace_is_dropped() -> None:
    """A direct export has no such span: the tree would have a root too many, and its spans another parent."""
    hidden = row(HIDDEN, end=None, input="asked", output="told")
    result = converted([hidden, row(ROOT, parent_id=HIDDEN, start=5), row(CHILD, parent_id=ROOT, start=6)])
    assert [r.id for r in result.dropped] == [HIDDEN]
    assert {r.id: span.parent_id for r, span in result.spans} == {ROOT: "", CHILD: ROOT}
    root, child = (span.attributes for _, span in result.spans)
    keys = ("langfuse.trace.input", "langfuse.trace.output")
    assert held(root, *keys) == {"langfuse.trace.input": "asked", "langfuse.trace.output": "told"}
    assert not held(child, *keys)


def test_trace_io_goes_to_the_first_root_only() -> None:
    """With several real roots, the trace's input and output would be told several times."""
    hidden = row(HIDDEN, end=None, input="asked")
    found = spans(hidden, row(CHILD, parent_id=HIDDEN, start=9), row(ROOT, parent_id=HIDDEN, start=5))
    assert found[ROOT].attributes["langfuse.trace.input"] == "asked"
    assert "langfuse.trace.input" not in found[CHILD].attributes


def test_rows_stay_as_they_were() -> None:
    """The conversion is pure: a row that it changes would be judged changed, and sent again."""
    hidden, root = row(HIDDEN, end=None, input="asked"), row(ROOT, parent_id=HIDDEN)
    converted([hidden, root])
    assert root == row(ROOT, parent_id=HIDDEN)


def test_mixed_trace_keeps_its_synthetic_root() -> None:
    """Rows of an old SDK in an OpenTelemetry trace hang on the synthetic root: dropping it would orphan them."""
    result = converted([row(HIDDEN, end=None), row(ROOT, parent_id=HIDDEN), row("obs-1", parent_id=HIDDEN)])
    assert not result.dropped
    assert len(result.spans) == 3


def test_several_roots() -> None:
    """A trace may have several roots: each stays one."""
    found = spans(row(ROOT, start=5), row(CHILD, start=3), row(GRANDCHILD, parent_id=ROOT))
    assert [found[name].parent_id for name in (ROOT, CHILD, GRANDCHILD)] == ["", "", ROOT]
    assert list(found) == [CHILD, ROOT, GRANDCHILD]


def test_root_first() -> None:
    """Kelet is helped by whole traces, root first, whatever the clocks say and however the rows arrived."""
    rows = [row(GRANDCHILD, parent_id=CHILD, start=-9), row(CHILD, parent_id=ROOT), row(ROOT)]
    assert list(spans(*rows)) == [ROOT, GRANDCHILD, CHILD]


def test_root_of_the_application_first() -> None:
    """A root below another service's span is still the root of what Langfuse has."""
    root = row(ROOT, parent_id="00000000000000ee", is_root=True, start=5)
    assert list(spans(row(CHILD, parent_id=ROOT, start=1), root)) == [ROOT, CHILD]


def test_ties_put_parents_first() -> None:
    """Rows that start in the same millisecond go from the root down."""
    chain = [row(f"{9 - i:016x}", parent_id=f"{10 - i:016x}" if i else None) for i in range(6)]
    assert list(spans(*reversed(chain))) == [row.id for row in chain]


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(-5, 5), st.none() | st.integers(-5, 5)), max_size=8))
def test_any_links_become_a_tree(links: list[tuple[int, int, int | None]]) -> None:
    """Whatever links and clocks a trace has, each row comes out once, acyclic, and none ends before it starts."""
    rows = [
        row(f"{number + 1:016x}", parent_id=f"{parent + 1:016x}", start=start, end=end)
        for number, (parent, start, end) in enumerate(links)
    ]
    found = convert(rows, TraceContext(TRACE), "p", Conversion()).spans
    assert sorted(r.id for r, _ in found) == [r.id for r in rows]
    parents = {span.span_id: span.parent_id for _, span in found}
    for start in parents:
        seen, here = set(), start
        while here in parents:
            assert here not in seen
            seen.add(here)
            here = parents[here]
    assert all(span.end_ns >= span.start_ns for _, span in found)


def test_long_chain() -> None:
    """A chain of thousands of rows must neither overflow the stack nor take minutes."""
    chain = [row(f"{i + 1:016x}", parent_id=f"{i:016x}" if i else None, end=None) for i in range(3000)]
    assert len(converted(chain).spans) == 3000


def _calls(work: Callable[[], Any]) -> int:
    """Return how many functions a piece of work calls, Python's own included."""
    count = 0

    def seen(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def _shaped(parent_of: Callable[[int], int | None], count: int) -> Sequence[Observation]:
    numbers = range(1, count + 1)
    parents = {number: parent_of(number) for number in numbers}
    return [
        row(f"{number:016x}", start=number, parent_id=None if parent is None else f"{parent:016x}")
        for number, parent in parents.items()
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "parent_of",
    [
        lambda number: number - 1 or None,
        lambda number: number + 1 if number < 3_000 else None,
        lambda number: number % 3_000 + 1,
        lambda number: number + 1 if number < 3_000 else 1_500,
        lambda number: 5_000 if number == 1 else number - 1,
    ],
    ids=["chain", "from its end", "cycle", "chain into a cycle", "below what is not at hand"],
)
def test_no_shape_costs_more_than_a_flat_one(parent_of: Callable[[int], int | None]) -> None:
    """A trace of many spans one below the other takes the square of their number."""
    deep = _shaped(parent_of, 3_000)
    assert _calls(lambda: converted(deep)) < 1.5 * _flat_calls()


@cache
def _flat_calls() -> int:
    flat = _shaped(lambda number: None if number == 1 else 1, 3_000)
    return _calls(lambda: converted(flat))
