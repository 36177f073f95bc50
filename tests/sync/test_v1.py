"""The whole way from a server that has only the v1 endpoints, and through its upgrade."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from datetime import timedelta

import pytest

from sync_worker.demo.serving import Request
from sync_worker.errors import ExitCode
from sync_worker.ledger import open_ledger
from sync_worker.records import is_otel_span_id, is_otel_trace_id
from sync_worker.spans.ids import otlp_span_id, otlp_trace_id
from sync_worker.times import moment_ms
from tests.support import faults
from tests.support.langfuse_v1 import LangfuseV1, Mode
from tests.support.rows import DATA, NOON, at, score
from tests.support.v1_items import Item, observation_item, trace_item, v2_rows, whole_trace
from tests.sync.conftest import MakeWorld

HOUR = 3600.0


def _spans(observations: list[Item], roots: list[Item] | None = None) -> Counter[tuple[str, str]]:
    """Return the ids that observations, and the synthetic roots of these traces, arrive with."""
    keys = [(item["projectId"], item["traceId"], item["id"]) for item in observations]
    keys += [(item["projectId"], item["id"], f"t-{item['id']}") for item in roots or []]
    return Counter(
        {(otlp_trace_id(project, trace), otlp_span_id(project, trace, row)): 1 for project, trace, row in keys}
    )


def _many(count: int, start: float = 0.0, apart: float = 7.0) -> tuple[list[Item], list[Item]]:
    """Return traces of an agent and two calls each, so many seconds apart."""
    made = [whole_trace(2, start=start + number * apart, sessionId=f"s{number}") for number in range(count)]
    return [one for one, _ in made], [item for _, items in made for item in items]


def _legacy(name: str, start: float) -> tuple[Item, list[Item]]:
    """Return a trace of an old SDK, whose ids are free text."""
    of_trace = trace_item(name, start=start, name=name, sessionId="s-old", userId="u-old", tags=["t"], input={"q": 1})
    root = observation_item(name, id=f"{name} root/1", start=start, name="begin")
    child = observation_item(name, id=f"{name} child", parent=root["id"], start=start + 0.2, type="GENERATION")
    return of_trace, [root, child]


@pytest.mark.parametrize("mode", ["v3", "v2"])
@pytest.mark.parametrize("seed", range(3))
def test_everything_arrives_once(make_world: MakeWorld, mode: Mode, seed: int) -> None:
    """Rows that tie in time are lost between pages, or sent once for each page that repeats them."""
    traces, observations = _many(60)
    crowd, crowded = whole_trace(250, start=100.0, seconds=0.1)
    for item in crowded[1:]:
        item["startTime"] = item["endTime"] = crowded[1]["startTime"]
    old, older = _legacy("chat_42", 50.0)
    server = LangfuseV1([*traces, crowd, old], [*observations, *crowded, *older], mode=mode, seed=seed)
    made = make_world(server, after_noon=2 * HOUR)
    report, code = made.once()
    assert (report.error, code) == (None, ExitCode.OK)
    assert made.arrived() == _spans([*observations, *crowded, *older], [old])
    assert made.cycles(600.0, every=150.0) == 0


def test_what_a_trace_says_reaches_its_spans(make_world: MakeWorld) -> None:
    """v1 keeps session, user, tags and the like on the trace alone."""
    of_trace, items = whole_trace(
        1, sessionId="s1", userId="u1", tags=["a", "b"], release="r1", version="v9", name="checkout", public=True,
        metadata={"tenant": "acme"}, input={"question": "why?"}, output="because",
    )  # fmt: skip
    made = make_world(LangfuseV1([of_trace], items), after_noon=2 * HOUR)
    made.once()
    assert made.arrived() == _spans(items)
    for span in made.kelet.spans:
        sent = span.attributes
        assert (sent["session.id"], sent["user.id"]) == ("s1", "u1")
        assert (sent["langfuse.trace.name"], sent["langfuse.trace.tags"]) == ("checkout", ["a", "b"])
        assert (sent["langfuse.release"], sent["langfuse.version"], sent["langfuse.trace.public"]) == ("r1", "v9", True)
        assert sent["metadata.tenant"] == "acme"
    root = made.span("agent")
    assert root.attributes["langfuse.trace.input"] == '{"question":"why?"}'
    assert root.attributes["langfuse.trace.output"] == "because"


def test_legacy_trace_keeps_its_root(make_world: MakeWorld) -> None:
    """A trace of an old SDK has a root of its own, below which its rows without a parent stand."""
    of_trace, items = _legacy("chat_42", 0.0)
    lone = trace_item("no rows", start=5.0, name="lonely")
    orphan = observation_item("never created", id="o1", start=6.0, name="orphan")
    made = make_world(LangfuseV1([of_trace, lone], [*items, orphan]), after_noon=2 * HOUR)
    made.once()
    assert made.arrived() == _spans([*items, orphan], [of_trace, lone])
    root, step = made.span("chat_42"), made.span("begin")
    assert (root.parent_id, step.parent_id) == ("", root.span_id)
    assert root.end_ns == max(span.end_ns for span in made.kelet.spans if span.trace_id == root.trace_id)
    assert made.span("orphan").attributes["gen_ai.conversation.id"] == "never created"


def test_observation_long_before_its_trace(make_world: MakeWorld) -> None:
    """A trace's own page leaves out what began more than an hour before it."""
    of_trace, items = whole_trace(1, start=2 * HOUR)
    early = observation_item(of_trace["id"], parent=items[0]["id"], start=0.0, name="early")
    made = make_world(LangfuseV1([of_trace], [*items, early]), after_noon=3 * HOUR)
    made.once()
    assert made.arrived() == _spans([*items, early])


def test_root_that_ends_late_keeps_its_trace_together(make_world: MakeWorld) -> None:
    """The trace is there with its first span, so it would go in part at every pause of a working agent."""
    of_trace, items = whole_trace(2, start=HOUR, seconds=300.0)
    root, children = items[0], items[1:]
    server = LangfuseV1([of_trace], children[:1])
    made = make_world(server, after_noon=HOUR + 250)
    made.once()
    assert made.cycles(120.0) == 0
    server.add([], [children[1], root])
    assert made.cycles(180.0) == 3
    assert made.arrived() == _spans(items)


def test_open_row_goes_once_it_has_ended(make_world: MakeWorld) -> None:
    """Old SDKs write a row when it begins and once more when it ends."""
    of_trace, items = _legacy("chat_7", HOUR)
    still = {**items[1], "endTime": None}
    server = LangfuseV1([of_trace], [items[0], still])
    made = make_world(server, after_noon=HOUR + 60)
    made.once()
    ended = {**items[1], "updatedAt": "2026-11-20T13:05:00.000Z"}
    server.observations.replace(ended)
    made.cycles(900.0)
    assert made.arrived() == _spans(items, [of_trace])


def test_late_rows_are_found_by_their_count(make_world: MakeWorld) -> None:
    """A listing of v1 carries all content: looked at every few minutes, it would be read over and over."""
    traces, observations = _many(120, apart=30.0)
    server = LangfuseV1(traces, observations)
    made = make_world(server, after_noon=HOUR + 60)
    made.once()
    made.cycles(900.0)
    before = made.langfuse_requests()
    made.cycles(900.0)
    assert made.langfuse_requests() - before < 250
    late_trace, late = whole_trace(2, start=HOUR - 600)
    server.add([late_trace], late)
    assert made.cycles(900.0) == 3
    assert made.arrived() == _spans([*observations, *late])


def test_change_that_leaves_the_count_alone_is_resent(make_world: MakeWorld) -> None:
    """The counts of an interval stay the same when an observation is updated, and nobody would look at it again."""
    traces, observations = _many(3, start=HOUR - 300)
    server = LangfuseV1(traces, observations, mode="v2")  # it cannot be asked for what ended lately
    made = make_world(server, after_noon=HOUR)
    made.once()
    made.cycles(600.0)
    server.observations.replace(observations[1] | {"output": "a better answer", "updatedAt": at(HOUR + 700)})
    assert made.cycles(3 * HOUR, every=1800.0) == 1
    span = made.kelet.spans[-1]
    assert span.attributes["langfuse.observation.output"] == "a better answer"


def test_late_scan_after_days_is_cheap(make_world: MakeWorld) -> None:
    """Each interval of five minutes takes four requests after an outage of days, and late rows wait for days more."""
    traces, observations = _many(20, apart=30.0)
    server = LangfuseV1(traces, observations)
    made = make_world(server, after_noon=HOUR)
    made.once()
    made.clock.advance(3 * 86_400)
    late_trace, late = whole_trace(2, start=1800.0)
    later, latest = _many(30, start=86_400.0, apart=1800.0)
    server.add([late_trace, *later], [*late, *latest])
    before = made.langfuse_requests()
    report, code = made.once()
    assert (report.error, code) == (None, 0)
    assert made.arrived() == _spans([*observations, *late, *latest])
    assert made.langfuse_requests() - before < 60


def _upgraded_rows(server: LangfuseV1) -> list[Item]:
    """Return what v2 shows of all that was written, as Langfuse's own migration would."""
    return v2_rows(server.traces, server.observations)


@pytest.mark.parametrize("at_once", [True, False], ids=["v1 gone", "both for a while"])
def test_upgrade_under_a_running_worker(make_world: MakeWorld, *, at_once: bool) -> None:
    """An upgraded server shows every row anew: sent again, each trace is there twice; not read, some are lost."""
    traces, observations = _many(40, apart=60.0)
    old, older = _legacy("chat_42", 2000.0)
    server = LangfuseV1([*traces, old], [*observations, *older])
    made = make_world(server, after_noon=1800.0)
    made.once()
    made.cycles(300.0)
    assert made.arrived()
    server.rows.extend(one | {"updatedAt": "2026-11-20T12:50:00.000Z"} for one in _upgraded_rows(server))
    server.become("events_only" if at_once else "dual")
    made.cycles(2 * HOUR, every=300.0)
    later, latest = _many(5, start=9000.0)
    if at_once:
        server.rows.extend(v2_rows(later, latest))
    else:
        server.add(later, latest)
    made.cycles(HOUR, every=300.0)
    if not at_once:
        for _ in range(2):  # found on the first day, read once the look-back has passed since
            made.clock.advance(49 * HOUR)
            made.cycles(1800.0, every=600.0)
        assert "/v2/observations" in server.requests[-1].target
    assert made.arrived() == _spans([*observations, *older, *latest], [old])


def test_upgraded_server_is_not_asked_every_day(make_world: MakeWorld) -> None:
    """Every read of v2 shows that it is there: a question a day more is for nothing."""
    server = LangfuseV1(*_many(2))
    made = make_world(server, after_noon=HOUR)
    made.once()
    server.become("events_only")
    made.cycles(120.0)
    before = made.langfuse_requests()
    made.cycles(75 * HOUR, every=25 * HOUR)
    assert not [one for one in server.requests[before:] if "/health" in one.target or "/public/traces" in one.target]


def test_changes_are_seen_again_after_an_upgrade(make_world: MakeWorld) -> None:
    """What is taken over as it is must not stay so for good."""
    of_trace, items = _legacy("chat_42", 0.0)
    server = LangfuseV1([of_trace], items)
    made = make_world(server, after_noon=HOUR)
    made.once()
    rows = [one | {"updatedAt": "2026-11-20T13:00:00.000Z"} for one in _upgraded_rows(server)]
    server.rows.extend(rows)
    server.become("events_only")
    assert made.cycles(HOUR, every=300.0) == 0
    changed = next(one for one in rows if one["type"] == "GENERATION")
    server.rows.replace(changed | {"output": "another", "updatedAt": "2026-11-20T14:10:00.000Z"})
    assert made.cycles(HOUR, every=300.0) == 1


def test_rollback_is_found_out(make_world: MakeWorld) -> None:
    """A server that is set back to v3 has no v2 observations any more."""
    traces, observations = _many(3)
    server = LangfuseV1(mode="dual")
    server.add(traces, observations)
    made = make_world(server, after_noon=HOUR)
    made.once()
    server.become("v3")
    later, latest = _many(2, start=HOUR)
    server.add(later, latest)
    made.cycles(600.0)
    assert made.arrived() == _spans([*observations, *latest])


def test_generation_is_remembered(make_world: MakeWorld) -> None:
    """Asked for in each run, it costs an idle cycle as much as the work."""
    made = make_world(LangfuseV1(*_many(2)), after_noon=HOUR)
    made.once()
    before = made.langfuse_requests()
    made.clock.advance(60.0)
    made.once()
    asked = [request.target for request in made.langfuse.requests[before:]]
    assert not [target for target in asked if "/v2/" in target or "health" in target]
    ledger = open_ledger(made.state, made.clock)
    assert '"api":"v1"' in (ledger.stored_key("source 1", "api") or "")
    ledger.close()


def test_version_that_was_not_reported_is_asked_for_again(make_world: MakeWorld) -> None:
    """A server of unknown version is taken to be old: for a day each root would cost a request of its own."""
    made = make_world(LangfuseV1(*_many(2)), after_noon=HOUR)
    made.langfuse.script = faults.when(_asks_for_health, faults.status(503))
    made.once()
    made.langfuse.script = None
    asked = len([one for one in made.langfuse.requests if _asks_for_health(one)])
    made.cycles(2 * HOUR, every=1800.0)
    assert len([one for one in made.langfuse.requests if _asks_for_health(one)]) == asked + 1


def _asks_for_health(request: Request) -> bool:
    return "/health" in request.target


def test_check_says_what_is_read_and_why(make_world: MakeWorld) -> None:
    """Nobody can tell from outside which of two ways a source is read."""
    made = make_world(LangfuseV1(*_many(2)), after_noon=HOUR)
    _, found = made.program_json("check")
    (line,) = [line["found"] for line in found["checks"] if "API" in line["check"]]
    assert line.startswith("v1 is read (v1 traces answer, v2 observations do not")
    code, _, _ = made.program("check", environ={"SYNC_LANGFUSE_API": "v2"})
    assert code == ExitCode.USAGE


@pytest.mark.parametrize(("mode", "insisted"), [("v3", "v2"), ("events_only", "v1")])
def test_insisting_on_what_is_not_there_is_reported(make_world: MakeWorld, mode: Mode, insisted: str) -> None:
    """The message names an address and a 404, and not the setting that leads there."""
    made = make_world(LangfuseV1(*_many(2), mode=mode), after_noon=HOUR)
    code, _, err = made.program("once", environ={"SYNC_LANGFUSE_API": insisted, "SYNC_START": "2026-11-20T11:00:00Z"})
    assert code == ExitCode.PAUSED
    assert "Try: SYNC_LANGFUSE_API=auto" in err
    assert "Traceback" not in err


def test_plan_counts_the_requests_of_v1(make_world: MakeWorld) -> None:
    """A page of v1 holds a tenth of what one of v2 does: a plan by v2's would be ten times too cheap."""
    traces, observations = _many(400)
    made = make_world(LangfuseV1(traces, observations), after_noon=HOUR)
    code, found = made.program_json("plan", "--from", "2026-11-20T11:00:00Z", "--to", "2026-11-20T14:00:00Z")
    (plan,) = found["sources"]
    assert (code, plan["observations"], plan["counted"]) == (0, 1600, True)
    before = made.langfuse_requests()
    made.backfill(moment_ms(NOON) - 3_600_000, moment_ms(NOON) + 7_200_000)
    taken = made.langfuse_requests() - before
    assert taken / 2 <= plan["langfuse_requests"] <= taken * 2


def _recorded() -> dict[str, list[Item]]:
    data: dict[str, list[Item]] = json.loads(gzip.decompress((DATA / "v3.225.4-items.json.gz").read_bytes()))
    return data


def test_recorded_v3_arrives_once_with_its_tree(make_world: MakeWorld) -> None:
    """What a real v3 held would arrive in part, twice, or below other parents."""
    data = _recorded()
    made = make_world(LangfuseV1(data["traces"], data["observations"]), after_noon=1_000 * HOUR)
    report, code = made.backfill(0, made.clock.now_ms())
    assert (report.error, code) == (None, 0)
    rows: dict[str, list[Item]] = defaultdict(list)
    for item in data["observations"]:
        rows[item["traceId"]].append(item)
    expected: dict[tuple[str, str], str] = {}
    for trace in {*rows, *(item["id"] for item in data["traces"])}:
        ids = [item["id"] for item in rows[trace]]
        over_otel = is_otel_trace_id(trace) and bool(ids) and all(is_otel_span_id(one) for one in ids)
        created = any(item["id"] == trace for item in data["traces"])
        project = "h1-proj-a"
        root = otlp_span_id(project, trace, f"t-{trace}")
        if created and not over_otel:
            expected[otlp_trace_id(project, trace), root] = ""
        for item in rows[trace]:
            parent = item["parentObservationId"]
            is_free = not parent or parent == item["id"]
            is_own = is_otel_trace_id(trace) and is_otel_span_id(item["id"])
            above = ("" if is_own or parent else root) if is_free else otlp_span_id(project, trace, parent)
            expected[otlp_trace_id(project, trace), otlp_span_id(project, trace, item["id"])] = above
    assert len(expected) > 150
    assert made.arrived() == Counter(dict.fromkeys(expected, 1))
    assert {(span.trace_id, span.span_id): span.parent_id for span in made.kelet.spans} == expected


def test_late_trace_that_is_not_served_is_dead_lettered(make_world: MakeWorld) -> None:
    """A trace whose content the server cannot give is met by a look alone: passed over there, nobody hears of it."""
    made_before, observations = _many(20, apart=60.0)
    server = LangfuseV1(made_before, observations)
    made = make_world(server, after_noon=1800.0)
    made.once()
    made.cycles(300.0)
    late, rows = _legacy("chat_9", 1500.0)
    server.unserved = {late["id"]}
    server.add([late], rows)
    made_dead_letters = 0
    for _ in range(15):
        made.clock.advance(60.0)
        report, _ = made.once()
        made_dead_letters += report.dead_letters
    assert made_dead_letters == 1
    ledger = open_ledger(made.state, made.clock)
    assert [(letter.trace_id, letter.observation_id) for letter in ledger.dead_letters()] == [("chat_9", "t-chat_9")]
    ledger.close()


def test_deep_scan_lists_again_only_what_may_differ(make_world: MakeWorld) -> None:
    """Each look over two days reads half of them once more, all content included."""
    traces, observations = _many(150, apart=1200.0)
    made = make_world(LangfuseV1(traces, observations), after_noon=50 * HOUR, SYNC_START="49h")
    made.once()
    made.cycles(7 * HOUR, every=1200.0)
    read = 0
    for _ in range(12):
        made.clock.advance(1200.0)
        report, _ = made.once()
        read += report.observations_read
    assert read == 0


@pytest.mark.parametrize("mode", ["v3", "v2"])
def test_rows_that_were_not_served_by_chance_pass_by_themselves(make_world: MakeWorld, mode: Mode) -> None:
    """v1 does not tell the id of an observation that it fails to serve, so nobody could ask for it again."""
    traces, observations = _many(20, apart=60.0)
    old, older = _legacy("chat_9", 500.0)
    server = LangfuseV1([*traces, old], [*observations, *older], mode=mode)
    made = make_world(server, after_noon=1800.0)
    server.unserved = {observations[4]["id"], old["id"]}
    report, code = made.once(600.0)
    assert (report.dead_letters, code) == (2, ExitCode.DEAD_LETTERS)
    server.unserved = set()
    made.clock.advance(660.0)
    assert made.once(600.0)[1] == ExitCode.OK
    ledger = open_ledger(made.state, made.clock)
    assert ledger.dead_letters() == []
    ledger.close()
    assert made.arrived() == _spans([*observations, *older], [old])
    assert made.cycles(900.0, every=150.0) == 0


def test_a_root_that_comes_late_and_alone_has_the_session_of_its_trace(make_world: MakeWorld) -> None:
    """Only the trace says it, and what ended recently is a list of observations."""
    of_trace, items = whole_trace(0, start=HOUR, seconds=3590.0, sessionId="s-late")
    server = LangfuseV1()
    made = make_world(server, after_noon=2 * HOUR, SYNC_SCORES="true", SYNC_LATE_HORIZONS="10m,1h")
    made.once()
    server.add([of_trace], items)
    server.scores.put(score(1, of_trace["id"], NOON + timedelta(seconds=2 * HOUR)))
    made.cycles(HOUR, every=300.0)
    assert made.arrived() == _spans(items)
    assert {span.attributes["session.id"] for span in made.kelet.spans} == {"s-late"}
    assert [signal.content["session_id"] for signal in made.kelet.signals] == ["s-late"]


def test_a_session_that_comes_after_its_spans_is_on_no_signal(make_world: MakeWorld) -> None:
    """The trace appears when its spans were sent: a signal with its session would be linked to none of them."""
    of_trace, items = whole_trace(1, sessionId="s-late")
    server = LangfuseV1([], items)
    made = make_world(server, after_noon=600.0, SYNC_SCORES="true", SYNC_LATE_HORIZONS="20m,2h")
    made.once()
    server.add([of_trace])
    made.cycles(HOUR, every=300.0)
    ledger = open_ledger(made.state, made.clock)
    assert ledger.traces(1, [of_trace["id"]])[of_trace["id"]].context["session_id"] == "s-late"
    ledger.close()
    server.scores.put(score(1, of_trace["id"], NOON + timedelta(seconds=HOUR)))
    made.cycles(HOUR, every=300.0)
    spans = {span.attributes["gen_ai.conversation.id"] for span in made.kelet.spans}
    assert {signal.content["session_id"] for signal in made.kelet.signals} == spans == {of_trace["id"]}
