"""Scores among servers, clocks and operators that mean harm: what arrives, and that nothing else stops."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync_worker.demo.serving import Reply, Request, json_reply
from sync_worker.errors import ExitCode
from sync_worker.intervals import Interval
from sync_worker.redaction.redactor import MAX_TEXT
from sync_worker.times import moment_ms
from tests.support import faults
from tests.support.faults import status
from tests.support.rows import NOON, row, score, trace
from tests.sync.conftest import MakeWorld
from tests.sync.scored import SESSION, once, score_on, scored_world, signals_of, trace_with_session


def test_a_trace_without_a_session_is_a_session_of_its_own(make_world: MakeWorld) -> None:
    """Spans of a trace without a session carry the trace's id as conversation id: a signal without it is unlinked."""
    rows = trace_with_session(session="")
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(score_on(rows[0], 1))
    once(world)
    (signal,) = signals_of(world, 1)
    assert {span.attributes["gen_ai.conversation.id"] for span in world.kelet.spans} == {signal.content["session_id"]}


def test_a_rejected_signal_is_posted_once_in_a_run(make_world: MakeWorld) -> None:
    """Four bad scores and no good one: eight rejections in a row would pause the source for ever."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(*(score_on(rows[0], number, number) for number in range(4)))
    world.kelet.script = lambda request: status(422) if request.path.endswith("/signal") else None
    report, code = world.once()
    posted = [request for request in world.kelet.requests if request.path.endswith("/signal")]
    assert (report.error, code, report.dead_letters, len(posted)) == (None, ExitCode.DEAD_LETTERS, 4, 4)


@pytest.mark.parametrize(
    "reply", [status(404), status(403), status(401), status(500)], ids=["404", "403", "401", "500"]
)
def test_a_server_without_scores_stops_no_spans(make_world: MakeWorld, reply: Reply) -> None:
    """Spans go on; that scores do not is one line."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.script = lambda request: reply if "scores" in request.path else None
    report, code = world.once()
    assert len(world.kelet.spans) == len(rows)
    more = trace_with_session(3600.0)
    world.langfuse.rows.add(*more)
    world.clock.advance(120)
    report, code = world.once()
    assert len(world.kelet.spans) == len(rows) + len(more)
    assert code in {ExitCode.PAUSED, ExitCode.TRANSIENT}  # CREDENTIALS would end a live sync
    assert "\n" not in str(report.error)
    assert "score" in str(report.error)
    world.langfuse.script = None
    world.langfuse.scores.put(score_on(rows[0], 1))
    world.clock.advance(120)
    once(world)
    assert len(world.kelet.signals) == 1


def _lists(**meta: Any) -> Any:
    return lambda request: (
        json_reply(200, {"data": [], "meta": {"limit": 100, **meta}}) if request.path.endswith("/v3/scores") else None
    )


def test_the_same_cursor_again_ends(make_world: MakeWorld) -> None:
    """A walk that never ends would stop spans too."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.script = _lists(cursor="again")
    report, code = world.once()
    assert (code, len(world.kelet.spans)) == (ExitCode.TRANSIENT, len(rows))
    assert "cursor twice" in str(report.error)


def test_three_hundred_scores_on_one_trace(make_world: MakeWorld) -> None:
    """Pages end amid scores of one time; each arrives once."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(*(score_on(rows[0], number, 5.0) for number in range(300)))
    once(world)
    assert (
        len(world.kelet.signals)
        == len({str(one.content["metadata"]["langfuse_score_id"]) for one in world.kelet.signals})
        == 300
    )


def test_a_page_that_is_too_large_is_asked_for_smaller(make_world: MakeWorld) -> None:
    """422 is Langfuse's word for a list that takes too long."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(*(score_on(rows[0], number, number) for number in range(120)))

    def script(request: Request) -> Reply | None:
        if not request.path.endswith("/v3/scores") or int(dict(request.params)["limit"]) <= 30:
            return None
        return json_reply(422, {"message": "Request timed out", "error": "Request timed out"})

    world.langfuse.script = script
    once(world)
    assert len(world.kelet.signals) == 120


def test_a_huge_comment_holds_up_no_other(make_world: MakeWorld) -> None:
    """Kelet takes no body of megabytes; the one is set aside."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(score_on(rows[0], 1, 1.0, comment="x" * 5_000_000), score_on(rows[0], 2, 2.0))
    world.kelet.script = lambda request: (
        status(413) if len(request.body) > 4_000_000 and "signal" in request.path else None
    )
    world.once()
    assert len(signals_of(world, 2)) == 1


def test_a_score_moves_to_another_trace(make_world: MakeWorld) -> None:
    """A new POST under an id may change name, type and trace."""
    one, other = trace_with_session(), trace_with_session(10, session="session-2")
    world = scored_world(make_world, [*one, *other])
    world.langfuse.scores.put(score_on(one[0], 1))
    once(world)
    world.langfuse.scores.put(score_on(other[0], 1, value="why", dataType="TEXT", name="other"))
    world.clock.advance(60)
    once(world)
    first, second = signals_of(world, 1)
    assert (first.content["session_id"], second.content["session_id"]) == (SESSION, "session-2")
    assert second.content["metadata"]["supersedes"] == first.content["metadata"]["revision"]


def test_scores_test_goes_on_after_a_score_that_cannot_be_redacted(make_world: MakeWorld) -> None:
    """One score ends the command, though a run passes over it."""
    rows = trace_with_session()
    too_large = {"text": "x" * (MAX_TEXT + 1)}
    world = scored_world(make_world, rows, SYNC_REDACT="email", SYNC_START="2026-11-20T00:00:00Z")
    world.langfuse.scores.put(
        score_on(rows[0], 1, name="bad", metadata=too_large),
        score_on(rows[0], 2, name="good"),
        score_on(rows[0], 3, name="stars", value=3),
    )
    code, shown = world.program_json("scores", "test", "--from", "2020-01-01T00:00:00Z")
    found = {one["name"]: (one["unredactable"], one["assumed"], one["unrated"]) for one in shown["sources"][0]["names"]}
    assert (code, found) == (0, {"bad": (1, 0, 0), "good": (0, 1, 0), "stars": (0, 0, 1)})


def test_a_score_of_the_future_hides_no_other(make_world: MakeWorld) -> None:
    """It stays on top of each list; after a month without a run the windows are listed all the same."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    once(world)
    world.langfuse.scores.put(score_on(rows[0], 1, 3600.0), score_on(rows[0], 2, 365 * 86_400.0))
    world.clock.advance(60)
    once(world)
    world.clock.advance(86_400 * 30)
    once(world)
    world.langfuse.scores.put(score_on(rows[0], 3, 3600.0 + 86_400 * 29))
    for _ in range(10):
        world.clock.advance(3600)
        once(world)
    assert [len(signals_of(world, number)) for number in (1, 2, 3)] == [1, 1, 1]


def test_a_kill_repeats_the_signal_in_flight_at_most(make_world: MakeWorld) -> None:
    """A `kill -9` loses a signal, or repeats one that was answered."""
    begun = datetime.now(UTC) - timedelta(hours=1)  # a process goes by the clock of this machine
    rows = trace(2, start=begun, seconds=5.0, session=SESSION)
    made = scored_world(make_world, rows)
    count = 14
    made.langfuse.scores.put(*(score(number, rows[0]["traceId"], begun) for number in range(count)))
    made.kelet.script = lambda request: faults.slow(0.15) if request.path.endswith("/signal") else None
    kills = 0
    for wanted in (1, 4, 7, 10):
        with made.start("once") as process:
            deadline = time.monotonic() + 30
            while len(made.kelet.signals) < wanted and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            kills += process.poll() is None
            process.kill()
            process.communicate(timeout=60)
    made.kelet.script = None
    code, _, err = made.program("once")
    assert (code, kills > 0) == (0, True), err
    arrived = Counter(str(signal.content["metadata"]["langfuse_score_id"]) for signal in made.kelet.signals)
    assert set(arrived) == {f"score-{number}" for number in range(count)}
    assert sum(arrived.values()) - count <= kills
    assert max(arrived.values()) <= 2
    settled = len(made.kelet.signals)
    code, _, err = made.program("once")
    assert (code, len(made.kelet.signals)) == (0, settled), err


def test_a_dead_letter_of_a_deleted_score_goes_with_it(make_world: MakeWorld) -> None:
    """It can never be sent again, so it would be listed for ever."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(score_on(rows[0], 1, 1.0), score_on(rows[0], 2, 2.0))
    world.kelet.script = lambda request: status(422) if b'"score-1"' in request.body else None
    assert world.once()[1] == ExitCode.DEAD_LETTERS
    world.langfuse.scores.remove("score-1")
    code, result = world.program_json("dead-letters", "retry", "--all")
    assert (code, result["sent"], result["left"]) == (0, 0, 0)
    assert world.program_json("dead-letters", "list")[1]["dead_letters"] == []


def test_scores_test_guesses_no_session(make_world: MakeWorld) -> None:
    """Of a trace that is not remembered it is not known whether it has one."""
    rows = trace_with_session()
    world = scored_world(make_world, rows, SYNC_START="2026-11-20T00:00:00Z")
    world.langfuse.scores.put(score_on(rows[0], 1))
    _, shown = world.program_json("scores", "test", "--from", "2020-01-01T00:00:00Z")
    (example,) = shown["sources"][0]["names"][0]["examples"]
    assert example["waits"]
    assert "session_id" not in example["signal"]


def test_a_backfill_takes_up_scores_that_were_given_up(make_world: MakeWorld) -> None:
    """Its scores were asked for alone, long before its spans: the range counts as read, and no scan lists it."""
    rows = trace_with_session(-40 * 86_400.0)
    world = scored_world(make_world, rows, SYNC_SCORE_HORIZONS="1h,2h")
    world.langfuse.scores.put(score_on(rows[0], 1, -40 * 86_400.0))
    interval = Interval(moment_ms(NOON) - 41 * 86_400_000, moment_ms(NOON) - 39 * 86_400_000)
    report, code = world.backfill_scores(interval)
    assert (report.error, code, report.scores_waiting) == (None, ExitCode.OK, 1)
    for _ in range(10):
        world.clock.advance(3600)
        once(world)
    assert world.program_json("status")[1]["sources"][0]["scores"]["no_trace"] == 1
    report, code = world.backfill(interval.start, interval.end)
    assert (report.error, code, len(signals_of(world, 1))) == (None, ExitCode.OK, 1)


@pytest.mark.parametrize("ahead", [False, True], ids=["alone", "with a backfill ahead of it"])
def test_a_score_waits_for_a_sync_that_is_behind(make_world: MakeWorld, *, ahead: bool) -> None:
    """After an outage longer than the lookback windows the score is given up, and its trace is synced without it."""
    world = scored_world(make_world, [], SYNC_SCORE_HORIZONS="1h,2h")
    once(world)
    rows = trace_with_session(3700.0)
    world.langfuse.rows.extend(rows)
    world.langfuse.scores.put(score_on(rows[0], 1, 3700.0))
    world.clock.advance(1800)
    dated = Interval(moment_ms(NOON), moment_ms(NOON) + 2 * 3_600_000)
    for _ in range(3):  # the live sync does not run
        report, code = world.backfill_scores(dated)
        assert (report.error, code, report.scores_waiting) == (None, ExitCode.OK, 1)
        world.clock.advance(7200)
    if ahead:
        assert world.backfill(dated.end, dated.end + 3_600_000)[1] == ExitCode.OK
        assert world.backfill_scores(dated)[0].scores_waiting == 1
        world.clock.advance(7200)
    once(world)
    assert len(signals_of(world, 1)) == 1


def test_a_score_that_was_given_up_is_sent_when_its_trace_comes_late(make_world: MakeWorld) -> None:
    """After an outage the trace is sent and forgotten in one cycle, and the score is looked at after that."""
    rows = trace_with_session()
    world = scored_world(make_world, [], SYNC_LATE_HORIZONS="20m,2h", SYNC_MAX_OPEN="10m", SYNC_SCORE_HORIZONS="1h,12h")
    world.langfuse.scores.put(score_on(rows[0], 1))
    for _ in range(4):
        once(world)
        world.clock.advance(900)
    assert world.program_json("status")[1]["sources"][0]["scores"]["gone"] == 1
    world.langfuse.rows.extend(rows)
    world.clock.advance(5 * 3600)
    for _ in range(6):
        once(world)
        world.clock.advance(1800)
    assert (len(world.kelet.spans), len(signals_of(world, 1))) == (3, 1)


def test_an_error_that_was_not_read_brings_no_signal(make_world: MakeWorld) -> None:
    """The trace was left out; what of it starts before the sync start would count when it is forgotten."""
    (root,) = trace(0, start=1900.0, seconds=5.0)
    error = row(trace=root["traceId"], parent=root["id"], start=60.0, level="ERROR")
    world = scored_world(
        make_world, [error, root], SYNC_SAMPLE="0%", SYNC_SAMPLE_ERRORS="true", SYNC_START="2026-11-20T12:30:00Z",
        SYNC_LATE_HORIZONS="20m,1h",
    )  # fmt: skip
    for _ in range(6):
        once(world)
        world.clock.advance(1800)
    world.langfuse.scores.put(score_on(root, 1, 12_000.0))
    once(world)
    assert (world.kelet.spans, world.kelet.signals) == ([], [])
    assert world.program_json("status")[1]["sources"][0]["scores"]["filtered"] == 1


def test_a_session_that_only_a_rejected_span_has_is_on_no_signal(make_world: MakeWorld) -> None:
    """The child that says it comes late, and Kelet takes it not: nothing at Kelet is of that session."""
    root, child = trace(1, start=NOON, seconds=5.0)
    world = scored_world(make_world, [root], SYNC_LATE_HORIZONS="2h,4h", SYNC_COMPRESSION="none")
    once(world)
    world.langfuse.rows.add(child | {"sessionId": "session-late"})
    world.kelet.script = lambda request: status(400) if b"session-late" in request.body else None
    world.clock.advance(600)
    assert world.once()[1] == ExitCode.DEAD_LETTERS
    world.langfuse.scores.put(score_on(root, 1, 3600.0))
    world.clock.advance(60)
    once(world)
    (signal,) = signals_of(world, 1)
    assert signal.content["session_id"] == root["traceId"]


@pytest.mark.parametrize("side", ["Langfuse", "Kelet"])
def test_an_outage_of_scores_alone_stops_no_spans_of_a_long_run(make_world: MakeWorld, side: str) -> None:
    """`run` retries without end: it would never come to the next cycle."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(score_on(rows[0], 1))
    if side == "Langfuse":
        world.langfuse.script = lambda request: status(503) if "scores" in request.path else None
    else:
        world.kelet.script = lambda request: status(503) if request.path.endswith("/signal") else None
    report, code = world.once(patience=None)
    more = trace_with_session(3600.0)
    world.langfuse.rows.add(*more)
    world.clock.advance(60)
    report, code = world.once(patience=None)
    assert (code, len(world.kelet.spans)) == (ExitCode.TRANSIENT, len(rows) + len(more)), report.error
    world.langfuse.script = world.kelet.script = None
    world.clock.advance(60)
    once(world)
    assert len(signals_of(world, 1)) == 1


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        (status(500), None),
        (status(400), "none"),
        (json_reply(200, []), "none"),
        (json_reply(200, {"minValue": "1", "maxValue": True, "categories": {"a": 1}}), "none"),
        (json_reply(200, {"minValue": 5, "maxValue": 1}), "none"),
        (json_reply(200, {"minValue": 0, "maxValue": 10, "categories": [7, {"label": 1}]}), 0.7),
    ],
    ids=["500", "400", "a list", "wrong types", "upside down", "odd categories"],
)
def test_an_odd_config_holds_up_no_other_score(make_world: MakeWorld, reply: Reply, score: Any) -> None:
    """What has no range that can be read goes without a score; what the server may yet tell is waited for."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(score_on(rows[0], 1, 1.0, configId="odd", value=7), score_on(rows[0], 2, 2.0))
    world.langfuse.script = lambda request: reply if "score-configs" in request.path else None
    report = once(world)
    assert len(signals_of(world, 2)) == 1
    if score is not None:
        (one,) = signals_of(world, 1)
        assert one.content.get("score", "none") == score
        return
    assert (signals_of(world, 1), report.scores_waiting) == ([], 1)
    assert world.program_json("status")[1]["sources"][0]["scores"]["waiting_for"] == {"no_config": 1}
    world.langfuse.script = None
    world.langfuse.scores.configs["odd"] = {"id": "odd", "minValue": 0, "maxValue": 10, "categories": None}
    world.clock.advance(600)
    once(world)
    assert signals_of(world, 1)[0].content["score"] == 0.7


def _answers(*items: Any) -> Any:
    """Answer each list of scores with these, whatever is asked for."""
    body = json.dumps({"data": items, "meta": {"limit": 100}}).encode()
    reply = Reply(200, {"Content-Type": "application/json"}, body)
    return lambda request: reply if request.path.endswith("/v3/scores") else None


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_score_that_a_page_shows_twice_goes_in_its_newest_state(make_world: MakeWorld, *, newest_first: bool) -> None:
    """Langfuse's store has yet to merge them; sent in turns, each would take the place of the other for ever."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    old = score_on(rows[0], 1, value=0.25, updatedAt="2026-11-20T12:00:01.000Z")
    new = old | {"value": 0.75, "updatedAt": "2026-11-20T12:00:02.000Z"}
    pages = [_answers(new, old, new), _answers(new, old)]
    for number in range(4):
        world.langfuse.script = pages[(number + newest_first) % 2]
        once(world)
        world.clock.advance(60)
    assert [signal.content["score"] for signal in signals_of(world, 1)] == [0.75]


@pytest.mark.parametrize(
    "odd",
    [
        {"value": None}, {"value": [1]}, {"value": {"a": 1}}, {"value": "0.5"}, {"value": True}, {"name": None},
        {"name": 7}, {"name": ""}, {"source": None}, {"dataType": None}, {"dataType": "LATER"}, {"comment": 7},
        {"comment": "\ud800 half"}, {"metadata": "text"}, {"metadata": [1]}, {"configId": 7}, {"createdAt": "never"},
        {"subject": {"kind": "later", "id": "x"}}, {"name": "x" * 100_000}, {"comment": "x" * 1_000_000},
        {"environment": None}, {"updatedAt": None}, {"metadata": {"a": [[[[[]]]]]}}, {"value": 10**400},
    ],
    ids=lambda odd: str(odd)[:40],
)  # fmt: skip
def test_an_odd_score_harms_no_other(make_world: MakeWorld, odd: dict[str, Any]) -> None:
    """Whatever a field holds, the others of its page arrive, and it does at most once."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.script = _answers(score_on(rows[0], 1, 1.0) | odd, score_on(rows[0], 2, 2.0))
    for _ in range(3):
        once(world)
        world.clock.advance(60)
    assert (len(signals_of(world, 2)), len(signals_of(world, 1)) <= 1) == (1, True)
    for signal in world.kelet.signals:
        assert 0 <= signal.content.get("score", 0) <= 1
        assert isinstance(signal.content.get("value", ""), str)


@pytest.mark.parametrize("odd", [None, "x", 7, [], {}, {"id": "a"}, {"timestamp": "x", "id": 7}], ids=str)
def test_what_is_no_score_is_counted(make_world: MakeWorld, odd: Any) -> None:
    """It can never be sent, and hides none."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.script = _answers(odd, score_on(rows[0], 2, 2.0))
    report = once(world)
    assert (report.scores_unreadable, len(signals_of(world, 2))) == (1, 1)


def test_a_signal_that_was_accepted_counts_though_no_dead_letter_has_room(make_world: MakeWorld) -> None:
    """It arrives again in each run until somebody drops a dead letter, or what there was room for is lost."""
    rows = trace_with_session()
    world = scored_world(make_world, rows, SYNC_MAX_DEAD_LETTERS="1")
    world.langfuse.scores.put(*(score_on(rows[0], number, float(number)) for number in range(1, 5)))
    wrong = {f'"langfuse_score_id":"score-{number}"'.encode() for number in (1, 2, 4)}
    world.kelet.script = faults.when(
        lambda request: any(mark in request.body for mark in wrong), status(422, message="not acceptable")
    )
    for _ in range(3):
        report, code = world.once()
        assert (report.error is not None, code) == (True, ExitCode.PAUSED)
        assert "has no room for" in str(report.error)
        world.clock.advance(60)
    assert len(signals_of(world, 3)) == 1
    (source,) = world.program_json("status")[1]["sources"]
    assert (source["dead_letters"], source["scores"]["rejected"], source["scores"]["sent"]) == (1, 1, 1)
    world.kelet.script = None
    world.environ["SYNC_MAX_DEAD_LETTERS"] = "10"
    assert world.program("dead-letters", "retry", "--all")[0] == ExitCode.OK
    once(world)
    assert [len(signals_of(world, number)) for number in (1, 2, 3, 4)] == [1, 1, 1, 1]


#: The state file forgets a trace within half an hour.
SHORT = {"SYNC_LATE_HORIZONS": "10m", "SYNC_MAX_OPEN": "5m"}


def test_a_score_is_sent_when_a_backfill_brings_its_trace_that_was_left_out(make_world: MakeWorld) -> None:
    """What is older than the longest lookback window is forgotten before its scores are sent, and they never are."""
    rows = trace_with_session(environment="staging")
    world = scored_world(make_world, rows, **SHORT, SYNC_EXCLUDE_ENVIRONMENTS="stag*")
    world.langfuse.scores.put(score_on(rows[0], 1, 60.0))
    assert once(world).scores_filtered == 1
    for _ in range(6):
        world.clock.advance(600)
        once(world)
    backfilled = moment_ms(NOON) - 3_600_000, world.clock.now_ms()
    world.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = "stag*,test"
    assert world.backfill(*backfilled)[1] == ExitCode.OK
    assert (len(world.kelet.spans), len(world.kelet.signals)) == (0, 0)
    world.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = "none"
    for _ in range(2):
        report, code = world.backfill(*backfilled)
        assert (report.error, code) == (None, ExitCode.OK)
        assert (len(world.kelet.spans), len(world.kelet.signals)) == (3, 1)


@pytest.mark.parametrize(("then", "now", "signals"), [("none", "stag*", 1), ("stag*", "none", 0)])
def test_whether_a_forgotten_trace_was_left_out_is_decided_by_the_rules_of_then(
    make_world: MakeWorld, then: str, now: str, signals: int
) -> None:
    """A signal arrives for a trace that Kelet never got, or none for one that it has."""
    rows = trace_with_session(environment="staging")
    world = scored_world(make_world, rows, **SHORT, SYNC_EXCLUDE_ENVIRONMENTS=then)
    once(world)
    for _ in range(6):
        world.clock.advance(600)
        once(world)
    world.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = now
    once(world)
    world.langfuse.scores.put(score_on(rows[0], 1, 7000.0))
    world.clock.advance(60)
    once(world)
    assert (len(world.kelet.spans), len(world.kelet.signals)) == (3 * signals, signals)
