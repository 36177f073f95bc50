"""Whole traces: what waits, for how long, and how it goes."""

from __future__ import annotations

from sync_worker.langfuse.v2 import METADATA_ONLY
from tests.support import faults
from tests.support.rows import Row, at, row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities


def _long_agent() -> tuple[Row, list[Row]]:
    """Return a root that ends, and so shows up, 10 minutes after its children, and the children."""
    root, *children = trace(3, start=0.0, seconds=6.0, session="s-1", user="u-1")
    root["endTime"], root["updatedAt"] = at(600), at(601)
    return root, children


def _names(made: World) -> list[str]:
    return [span.name for span in made.kelet.spans]


def test_trace_waits_for_its_root_and_goes_whole(make_world: MakeWorld) -> None:
    """Children go before the root of their trace has ended, or not in one request with it, root first."""
    root, children = _long_agent()
    made = make_world(children, after_noon=120)
    report, code = made.once()
    assert (report.spans_sent, report.traces_pending, code) == (0, 1, 0)

    made.clock.advance(520)
    made.langfuse.rows.add(root)
    report, _ = made.once()
    assert (report.spans_sent, report.traces_pending) == (4, 0)
    (request,) = made.kelet.trace_requests
    assert request.spans[0].span_id == root["id"]
    assert all(span.attributes["session.id"] == "s-1" for span in request.spans)
    assert all(span.attributes["user.id"] == "u-1" for span in request.spans)


def test_trace_must_be_quiet(make_world: MakeWorld) -> None:
    """A trace goes while its rows were still being written less than SYNC_SETTLE ago."""
    root, *children = trace(2, start=0.0, seconds=50.0)
    made = make_world([root, *children], after_noon=70)
    report, _ = made.once()
    assert (report.spans_sent, report.traces_pending) == (0, 1)
    made.clock.advance(60)
    report, _ = made.once()
    assert (report.spans_sent, report.traces_pending) == (3, 0)


def test_orphans_go_after_max_open(make_world: MakeWorld) -> None:
    """Rows whose root never comes wait for ever, or go before SYNC_MAX_OPEN."""
    _, children = _long_agent()
    made = make_world(children, after_noon=120)
    made.once()
    made.clock.advance(1500)
    report, _ = made.once()
    assert report.spans_sent == 0
    made.clock.advance(300)
    report, _ = made.once()
    assert (report.spans_sent, report.traces_pending) == (3, 0)
    assert identities(children) == made.arrived()


def test_rows_of_a_released_trace_go_as_they_come(make_world: MakeWorld) -> None:
    """A row that starts after its trace went is pending, or loses the session that only the root carries."""
    root, *children = trace(1, start=0.0, seconds=5.0, session="s-9")
    made = make_world([root, *children], after_noon=60)
    made.once()
    made.clock.advance(120)
    late = row(trace=root["traceId"], parent=root["id"], start=90.0, seconds=1.0, name="after")
    made.langfuse.rows.add(late)
    report, _ = made.once()
    assert (report.spans_sent, report.traces_pending) == (1, 0)
    assert made.span("after").attributes["session.id"] == "s-9"
    assert made.span("after").attributes["gen_ai.agent.name"] == "agent"


def test_open_row_is_held_alone(make_world: MakeWorld) -> None:
    """A row without an end keeps its whole trace back, or goes before SYNC_MAX_OPEN, or without a mark."""
    root, *children = trace(1, start=0.0, seconds=5.0)
    pending = row(trace=root["traceId"], parent=root["id"], start=1.0, seconds=None, name="pending", type="GENERATION")
    made = make_world([root, *children, pending], after_noon=120)
    report, _ = made.once()
    assert (report.spans_sent, report.traces_pending) == (2, 1)
    made.clock.advance(1800)
    report, _ = made.once()
    assert (report.spans_sent, report.traces_pending) == (1, 0)
    assert made.span("pending").attributes["kelet.source.langfuse.incomplete"] is True
    assert made.span("pending").end_ns == made.span("pending").start_ns


def test_open_row_that_ends_goes_complete(make_world: MakeWorld) -> None:
    """A row that ended while it was held goes out as if it had not."""
    root, *children = trace(1, start=0.0, seconds=5.0)
    pending = row(trace=root["traceId"], parent=root["id"], start=1.0, seconds=None, name="pending", type="SPAN")
    made = make_world([root, *children, pending], after_noon=120)
    made.once()
    made.langfuse.rows.replace(pending | {"endTime": at(130), "updatedAt": at(131)})
    made.clock.advance(400)
    made.once()
    assert "kelet.source.langfuse.incomplete" not in made.span("pending").attributes
    assert made.span("pending").end_ns - made.span("pending").start_ns == 129 * 10**9
    assert identities([root, *children, pending]) == made.arrived()


def test_event_and_trace_without_id_do_not_wait(make_world: MakeWorld) -> None:
    """An event, which never ends, or a row without a trace is pending."""
    root, *_ = trace(0, start=0.0, seconds=5.0)
    event = row(trace=root["traceId"], parent=root["id"], start=2.0, seconds=None, type="EVENT", name="event")
    alone = row(trace=None, start=3.0, seconds=None, name="alone", type="SPAN", parent="0123456789abcdef")
    made = make_world([root, event], after_noon=120)
    made.langfuse.rows.add(alone)
    report, _ = made.once()
    assert report.traces_pending == 0
    assert {"agent", "event"} <= set(_names(made))


def test_vanished_trace_is_closed_and_counted(make_world: MakeWorld) -> None:
    """A pending trace that was deleted in Langfuse is looked for until the end of time."""
    _, children = _long_agent()
    made = make_world(children, after_noon=120)
    made.once()
    made.langfuse.rows.clear()
    made.clock.advance(1800)
    report, code = made.once()
    assert (report.traces_vanished, report.traces_pending, report.spans_sent, code) == (1, 0, 0, 0)


def test_pending_trace_costs_one_light_request_a_cycle(make_world: MakeWorld) -> None:
    """Traces that wait are looked up one by one, or with their content."""
    rows = [child for _ in range(40) for child in _long_agent()[1]]
    made = make_world(rows, after_noon=120)
    made.once()
    before = made.langfuse_requests()
    made.clock.advance(60)
    report, _ = made.once()
    assert report.traces_pending == 40
    assert made.langfuse_requests() - before <= 3
    assert "io" not in made.langfuse.requests[-1].query["fields"]


def test_root_before_the_sync_start_only_gives_context(make_world: MakeWorld) -> None:
    """What started before the first run's start is sent, or its trace's session does not reach what is sent."""
    root, *_ = trace(0, start=-100.0, seconds=150.0, session="s-old")
    child = row(trace=root["traceId"], parent=root["id"], start=10.0, seconds=1.0, name="child")
    made = make_world([root, child], after_noon=120, SYNC_START="120s")
    report, _ = made.once()
    assert report.spans_sent == 1
    assert made.span("child").attributes["session.id"] == "s-old"
    assert made.span("child").parent_id == root["id"]


def test_synthetic_root_is_not_sent_beside_otel_rows(make_world: MakeWorld) -> None:
    """The root that Langfuse makes up stands in the tree, or its input and output are lost."""
    root, *children = trace(1, start=0.0, seconds=5.0)
    made_up = row(
        trace=root["traceId"], id="t-" + root["traceId"], start=0.0, seconds=None, name="whole",
        input="asked", output="answered", sessionId="s-t",
    )  # fmt: skip
    root["parentObservationId"], root["isRootObservation"] = made_up["id"], False
    made = make_world([root, *children, made_up], after_noon=120)
    made.once()
    assert identities([root, *children]) == made.arrived()
    span = made.span("agent")
    assert span.parent_id == ""
    assert span.attributes["langfuse.trace.input"] == "asked"
    assert span.attributes["langfuse.trace.output"] == "answered"
    assert all(span.attributes["session.id"] == "s-t" for span in made.kelet.spans)


def test_pending_traces_go_before_the_scans(make_world: MakeWorld) -> None:
    """What has waited for its quiet period waits for lookback scans too, or for a Langfuse that fails at these."""
    root, *children = trace(2, start=0.0, seconds=50.0)
    made = make_world([root, *children], after_noon=70)
    made.once()
    made.clock.advance(120)
    made.langfuse.script = faults.when(faults.asks(fields=METADATA_ONLY), faults.status(401))
    report, code = made.once()
    assert (report.spans_sent, report.traces_pending, code) == (3, 0, 4)


def test_trace_goes_with_the_first_cycle_after_its_quiet_period(make_world: MakeWorld) -> None:
    """A short SYNC_INTERVAL gains nothing: a trace that was seen in its quiet period waits for a whole one more."""
    root, *children = trace(2, start=0.0, seconds=50.0)
    made = make_world([root, *children], after_noon=70)
    made.once()
    made.clock.advance(8)
    assert made.once()[0].spans_sent == 0
    made.clock.advance(8)
    report, _ = made.once()
    assert (report.spans_sent, report.traces_pending) == (3, 0)


def test_what_a_scan_finds_of_a_pending_trace_goes_in_the_same_cycle(make_world: MakeWorld) -> None:
    """The end of an observation that was found by a scan waits for the next cycle, an hour where that is cron's."""
    root, *children = trace(1, start=0.0, seconds=5.0)
    pending = row(trace=root["traceId"], parent=root["id"], start=1.0, seconds=None, name="pending", type="SPAN")
    made = make_world([root, *children, pending], after_noon=120)
    made.once()
    made.clock.advance(880)
    assert made.once()[0].spans_sent == 0  # checked again after a quarter of its age, which is 250 s
    made.langfuse.rows.replace(pending | {"endTime": at(1100), "updatedAt": at(1101)})
    made.clock.advance(150)
    report, _ = made.once()
    assert (report.spans_sent, report.traces_pending) == (1, 0)
