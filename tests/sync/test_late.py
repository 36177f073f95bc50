"""Rows that turn up in time that was covered long ago."""

from __future__ import annotations

import json

import pytest

from sync_worker.demo.serving import Request
from sync_worker.ledger import open_ledger
from sync_worker.pipeline.limits import Limits
from tests.support import faults
from tests.support.rows import Row, at, row, trace
from tests.support.state import put
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities

MINUTE, HOUR = 60.0, 3600.0


def _base() -> list[Row]:
    return [made for number in range(5) for made in trace(2, start=float(number), seconds=5.0)]


def _visible(rows: list[Row], seconds: float) -> list[Row]:
    """Return rows as a server shows them that were written so many seconds after noon."""
    return [one | {"createdAt": at(seconds), "updatedAt": at(seconds)} for one in rows]


def test_row_a_quarter_of_an_hour_late(make_world: MakeWorld) -> None:
    """A trace that an old SDK's queue brings 15 minutes late is lost."""
    made = make_world(_base(), after_noon=2 * HOUR)
    made.once()
    late = _visible(trace(2, start=2 * HOUR - 60, seconds=5.0), 2 * HOUR + 900)
    made.cycles(900)
    made.langfuse.rows.extend(late)
    assert made.cycles(300) == 3
    assert identities([*_base_of(made)]) == made.arrived()


def _base_of(made: World) -> list[Row]:
    return list(made.langfuse.rows)


def test_root_of_a_long_agent_joins_its_children(make_world: MakeWorld) -> None:
    """An agent of three hours keeps its children back all that time, or its root is lost when it ends."""
    root, *children = trace(3, start=HOUR, seconds=30.0, session="s-long")
    root["endTime"], root["updatedAt"] = at(4 * HOUR), at(4 * HOUR + 1)
    made = make_world(children, after_noon=HOUR + 60)
    made.once()
    assert made.cycles(2400, every=300) == 3
    later = row(trace=root["traceId"], parent=root["id"], start=2 * HOUR, seconds=5.0, name="later", sessionId="s-long")
    made.langfuse.rows.add(later)
    assert made.cycles(2 * HOUR, every=300) == 1
    made.clock.advance(HOUR - 2400 + 60)
    made.langfuse.rows.add(root)
    assert made.cycles(600, every=300) == 1
    assert identities([root, *children, later]) == made.arrived()
    assert made.span("agent").attributes["session.id"] == "s-long"
    assert made.span("later").parent_id == root["id"]


def test_row_a_day_late(make_world: MakeWorld) -> None:
    """A row that turns up within the deepest horizon is never looked for."""
    made = make_world(_base(), after_noon=2 * HOUR)
    made.once()
    late = _visible(trace(1, start=2 * HOUR - 90, seconds=5.0), 26 * HOUR)
    made.cycles(24 * HOUR, every=HOUR)
    made.langfuse.rows.extend(late)
    assert made.cycles(5 * HOUR, every=HOUR) == 2


def test_outage_is_caught_up_with(make_world: MakeWorld) -> None:
    """Rows that were written late during an outage of three days are older than the horizons when it ends."""
    made = make_world(_base(), after_noon=2 * HOUR)
    made.once()
    made.langfuse.rows.extend(_visible(trace(1, start=2 * HOUR - 50, seconds=5.0), 3 * HOUR))
    made.clock.advance(72 * HOUR)
    report, _ = made.once()
    assert report.spans_sent == 2
    assert identities(_base_of(made)) == made.arrived()


def test_interrupted_scan_goes_on(make_world: MakeWorld) -> None:
    """A lookback scan that breaks off counts as done, and what it did not reach is lost."""
    made = make_world(_base(), after_noon=2 * HOUR)
    made.once()
    made.langfuse.rows.extend(_visible(trace(1, start=2 * HOUR - 50, seconds=5.0), 2 * HOUR + 60))
    made.clock.advance(600)
    light = {"fields": "core,basic,time"}
    made.langfuse.script = faults.when(faults.asks(**light), faults.status(401))
    report, code = made.once()
    assert code == 4
    made.langfuse.script = None
    report, code = made.once()
    assert (report.spans_sent, code) == (2, 0)


def test_changed_row_is_sent_again(make_world: MakeWorld) -> None:
    """A row that changed after it was sent stays as it was, or is sent again with each look."""
    root, child = trace(1, start=HOUR, seconds=5.0)
    made = make_world([root, child], after_noon=HOUR + 120)
    made.once()
    made.langfuse.rows.replace(child | {"output": "a better answer", "updatedAt": at(HOUR + 130)})
    assert made.cycles(600) == 1
    (first, second) = [span for span in made.kelet.spans if span.span_id == child["id"]]
    assert first.span_id == second.span_id
    assert second.attributes["langfuse.observation.output"] == "a better answer"


def test_changed_row_is_left_when_the_operator_wants_that(make_world: MakeWorld) -> None:
    """SYNC_UPDATES=ignore sends a changed row again, or reads it again for nothing."""
    root, child = trace(1, start=HOUR, seconds=5.0)
    made = make_world([root, child], after_noon=HOUR + 120, SYNC_UPDATES="ignore")
    made.once()
    made.langfuse.rows.replace(child | {"output": "a better answer", "updatedAt": at(HOUR + 130)})
    assert made.cycles(600) == 0


def test_touched_row_is_fetched_once(make_world: MakeWorld) -> None:
    """A row that was written again with nothing new in it is fetched again at every look, or sent."""
    root, child = trace(1, start=HOUR, seconds=5.0)
    made = make_world([root, child], after_noon=HOUR + 120)
    made.once()
    made.langfuse.rows.replace(child | {"bookmarked": True, "updatedAt": at(HOUR + 130)})
    assert made.cycles(600) == 0
    fetched = [request for request in made.langfuse.requests if '"column":"id"' in request.query.get("filter", "")]
    assert len(fetched) <= 1


def test_idle_cycle_stays_cheap(make_world: MakeWorld) -> None:
    """Looking again for late rows makes an idle cycle cost more than four requests."""
    made = make_world(_base(), after_noon=2 * HOUR)
    made.once()
    for _ in range(130):
        made.clock.advance(300)
        before = made.langfuse_requests()
        made.once()
        assert made.langfuse_requests() - before <= 4


def test_arrival_delay_is_measured(make_world: MakeWorld) -> None:
    """What lookback scans find is not counted, so that nobody knows how deep they have to look."""
    made = make_world(_base(), after_noon=2 * HOUR)
    made.once()
    made.langfuse.rows.extend(_visible(trace(1, start=2 * HOUR - 60, seconds=5.0), 2 * HOUR + 500))
    made.cycles(600)
    ledger = open_ledger(made.state, made.clock)
    stored = ledger.stored_key("source 1", "arrival_delay")
    ledger.close()
    assert sum(json.loads(stored or "[]")) == 2


def test_scan_takes_a_bounded_part_of_the_budget(make_world: MakeWorld) -> None:
    """A long look back takes all requests, and fresh rows wait behind it."""
    rows = [made for number in range(700) for made in trace(2, start=number * 20.0, seconds=5.0)]
    made = make_world(rows, after_noon=4 * HOUR, SYNC_REQUESTS_PER_MINUTE="40")
    made.langfuse.script = faults.when(_over_100, faults.status(422))
    made.once()
    late = _visible(trace(1, start=100.0, seconds=5.0), 4 * HOUR + 10)
    made.langfuse.rows.extend(late)
    made.clock.advance(5 * HOUR)
    report, _ = made.once()
    first = report.lookback_requests
    assert first <= 40
    assert made.cycles(20 * MINUTE) + report.spans_sent == 2


def test_scans_take_a_quarter_of_the_requests(make_world: MakeWorld) -> None:
    """After an outage lookback scans take as much as the new observations may, or wait longer than they have to."""
    rows = [made for number in range(350) for made in trace(2, start=number * 20.0, seconds=5.0)]
    made = make_world(rows, after_noon=2 * HOUR, SYNC_REQUESTS_PER_MINUTE="40")
    made.limits = Limits(lookback_requests=2)
    made.langfuse.script = faults.when(_over_10, faults.status(422))
    made.once()
    made.clock.advance(5 * HOUR)
    before = len(made.langfuse.requests)
    made.once()
    scans = [one for one in made.langfuse.requests[before:] if _is_listing(one) and "filter" not in one.query]
    scans = [one for one in scans if one.status == 200]
    assert len(scans) == 40 * 5 // 4  # of the requests of five minutes, which is what a cycle counts at most


def _is_listing(request: Request) -> bool:
    return request.query.get("fields") == "core,basic,time"


def _over_10(request: Request) -> bool:
    return _is_listing(request) and int(request.query["limit"]) > 10


def _over_100(request: Request) -> bool:
    return _is_listing(request) and int(request.query["limit"]) > 100


def test_clock_that_runs_ahead_covers_nothing_to_come(make_world: MakeWorld) -> None:
    """A machine whose clock is an hour fast counts an hour as covered whose rows are yet to come."""
    made = make_world(_base(), after_noon=HOUR)
    present = made.clock.now_ms() / 1000
    made.langfuse.now = lambda: present
    made.clock.jump(HOUR)
    made.once()
    fresh = trace(1, start=HOUR + 20, seconds=5.0)
    made.langfuse.rows.extend(fresh)
    made.clock.jump(-HOUR)
    made.clock.advance(120)
    present += 120
    report, _ = made.once()
    assert report.spans_sent == 2


def test_coverage_of_a_clock_that_was_set_back_is_taken_back(make_world: MakeWorld) -> None:
    """What was covered by a clock that was fast, unseen, stays covered once it is set right."""
    made = make_world(_base(), after_noon=HOUR)
    made.clock.jump(HOUR)
    made.once()
    fresh = trace(1, start=HOUR + 20, seconds=5.0)
    made.langfuse.rows.extend(fresh)
    made.clock.jump(-HOUR)
    made.clock.advance(120)
    report, _ = made.once()
    assert report.spans_sent == 2


def test_deeper_horizon_sends_nothing_again(make_world: MakeWorld) -> None:
    """A horizon that is set deeper later lists rows that were forgotten meanwhile, and sends them again."""
    made = make_world(_base(), after_noon=2 * HOUR, SYNC_LATE_HORIZONS="10m,1h")
    made.once()
    made.cycles(6 * HOUR, every=HOUR)
    made.environ["SYNC_LATE_HORIZONS"] = "10m,7d"
    assert made.cycles(48 * HOUR, every=4 * HOUR) == 0


def test_long_outage_sends_nothing_again(make_world: MakeWorld) -> None:
    """What an outage made wait is looked for with what was sent before it forgotten."""
    rows = [made for number in range(60) for made in trace(2, start=number * 600.0, seconds=5.0)]
    made = make_world(rows, after_noon=11 * HOUR, SYNC_START="2026-11-20T11:00:00Z", SYNC_LATE_HORIZONS="10m,4h")
    made.once()
    made.clock.advance(9 * 24 * HOUR)
    assert made.cycles(6 * HOUR, every=HOUR) == 0
    assert max(made.arrived().values()) == 1


@pytest.mark.parametrize("stored", ['{"start": 1, "end": 2, "began_ms": 3}', '{"start": 1, "hours": 2}', "[1]", "7"])
def test_scan_of_another_version_is_begun_again(make_world: MakeWorld, stored: str) -> None:
    """After an upgrade of the worker, or back, each cycle fails on what the version before had under way."""
    made = make_world(_base(), after_noon=2 * HOUR)
    made.once()
    ledger = open_ledger(made.state, made.clock)
    for minutes in (20, 120, 2880):
        put(ledger, "source 1", f"lookback scan {minutes * 60_000}", stored)
    ledger.close()
    late = _visible(trace(2, start=2 * HOUR - 60, seconds=5.0), 2 * HOUR + 30)
    made.langfuse.rows.extend(late)
    assert made.cycles(300) == 3
