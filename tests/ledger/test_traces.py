"""What is remembered of traces, and who may say that one waits no longer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger, TraceNote, open_ledger
from sync_worker.ledger.lease import BACKFILL, LIVE, RETRY, release, take
from sync_worker.ledger.stored_records import Pending, Waiting
from tests.ledger.made import note

_MOMENTS = st.integers(-(2**40), 2**44)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[*HealthCheck])
@given(
    st.builds(
        TraceNote,
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        st.booleans(), _MOMENTS, _MOMENTS, _MOMENTS, st.none() | _MOMENTS, st.none() | st.just("project"),
        st.dictionaries(st.text(), _JSON, max_size=4),
    )
)  # fmt: skip
def test_note_comes_back_as_it_went_in(ledger: Ledger, stored: TraceNote) -> None:
    """Spans of one trace would differ in what they say of it, by the run that sent them."""
    ledger.connection.execute("PRAGMA synchronous = OFF")
    ledger.connection.execute("DELETE FROM traces")
    ledger.store_traces(1, [stored])
    assert ledger.traces(1, [stored.trace_id, "other"]) == {stored.trace_id: stored}
    assert ledger.traces(2, [stored.trace_id]) == {}
    json.loads(ledger.query("SELECT context FROM traces")[0][0])


def test_pending_traces_are_due_in_turn(ledger: Ledger) -> None:
    """Some would never be looked at, or each in every cycle."""
    ledger.store_traces(
        1,
        [
            note("later", pending=True, check_ms=30, pending_ms=3),
            note("first", pending=True, check_ms=10, pending_ms=2),
            note("second", pending=True, check_ms=20, pending_ms=1),
            note("gone", pending=False, check_ms=0),
        ],
    )
    assert [due.trace_id for due in ledger.pending_due(1, 20, 1_000, 10)] == ["first", "second"]
    assert [due.trace_id for due in ledger.pending_due(1, 30, 1_000, 1)] == ["first"]
    assert (ledger.pending(1), ledger.pending(2)) == (Pending(3, 1), Pending(0, None))
    ledger.store_traces(1, [note("first", pending=False)])
    assert ledger.pending(1) == Pending(2, 1)


def test_pending_traces_of_a_lane(ledger: Ledger) -> None:
    """A closed lane would be looked at in each cycle, or that of another project be sent when one opens."""
    lanes = {"a": "one", "b": "two", "c": None}
    ledger.store_traces(1, [note(name, pending=True, project=lane) for name, lane in lanes.items()])

    def due(**chosen: Any) -> list[str]:
        return [one.trace_id for one in ledger.pending_due(1, 20, 1_000, 10, **chosen)]

    assert due() == ["a", "b", "c"]
    assert due(without=["one"]) == ["b", "c"]
    assert due(project="two") == ["b"]
    assert due(without=["one"], project="two") == ["b"]
    assert due(without=["two"], project="two") == []


def test_whether_anything_is_due() -> None:
    """A cycle would look for nothing although a second read, a retry or a pending trace is due."""
    nothing = Waiting(None, None, 3, 1, 1, None)
    assert not nothing.has_due(10)
    for name in ("second_read_ms", "retry_ms", "pending_check_ms"):
        assert replace(nothing, **{name: 10}).has_due(10)
        assert not replace(nothing, **{name: 11}).has_due(10)


def test_newest_trace_that_may_be_forgotten(ledger: Ledger) -> None:
    """The worker would forget nothing, or a pending trace, or what is later."""
    assert ledger.newest_flushed(1, 100) is None
    ledger.store_traces(1, [note("old", 5), note("pending", 50, pending=True), note("new", 100), note("older", 3)])
    assert ledger.newest_flushed(1, 100) == 5
    assert ledger.newest_flushed(1, 101) == 100
    assert ledger.newest_flushed(2, 101) is None


def test_project_is_decided_once(ledger: Ledger) -> None:
    """Spans of one trace would go to two projects, when two runs meet it or a rule changes."""
    ledger.store_traces(1, [note("t")])
    ledger.store_traces(1, [note("t", project="first")])
    ledger.store_traces(1, [note("t", project="second")])
    assert ledger.traces(1, ["t"])["t"].project == "first"
    ledger.store_traces(1, [note("t", newest_ms=9)])
    assert (ledger.traces(1, ["t"])["t"].project, ledger.traces(1, ["t"])["t"].newest_ms) == ("first", 9)


@pytest.fixture
def beside(ledger: Ledger) -> Iterator[Callable[[str], Ledger]]:
    """Open the same file again under the lease of a role."""
    opened: list[Ledger] = []

    def under(role: str) -> Ledger:
        other = open_ledger(ledger.path, ledger.clock)
        take(other, role)
        opened.append(other)
        return other

    yield under
    for other in opened:
        assert other.lease is not None
        release(other, other.lease)
        other.close()


@pytest.mark.parametrize("role", [BACKFILL, RETRY])
def test_only_the_live_sync_releases(ledger: Ledger, beside: Callable[[str], Ledger], role: str) -> None:
    """A backfill or a retry that sends one row of a pending trace would lose all its rows that wait."""
    pending = note("t", 100, 200, pending=True, check_ms=300, pending_ms=150, context={"root_seen": False})
    ledger.commit_interval(1, LIVE, Interval(0, 1000), [pending], [])
    other = beside(role)
    sent = note("t", 50, 180, project="p", context={"session_id": "s"})
    other.store_traces(1, [sent])
    other.commit_interval(1, BACKFILL, Interval(1000, 2000), [sent], [])
    assert ledger.traces(1, ["t"])["t"] == note(
        "t", 50, 200, pending=True, check_ms=300, pending_ms=150, project="p", context={"session_id": "s"}
    )
    live = beside(LIVE)
    live.store_traces(1, [note("t", 50, 200)])
    assert ledger.pending(1).count == 0


def test_backfill_notes_traces_of_its_own(beside: Callable[[str], Ledger]) -> None:
    """What a backfill learns of traces that nobody waits for would not be remembered."""
    other = beside(BACKFILL)
    other.store_traces(1, [note("t", 50, 180, project="p")])
    other.store_traces(1, [note("t", 40, 170, check_ms=5, context={"session_id": "s"})])
    assert other.traces(1, ["t"])["t"] == note("t", 40, 180, check_ms=5, project="p", context={"session_id": "s"})
