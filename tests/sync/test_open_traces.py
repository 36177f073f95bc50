"""Traces that were sent although their root had not ended, and the root that comes days later."""

from __future__ import annotations

import pytest

from sync_worker.ledger import open_ledger
from sync_worker.runs import open_traces
from tests.support.langfuse_v1 import LangfuseV1, Mode
from tests.support.rows import Row, at, row, trace
from tests.support.v1_items import whole_trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
#: Horizons so short that an agent of hours outlasts them by far.
SHORT = {"SYNC_LATE_HORIZONS": "2m,10m", "SYNC_MAX_OPEN": "2m"}


def _agent(hours: float) -> tuple[Row, list[Row]]:
    """Return a root that ends, and so shows up, after so many hours, and children of its first seconds."""
    root, *children = trace(3, start=HOUR, seconds=30.0, session="s-long")
    root["endTime"], root["updatedAt"] = at(HOUR * (1 + hours)), at(HOUR * (1 + hours) + 1)
    return root, children


def _open(made: World) -> int:
    ledger = open_ledger(made.state, made.clock)
    ((count,),) = ledger.query("SELECT count(*) FROM traces WHERE open_ms IS NOT NULL")
    ledger.close()
    return int(count)


def _remembered(made: World) -> int:
    ledger = open_ledger(made.state, made.clock)
    ((count,),) = ledger.query("SELECT count(*) FROM sent")
    ledger.close()
    return int(count)


def test_agent_that_outlasts_all_horizons(make_world: MakeWorld) -> None:
    """The root of an agent that runs longer than the deepest horizon is lost, or its children go again with it."""
    root, children = _agent(5)
    made = make_world(children, after_noon=HOUR + 60, **SHORT)
    made.once()
    assert made.cycles(5 * HOUR, every=20 * MINUTE) == 3
    late = row(trace=root["traceId"], parent=root["id"], start=HOUR + 100, seconds=2 * HOUR, name="late")
    made.langfuse.rows.extend([root, late])
    assert made.cycles(2 * HOUR, every=30 * MINUTE) == 2
    assert made.arrived() == identities([root, *children, late])
    assert made.span("agent").attributes["session.id"] == "s-long"
    assert made.cycles(HOUR, every=20 * MINUTE) == 0
    assert (_open(made), _remembered(made)) == (0, 0)


def test_child_that_waits_moves_no_search(make_world: MakeWorld) -> None:
    """A child that is slow to end, much later, makes the root be looked for from then on only."""
    root, children = _agent(6)
    made = make_world(children, after_noon=HOUR + 60, **SHORT)
    made.once()
    made.cycles(4 * HOUR, every=HOUR)
    slow = row(trace=root["traceId"], parent=root["id"], start=HOUR * 5 + 60, seconds=None, name="slow")
    made.langfuse.rows.add(slow)
    assert made.cycles(600, every=60) == 1
    made.clock.advance(HOUR)
    made.langfuse.rows.add(root)
    assert made.cycles(2 * HOUR, every=HOUR) == 1
    assert made.arrived() == identities([root, slow, *children])


@pytest.mark.parametrize("mode", ["v3", "v2"])
def test_agent_that_outlasts_all_horizons_on_v1(make_world: MakeWorld, mode: Mode) -> None:
    """The same agent is lost where the server has only the v1 endpoints."""
    of_trace, (root, *children) = whole_trace(3, start=HOUR, seconds=30.0)
    server = LangfuseV1([of_trace], children, mode=mode)
    made = make_world(server, after_noon=HOUR + 60, **SHORT)
    made.once()
    assert made.cycles(3 * HOUR, every=30 * MINUTE) == len(children)
    server.observations.add(root | {"endTime": at(HOUR * 4)})
    assert made.cycles(2 * HOUR, every=30 * MINUTE) == 1
    assert set(made.arrived().values()) == {1}
    assert made.cycles(HOUR, every=30 * MINUTE) == 0


def test_open_trace_costs_a_request_an_hour(make_world: MakeWorld) -> None:
    """Each cycle asks for the roots of open traces, or asks for them one by one."""
    many = [one for number in range(20) for one in trace(2, start=number * 5.0, seconds=4.0)[1:]]
    made = make_world(many, after_noon=HOUR, **SHORT)
    made.once()
    made.cycles(HOUR, every=10 * MINUTE)
    assert _open(made) == 20
    before = len(made.langfuse.requests)
    made.cycles(2 * HOUR, every=6 * MINUTE)
    asked = [
        request for request in made.langfuse.requests[before:] if "isRootObservation" in request.query.get("filter", "")
    ]
    assert len(asked) == 2


def test_root_that_comes_in_time_ends_the_search(make_world: MakeWorld) -> None:
    """A root that a lookback scan brings leaves its trace open: it is asked for, and remembered, for two weeks."""
    root, children = _agent(0.4)
    made = make_world(children, after_noon=HOUR + 60, SYNC_MAX_OPEN="2m")
    made.once()
    made.cycles(1200, every=600)
    assert _open(made) == 1
    made.clock.advance(600)
    made.langfuse.rows.add(root)
    made.cycles(1200, every=600)
    assert (_open(made), made.arrived()) == (0, identities([root, *children]))


def test_root_that_never_comes_is_given_up(make_world: MakeWorld) -> None:
    """A trace whose root is lost at its source is remembered for ever, or dropped without being counted."""
    _, children = _agent(1)
    made = make_world(children, after_noon=HOUR + 60, **SHORT)
    made.once()
    made.clock.advance(600)
    made.once()
    made.clock.advance(13 * DAY)
    made.cycles(HOUR, every=20 * MINUTE)
    assert (_open(made), _remembered(made)) == (1, 3)
    made.clock.advance(2 * DAY)
    report, _ = made.once()
    assert report.traces_given_up == 1
    assert "1 open trace no longer looked up for a root" in report.line()
    made.cycles(HOUR, every=20 * MINUTE)
    assert (_open(made), _remembered(made)) == (0, 0)


def test_no_more_than_so_many_are_open(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that never writes roots fills the state file with traces to look for."""
    monkeypatch.setattr(open_traces, "MOST_OPEN", 5)
    many = [one for number in range(20) for one in trace(2, start=number * 5.0, seconds=4.0)[1:]]
    made = make_world(many, after_noon=2 * HOUR)
    report, _ = made.once()
    assert (report.traces_given_up, _open(made)) == (15, 5)
