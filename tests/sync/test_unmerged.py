"""Updated observations before Langfuse's store has merged their versions: what goes out is a state that there was."""

from __future__ import annotations

from typing import Literal

import pytest

from sync_worker.demo.receiver import ReceivedSpan
from sync_worker.demo.serving import Reply, Request
from sync_worker.ledger import open_ledger
from tests.support import faults
from tests.support.rows import Row, at, row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities

MINUTE, HOUR = 60.0, 3600.0
INPUT, OUTPUT = "langfuse.observation.input", "langfuse.observation.output"
Content = Literal["old", "new"]


def _versions(start: float, written: float, **changes: object) -> tuple[Row, Row]:
    """Return both versions of a root of one second; the second was written so many seconds after noon."""
    first = row(start=start, seconds=1.0, name="first", input="in 1", output="out 1")
    first |= {"createdAt": at(start + 2), "updatedAt": at(start + 2)}
    second = first | {"name": "second", "input": "in 2", "output": "out 2", "endTime": at(start + 2)}
    return first, second | {"createdAt": at(written), "updatedAt": at(written)} | changes


def _described(span: ReceivedSpan) -> tuple[str, object, object]:
    return span.name, span.attributes[INPUT], span.attributes[OUTPUT]


def _states(made: World, one: Row) -> list[tuple[str, object, object]]:
    return [_described(span) for span in made.kelet.spans if span.span_id == one["id"]]


@pytest.mark.parametrize("content", ["old", "new"])
def test_row_with_two_versions_waits_with_its_trace(make_world: MakeWorld, content: Content) -> None:
    """The new name goes out with the old input, or the old name with the new one, and the trace is cut in two."""
    first, second = _versions(HOUR, HOUR + 5)
    child = row(trace=first["traceId"], parent=first["id"], start=HOUR + 0.5, seconds=0.2, name="child")
    made = make_world([first, child], after_noon=HOUR + 60)
    made.langfuse.rows.update(second, content=content)
    assert made.once()[0].spans_sent == 0
    assert made.cycles(240) == 0
    made.langfuse.rows.merge()
    assert made.cycles(180) == 2
    assert _states(made, first) == [("second", "in 2", "out 2")]
    assert identities([second, child]) == made.arrived()
    assert made.cycles(20 * MINUTE, every=300) == 0


def test_row_that_never_comes_once_goes_after_max_open(make_world: MakeWorld) -> None:
    """A row that Langfuse never merges is never sent, or sent once more at each look."""
    first, second = _versions(HOUR, HOUR + 5)
    made = make_world([first], after_noon=HOUR + 60)
    made.langfuse.rows.update(second)
    made.once()
    assert made.cycles(25 * MINUTE, every=300) == 0
    assert made.cycles(10 * MINUTE, every=300) == 1
    assert _states(made, first) == [("second", "in 1", "out 1")]
    assert made.cycles(HOUR, every=300) == 0
    made.langfuse.rows.merge()
    assert made.cycles(3 * HOUR, every=300) == 1
    assert _states(made, first)[1:] == [("second", "in 2", "out 2")]
    assert made.cycles(3 * HOUR, every=300) == 0


@pytest.mark.parametrize("updates", ["resend", "ignore"])
def test_what_was_sent_half_old_is_corrected(make_world: MakeWorld, updates: str) -> None:
    """The rows have been merged, their content has not: the old input stands in Kelet for ever."""
    first, second = _versions(HOUR, HOUR + 5)
    made = make_world([first], after_noon=HOUR + 60, SYNC_UPDATES=updates)
    made.langfuse.rows.update(second)
    made.langfuse.rows.merge(content_too=False)
    assert made.once()[0].spans_sent == 1
    assert _states(made, first) == [("second", "in 1", "out 1")]
    made.cycles(5 * MINUTE)
    made.langfuse.rows.merge()
    made.cycles(10 * MINUTE)
    assert _states(made, first)[1:] == [("second", "in 2", "out 2")]
    assert made.cycles(HOUR, every=300) == 0


def test_short_horizons_leave_nothing_half_old(make_world: MakeWorld) -> None:
    """What was sent is forgotten before the ten minutes are over, and so is that it was to be read again."""
    first, second = _versions(HOUR, HOUR + 5)
    made = make_world([first], after_noon=HOUR + 60, SYNC_LATE_HORIZONS="1m,5m")
    made.langfuse.rows.update(second)
    made.langfuse.rows.merge(content_too=False)
    assert made.once()[0].spans_sent == 1
    made.langfuse.rows.merge()
    made.cycles(15 * MINUTE)
    assert _states(made, first) == [("second", "in 1", "out 1"), ("second", "in 2", "out 2")]
    assert made.cycles(HOUR, every=300) == 0
    assert _noted(made) == 0


def test_update_of_content_alone_that_is_listed_late(make_world: MakeWorld) -> None:
    """A new version with the old content looks unchanged, its update is noted, and the new output is never sent."""
    first, _ = _versions(HOUR, 0)
    second = first | {"output": "out 2", "createdAt": at(HOUR + 120), "updatedAt": at(HOUR + 120)}
    made = make_world([first], after_noon=HOUR + 60)
    assert made.once()[0].spans_sent == 1
    made.clock.advance(70)
    made.langfuse.rows.update(second)
    made.langfuse.rows.merge(content_too=False)
    assert made.cycles(5 * MINUTE) == 0
    made.langfuse.rows.merge()
    assert made.cycles(12 * MINUTE) == 1
    assert _states(made, first)[1:] == [("first", "in 1", "out 2")]


def test_update_of_a_sent_row_waits_alone(make_world: MakeWorld) -> None:
    """A lookback scan that finds both versions of a row that was sent sends a mix of them."""
    first, second = _versions(HOUR, HOUR + 120)
    made = make_world([first], after_noon=HOUR + 60)
    assert made.once()[0].spans_sent == 1
    made.clock.advance(70)
    made.langfuse.rows.update(second)
    assert made.cycles(5 * MINUTE) == 0
    made.langfuse.rows.merge()
    assert made.cycles(5 * MINUTE) == 1
    assert _states(made, first)[1:] == [("second", "in 2", "out 2")]
    assert made.cycles(HOUR, every=300) == 0


def test_other_start_is_two_for_ever(make_world: MakeWorld) -> None:
    """The same id with another start never comes once, and would wait for nothing."""
    first, second = _versions(HOUR, HOUR + 5, startTime=at(HOUR + 0.5))
    made = make_world([first, second], after_noon=HOUR + 60)
    assert made.once()[0].spans_sent == 1
    assert _states(made, first) == [("second", "in 2", "out 2")]


def test_second_version_behind_the_border_of_a_page(make_world: MakeWorld) -> None:
    """A cursor leaves out the second version of the last row of a page, which then seems to come once."""
    first, second = _versions(HOUR, HOUR + 5)
    newer = [one for number in range(999) for one in trace(0, start=HOUR + 5 + number / 100, seconds=0.5)]
    older = [one for number in range(1500) for one in trace(0, start=HOUR - 60 + number / 100, seconds=0.5)]
    made = make_world([first, *newer, *older], after_noon=HOUR + 60)
    made.langfuse.rows.update(second)
    report, _ = made.once()
    assert report.spans_sent == 2499
    assert report.langfuse_requests <= 8  # two of them to prove what was cut, one for both versions of the row
    assert made.cycles(120) == 0
    made.langfuse.rows.merge()
    assert made.cycles(180) == 1
    assert _states(made, first) == [("second", "in 2", "out 2")]


def test_the_borders_of_all_pages_are_proven_together(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second version at an earlier border is not seen, or the proof reads the content of each."""
    monkeypatch.setattr("sync_worker.langfuse.page_size.MAX_LIMIT", 10)
    first, second = _versions(HOUR, HOUR + 5)
    newer = [one for number in range(19) for one in trace(0, start=HOUR + 5 + number, seconds=0.5)]
    older = [one for number in range(5) for one in trace(0, start=HOUR - 60 + number, seconds=0.5)]
    made = make_world([first, *newer, *older], after_noon=HOUR + 60)
    made.langfuse.rows.update(second)
    assert made.once()[0].spans_sent == 24
    by_id = [request.query for request in made.langfuse.requests if '"column":"id"' in request.query.get("filter", "")]
    assert all(one["id"] in by_id[0]["filter"] for one in (first, newer[9]))
    assert "io" not in by_id[0]["fields"].split(",")
    made.langfuse.rows.merge()
    assert made.cycles(180) == 1
    assert _states(made, first) == [("second", "in 2", "out 2")]


@pytest.mark.parametrize("limit", [1, 2])
def test_borders_at_the_smallest_pages(make_world: MakeWorld, limit: int) -> None:
    """Where a server bears pages of a row or two, each row is a border, and so is each row of the proof."""

    def small(request: Request) -> Reply | None:
        return Reply(422, {}, b"{}") if int(request.query.get("limit", 1)) > limit else None

    first, second = _versions(HOUR, HOUR + 5)
    others = [one for number in range(6) for one in trace(1, start=HOUR - 30 + number, seconds=0.5)]
    made = make_world([first, *others], after_noon=HOUR + 60)
    made.langfuse.rows.update(second)
    made.langfuse.script = small
    assert made.once()[0].spans_sent == 12
    made.langfuse.rows.merge()
    assert made.cycles(180) == 1
    assert _states(made, first) == [("second", "in 2", "out 2")]


def test_ten_pages_of_rows_stay_cheap(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """To prove that the last rows of pages come once costs a request a page."""
    monkeypatch.setattr("sync_worker.langfuse.page_size.MAX_LIMIT", 100)
    rows = [one for number in range(500) for one in trace(1, start=number * 5.0, seconds=0.4)]
    made = make_world(rows, after_noon=2 * HOUR)
    report, _ = made.once()
    assert report.spans_sent == 1_000
    assert made.langfuse_requests() <= 14


def test_second_reads_are_few(make_world: MakeWorld) -> None:
    """To read rows once more costs a request a row, or goes on for ever."""
    rows = [one for number in range(600) for one in trace(1, start=HOUR + number * 0.05, seconds=0.04)]
    made = make_world(rows, after_noon=HOUR + 65)
    assert made.once()[0].spans_sent == 1200
    made.cycles(9 * MINUTE)
    before = made.langfuse_requests()
    made.cycles(6 * MINUTE)
    assert made.langfuse_requests() - before <= 6 * 4 + 3 * 4
    assert _noted(made) == 0


def _noted(made: World) -> int:
    ledger = open_ledger(made.state, made.clock)
    try:
        return ledger.count_second_reads(1)
    finally:
        ledger.close()


def test_second_read_survives_a_fault(make_world: MakeWorld) -> None:
    """A fault while rows are read once more leaves what was sent half old as it is."""
    first, second = _versions(HOUR, HOUR + 5)
    made = make_world([first], after_noon=HOUR + 60)
    made.langfuse.rows.update(second)
    made.langfuse.rows.merge(content_too=False)
    made.once()
    made.langfuse.rows.merge()
    made.clock.advance(601)
    made.langfuse.script = faults.when(
        lambda request: '"column":"id"' in request.query.get("filter", ""), faults.status(401)
    )
    assert made.once()[1] == 4
    made.langfuse.script = None
    made.cycles(15 * MINUTE)
    assert _states(made, first)[1:] == [("second", "in 2", "out 2")]


def test_backfill_reads_once_more(make_world: MakeWorld) -> None:
    """What a backfill sent half old is never looked at again where no live sync runs."""
    first, second = _versions(HOUR, HOUR + 5)
    made = make_world([first], after_noon=HOUR + 60)
    made.langfuse.rows.update(second)
    start, end = made.clock.now_ms() - 3_600_000, made.clock.now_ms()
    assert made.backfill(start, end)[0].spans_sent == 1
    made.langfuse.rows.merge()
    made.clock.advance(700)
    assert made.backfill(start, end)[0].spans_sent == 1
    assert _states(made, first)[1:] == [("second", "in 2", "out 2")]
    made.clock.advance(3600)
    assert made.backfill(start, end)[0].spans_sent == 0


def test_old_rows_cost_nothing_more(make_world: MakeWorld) -> None:
    """A backfill of history would read all of it twice."""
    made = make_world([one for number in range(10) for one in trace(1, start=number)], after_noon=HOUR)
    made.once()
    assert _noted(made) == 0
