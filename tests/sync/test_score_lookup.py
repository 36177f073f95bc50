"""Scores on traces that the state file does not know enough of: they are looked up at Langfuse."""

from __future__ import annotations

from pathlib import Path

from sync_worker.intervals import Interval
from sync_worker.ledger import open_ledger
from sync_worker.times import moment_ms, unix_ms
from tests.support.rows import NOON, Row
from tests.sync.conftest import MakeWorld
from tests.sync.scored import once, score_on, scored_world, signals_of, trace_with_session
from tests.sync.world import World

DAY = 86_400_000
HORIZONS = {"SYNC_LATE_HORIZONS": "20m,1h"}


def forget(world: World, *rows: Row) -> float:
    """Do cycles until the traces of these rows are sent and forgotten; return the time in seconds after noon."""
    for _ in range(6):
        once(world)
        world.clock.advance(1800)
    ledger = open_ledger(world.state, world.clock)
    assert ledger.traces(1, [row["traceId"] for row in rows]) == {}
    ledger.close()
    return (world.clock.now_ms() - moment_ms(NOON)) / 1000


def sessions(world: World) -> set[object]:
    """Return the sessions of the spans that arrived."""
    return {span.attributes["session.id"] for span in world.kelet.spans}


def test_forgotten_traces_are_looked_up_together_around_their_scores(make_world: MakeWorld) -> None:
    """Each score costs a request of its own, or one over all time and with all content, of a shared limit."""
    one, other = trace_with_session(), trace_with_session(3 * 86_400.0, session="session-2")
    world = scored_world(make_world, [*one, *other], **HORIZONS)
    forget(world, *one)
    world.clock.advance(3 * 86_400)
    forget(world, *other)
    world.langfuse.scores.put(score_on(one[0], 1, 60.0), score_on(other[0], 2, 3 * 86_400.0 + 60))
    before = len(world.langfuse.requests)
    report, _ = world.backfill_scores(Interval(moment_ms(NOON) - DAY, world.clock.now_ms()))
    assert [signal.content["session_id"] for signal in world.kelet.signals] == ["session-1", "session-2"]
    asked = [dict(request.params) for request in world.langfuse.requests[before:] if "observations" in request.path]
    listing, roots = asked
    assert report.lookback_requests == 2
    assert "io" not in listing["fields"].split(",")
    assert one[0]["traceId"] in listing["filter"]
    assert other[0]["traceId"] in listing["filter"]
    around = Interval(unix_ms(listing["fromStartTime"]) or 0, unix_ms(listing["toStartTime"]) or 0)
    assert around.length < 40 * DAY
    assert "isRootObservation" in roots["filter"]


def test_a_forgotten_trace_is_routed_as_its_spans_were(make_world: MakeWorld, tmp_path: Path) -> None:
    """Its root alone says by what it was routed: the signal would be in another project than the spans, unseen."""
    old, one = trace_with_session(-40 * 86_400.0, session="session-0"), trace_with_session()[:1]
    one[0]["tags"] = ["vip"]
    world = scored_world(make_world, [*old, *one], **HORIZONS)
    (tmp_path / "sync.toml").write_text(
        '[[sources]]\nname = "one"\n[[sources.routes]]\nproject = "elsewhere"\ntags = ["vip"]\n'
    )
    start = moment_ms(NOON) - 41 * DAY
    world.backfill(start, start + 2 * DAY)  # completed apart from what the live sync completes
    now = forget(world, *one)
    world.langfuse.scores.put(score_on(one[0], 1, now))
    world.clock.advance(60)
    once(world)
    assert [signal.project for signal in signals_of(world, 1)] == ["elsewhere"]
    assert {span.project for span in world.kelet.spans if span.attributes["session.id"] == "session-1"} == {"elsewhere"}


def _without_root(world: World, child: Row) -> None:
    """Have the trace of an observation sent, though its root is not there."""
    once(world)
    assert [span.name for span in world.kelet.spans] == [child["name"]]


def test_a_session_that_no_sent_span_has_is_on_no_signal(make_world: MakeWorld) -> None:
    """Langfuse shows it on what was sent without: a signal of that session would be linked to no span."""
    _, child, _ = trace_with_session(session="")
    world = scored_world(make_world, [child], SYNC_UPDATES="ignore")
    _without_root(world, child)
    world.langfuse.rows.add(child | {"sessionId": "session-late"})
    world.langfuse.scores.put(score_on(child, 1, 3600.0))
    world.clock.advance(30)
    once(world)
    assert [signal.content["session_id"] for signal in signals_of(world, 1)] == [child["traceId"]]


def test_a_session_that_a_span_to_come_has_is_on_the_signal(make_world: MakeWorld) -> None:
    """The root with the session is in Langfuse and will be sent: the signal would be apart from its trace."""
    root, child, _ = trace_with_session()
    world = scored_world(make_world, [child | {"sessionId": ""}], **HORIZONS)
    _without_root(world, child)
    world.langfuse.rows.add(root)
    world.langfuse.scores.put(score_on(root, 1, 3600.0))
    world.clock.advance(30)
    once(world)
    assert len(world.kelet.spans) == 1
    assert [signal.content["session_id"] for signal in signals_of(world, 1)] == [root["sessionId"]]
    world.clock.advance(600)
    once(world)
    assert world.span(root["name"]).attributes["session.id"] == root["sessionId"]
