"""Coverage in the file equals the union of what was committed, in whatever order it came."""

from __future__ import annotations

import sqlite3
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_worker.errors import StateError
from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger
from tests.ledger.made import letter, note

_MANY = settings(max_examples=60, deadline=None, suppress_health_check=[*HealthCheck])
_INTERVALS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 8)).map(lambda pair: Interval(pair[0], sum(pair))), max_size=15
)


def _moments(intervals: list[Interval]) -> set[int]:
    return {moment for interval in intervals for moment in range(interval.start, interval.end)}


@pytest.mark.slow
@_MANY
@given(intervals=_INTERVALS, taken=_INTERVALS)
def test_coverage_is_the_union(ledger: Ledger, intervals: list[Interval], taken: list[Interval]) -> None:
    """Time would count as done that is not, or be read again and again."""
    ledger.connection.execute("PRAGMA synchronous = OFF")
    ledger.connection.execute("DELETE FROM coverage")
    for interval in intervals:
        ledger.commit_interval(1, "live", interval, [], [])
    completed = ledger.completed_intervals(1, "live")
    assert _moments(completed) == _moments(intervals)
    assert all(left.end < right.start for left, right in pairwise(completed))
    stored = ledger.query("SELECT from_ms, to_ms FROM coverage ORDER BY from_ms")
    assert stored == [tuple(interval) for interval in completed]

    for interval in taken:
        ledger.reopen(1, "live", interval)
    assert _moments(ledger.completed_intervals(1, "live")) == _moments(intervals) - _moments(taken)


def test_coverage_is_kept_by_source_and_role(ledger: Ledger) -> None:
    """A backfill would move the live edge, or one project another's."""
    ledger.commit_interval(1, "live", Interval(0, 10), [], [])
    ledger.commit_interval(1, "backfill", Interval(10, 20), [], [])
    ledger.commit_interval(2, "live", Interval(20, 30), [], [])
    assert ledger.completed_intervals(1, "live") == [Interval(0, 10)]
    assert ledger.completed_intervals(1, "backfill") == [Interval(10, 20)]
    assert ledger.completed_intervals(2, "live") == [Interval(20, 30)]
    assert ledger.completed_intervals(3, "live") == []


def test_intervals_that_touch_become_one_row(ledger: Ledger) -> None:
    """A year of one-minute intervals would be half a million rows, read in each cycle."""
    for minute in range(200):
        ledger.commit_interval(1, "live", Interval(minute, minute + 1), [], [])
    ledger.commit_interval(1, "live", Interval(300, 310), [], [])
    ledger.commit_interval(1, "live", Interval(200, 300), [], [])
    assert ledger.query("SELECT from_ms, to_ms FROM coverage") == [(0, 310)]


@pytest.mark.parametrize("broken", ["traces", "dead_letters", "coverage"])
def test_interval_is_committed_whole_or_not_at_all(ledger: Ledger, broken: str) -> None:
    """Coverage without its pending traces or dead letters is a loss; they without coverage are made again."""
    ledger.commit_interval(1, "live", Interval(0, 10), [note("known", 5, pending=True)], [])
    ledger.connection.execute(
        f"CREATE TEMP TRIGGER fail BEFORE INSERT ON {broken} BEGIN SELECT RAISE(ABORT, 'no more'); END"
    )
    with pytest.raises(StateError, match="no more"):
        ledger.commit_interval(1, "live", Interval(10, 20), [note("new", 15, pending=True)], [letter()])
    ledger.connection.execute("DROP TRIGGER fail")
    assert ledger.completed_intervals(1, "live") == [Interval(0, 10)]
    assert set(ledger.traces(1, ["known", "new"])) == {"known"}
    assert ledger.dead_letters() == []
    ledger.commit_interval(1, "live", Interval(10, 20), [note("new", 15, pending=True)], [letter()])
    assert ledger.completed_intervals(1, "live") == [Interval(0, 20)]


def test_error_of_the_caller_rolls_back(ledger: Ledger) -> None:
    """A notes generator that raises in the middle would leave its interval covered."""

    def notes() -> list[object]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ledger.commit_interval(1, "live", Interval(0, 10), (note("t") for _ in notes()), [])
    assert not ledger.connection.in_transaction
    assert ledger.completed_intervals(1, "live") == []


def test_failing_commit_rolls_back(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A COMMIT that fails leaves its transaction open, and the next one would carry it to the disk."""

    class Failing(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            if sql == "COMMIT":
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *values)  # type: ignore[arg-type]

    failing = sqlite3.connect(ledger.path, isolation_level=None, factory=Failing)
    real = ledger.connection
    monkeypatch.setattr(ledger, "connection", failing)
    with pytest.raises(StateError, match="disk I/O error"):
        ledger.commit_interval(1, "live", Interval(0, 10), [], [])
    assert not failing.in_transaction
    failing.close()
    monkeypatch.setattr(ledger, "connection", real)
    assert ledger.completed_intervals(1, "live") == []


def _both(before: str, now: str) -> str:
    """Return the name of the rules of two readings; what was read under none is sent whatever another one says."""
    return "+".join(sorted({*before.split("+"), now})) if before and now else ""


@_MANY
@given(steps=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 8), st.sampled_from(["", "a", "b"])), max_size=15))
def test_each_moment_is_under_the_rules_of_all_its_readings(ledger: Ledger, steps: list[tuple[int, int, str]]) -> None:
    """A backfill would pass over what other rules left out, or send again what one of several has sent."""
    ledger.connection.execute("PRAGMA synchronous = OFF")
    ledger.connection.execute("DELETE FROM coverage")
    known: dict[int, str] = {}
    for start, length, rules in steps:
        ledger.commit_interval(1, "live", Interval(start, start + length), [], [], rules)
        known |= {at: _both(known.get(at, rules), rules) for at in range(start, start + length)}
    stored = ledger.completed_with_rules(1)
    assert {moment: rules for part, _, rules, _ in stored for moment in range(part.start, part.end)} == known
    assert sum(part.length for part, *_ in stored) == len(known)
    assert _moments(ledger.completed_intervals(1, "live")) == known.keys()
    ledger.reopen(1, "live", Interval(10, 20))
    left = {moment: rules for moment, rules in known.items() if not 10 <= moment < 20}
    stored = ledger.completed_with_rules(1)
    assert {moment: rules for part, _, rules, _ in stored for moment in range(part.start, part.end)} == left
