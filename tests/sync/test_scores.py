"""Scores on the whole way: what arrives of them, where, when, and how often."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sync_worker.errors import ExitCode
from sync_worker.ledger import open_ledger
from sync_worker.spans.ids import otlp_span_id, otlp_trace_id
from sync_worker.times import moment_ms
from tests.support.faults import always, status
from tests.support.rows import NOON, iso, row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.scored import SESSION, once, score_on, scored_world, signals_of, trace_with_session
from tests.sync.world import World

HOUR = 3_600_000


def test_a_score_arrives_with_session_and_project_of_its_spans(make_world: MakeWorld) -> None:
    """A signal of another session or project than the spans is silently unlinked in Kelet."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    observation = {"kind": "observation", "id": rows[1]["id"], "traceId": rows[1]["traceId"]}
    world.langfuse.scores.put(
        score_on(rows[0], 1, comment="good"),
        score_on(None, 2, subject=observation, value=True, dataType="BOOLEAN"),
        score_on(None, 3, subject={"kind": "session", "id": SESSION}, value="fine", dataType="TEXT"),
        score_on(None, 4, subject={"kind": "experiment", "id": "run"}),
    )
    report = once(world)
    trace_id = otlp_trace_id("h1-proj-a", rows[0]["traceId"])
    assert [signal.project for signal in world.kelet.signals] == ["support_test"] * 3
    assert {signal.content["session_id"] for signal in world.kelet.signals} == {SESSION}
    assert {span.attributes["session.id"] for span in world.kelet.spans} == {SESSION}
    (one,), (two,), (three,) = (signals_of(world, number) for number in (1, 2, 3))
    assert (one.content["trace_id"], one.content["score"], one.content["value"]) == (trace_id, 0.5, "good")
    assert two.content["metadata"]["span_id"] == otlp_span_id("h1-proj-a", rows[1]["traceId"], rows[1]["id"])
    assert "trace_id" not in three.content
    assert (report.signals_sent, report.scores_of_experiments) == (3, 1)


def test_an_idle_cycle_takes_one_request_more(make_world: MakeWorld) -> None:
    """The customer's own application shares the limit."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(score_on(rows[0], 1))
    once(world)
    for _ in range(5):
        before = len(world.langfuse.requests)
        world.clock.advance(60)
        once(world)
        asked = [request.path for request in world.langfuse.requests[before:]]
        assert [path for path in asked if "observations" not in path] == ["/api/public/v3/scores"]
    assert len(world.kelet.signals) == 1


def test_without_scores_none_are_asked_for(make_world: MakeWorld) -> None:
    """Scores are off unless somebody asks for them."""
    rows = trace_with_session()
    world = scored_world(make_world, rows, SYNC_SCORES="false")
    world.langfuse.scores.put(score_on(rows[0], 1))
    once(world)
    assert not [request for request in world.langfuse.requests if "score" in request.path]
    assert world.kelet.signals == []


def test_a_score_waits_for_its_trace(make_world: MakeWorld) -> None:
    """A signal before its spans would be of a session that is not there."""
    rows = trace_with_session(3590)  # its quiet period lasts
    world = scored_world(make_world, rows, SYNC_SETTLE="60s")
    world.langfuse.scores.put(score_on(rows[0], 1, 3590.0))
    report = once(world)
    assert (world.kelet.signals, report.scores_waiting) == ([], 1)
    for _ in range(5):
        world.clock.advance(60)
        once(world)
    assert len(world.kelet.signals) == len(signals_of(world, 1)) == 1
    order = [request.path for request in world.kelet.requests if request.method == "POST"]
    assert order.index("/api/traces") < order.index("/api/projects/support_test/signal")


def test_a_score_that_is_there_before_its_trace_goes_after_it(make_world: MakeWorld) -> None:
    """Langfuse lists a score at once, and an observation of an old SDK a quarter of an hour late."""
    rows = trace_with_session(3500)
    world = scored_world(make_world, [], SYNC_SETTLE="0s")
    world.langfuse.scores.put(score_on(rows[0], 1, 3500.0))
    once(world)
    assert world.kelet.signals == []
    world.clock.advance(900)
    world.langfuse.rows.add(*rows)
    for _ in range(20):
        world.clock.advance(120)
        once(world)
    assert len(world.kelet.signals) == 1
    assert world.kelet.signals[0].content["session_id"] == SESSION


def test_an_edit_supersedes_and_a_deletion_is_counted(make_world: MakeWorld) -> None:
    """A person's edit does not move `updatedAt`: only the content tells."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(score_on(rows[0], 1))
    once(world)
    world.clock.advance(60)
    once(world)
    world.langfuse.scores.put(score_on(rows[0], 1, value=0.75))
    world.clock.advance(60)
    assert once(world).signals_changed == 1
    first, second = signals_of(world, 1)
    assert second.content["metadata"]["supersedes"] == first.content["metadata"]["revision"]
    assert (first.content["score"], second.content["score"]) == (0.5, 0.75)
    world.langfuse.scores.remove("score-1")
    world.clock.advance(60)
    assert once(world).scores_deleted == 1
    world.clock.advance(60)
    assert once(world).scores_deleted == 0
    assert len(world.kelet.signals) == 2


def test_an_edit_may_be_ignored(make_world: MakeWorld) -> None:
    """Some want the first word only."""
    rows = trace_with_session()
    world = scored_world(make_world, rows, SYNC_SCORE_UPDATES="ignore")
    world.langfuse.scores.put(score_on(rows[0], 1))
    once(world)
    world.langfuse.scores.put(score_on(rows[0], 1, value=0.75))
    world.clock.advance(60)
    once(world)
    assert len(world.kelet.signals) == 1


def test_a_score_is_dated_back_by_a_week(make_world: MakeWorld) -> None:
    """Its time lies before the sync start; its trace does not."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    once(world)
    world.clock.advance(600)
    world.langfuse.scores.put(score_on(rows[0], 1, -7 * 86_400.0))
    for _ in range(30):
        world.clock.advance(3600)
        once(world)
    assert len(signals_of(world, 1)) == 1


def test_a_score_is_given_after_its_trace_was_forgotten(make_world: MakeWorld) -> None:
    """The session and project are those that the spans had, though the ledger knows them no more."""
    rows = trace_with_session()
    world = scored_world(make_world, rows, SYNC_LATE_HORIZONS="20m,1h")
    once(world)
    for _ in range(6):
        world.clock.advance(1800)
        once(world)
    ledger = open_ledger(world.state, world.clock)
    assert ledger.traces(1, [rows[0]["traceId"]]) == {}
    ledger.close()
    now = (world.clock.now_ms() - moment_ms(NOON)) / 1000
    world.langfuse.scores.put(
        score_on(rows[0], 1, now), score_on(None, 2, now, subject={"kind": "session", "id": SESSION})
    )
    world.clock.advance(60)
    once(world)
    assert [signal.content["session_id"] for signal in world.kelet.signals] == [SESSION, SESSION]


def test_a_trace_without_an_accepted_span_has_no_signal_after_it_was_forgotten(make_world: MakeWorld) -> None:
    """The root that Langfuse makes up is done too, but never sent, so it counts as a span of the trace."""
    (root,) = trace(0, start=NOON, seconds=5.0)
    made_up = row(trace=root["traceId"], id="t-" + root["traceId"], start=NOON, seconds=None, name="whole")
    root["parentObservationId"], root["isRootObservation"] = made_up["id"], False
    world = scored_world(make_world, [root, made_up], SYNC_LATE_HORIZONS="20m,1h")
    world.kelet.script = always(status(422))
    assert world.once()[0].dead_letters == 1
    world.kelet.script = None
    for _ in range(6):
        world.clock.advance(1800)
        once(world)
    world.langfuse.scores.put(score_on(root, 1, 4 * 3600.0))
    report = once(world)
    assert (signals_of(world, 1), report.scores_waiting) == ([], 1)


def test_a_trace_that_is_not_synced_holds_its_score(make_world: MakeWorld) -> None:
    """Before the sync start nothing is sent, so its signal would be of nothing."""
    rows = trace_with_session(-3 * 86_400.0)
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(score_on(rows[0], 1), score_on({"traceId": "gone"}, 2))
    for _ in range(3):
        world.clock.advance(3600)
        report = once(world)
    assert (world.kelet.signals, report.scores_waiting) == ([], 1)
    start = moment_ms(NOON) - 4 * 86_400_000
    report, code = world.backfill(start, world.clock.now_ms())
    assert (report.error, code, len(signals_of(world, 1))) == (None, ExitCode.OK, 1)


def test_after_an_outage_scores_go_by_what_was_sent_just_now(make_world: MakeWorld) -> None:
    """It is too old to be remembered: the signal went by what Langfuse lists, which the spans may lack."""
    world = scored_world(make_world, [], SYNC_LATE_HORIZONS="20m,1h")
    once(world)
    rows = trace_with_session(3700.0)
    world.langfuse.rows.extend(rows)
    world.langfuse.scores.put(score_on(rows[0], 1, 3705.0))
    world.clock.advance(10 * 3600)
    before = len(world.langfuse.requests)
    report = once(world)
    assert (report.spans_sent, report.signals_sent) == (len(rows), 1)
    asked = [request for request in world.langfuse.requests[before:] if rows[0]["traceId"] in str(request.query)]
    assert asked == []


def test_a_score_goes_with_the_cycle_that_syncs_its_trace_at_last(make_world: MakeWorld) -> None:
    """While the sync is behind, scores wait longer and longer: the signals came up to six hours after their spans."""
    rows = trace_with_session(3590.0)
    world = scored_world(make_world, rows, SYNC_SETTLE="5h", SYNC_MAX_OPEN="6h")
    world.langfuse.scores.put(score_on(rows[0], 1, 3595.0))
    spans = signals = 0
    while not spans:
        world.clock.advance(600)
        report = once(world)
        spans, signals = report.spans_sent, report.signals_sent
    assert (spans, signals) == (len(rows), 1)


def test_a_backfill_brings_the_scores_of_its_range_once(make_world: MakeWorld) -> None:
    """It is repeated after a kill; what it has brought it does not bring again."""
    rows = trace_with_session(-40 * 86_400.0)
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(*(score_on(rows[0], number, -40 * 86_400.0 + number) for number in range(250)))
    start = moment_ms(NOON) - 41 * 86_400_000
    for _ in range(2):
        report, code = world.backfill(start, start + 3 * 86_400_000)
        assert (report.error, code) == (None, ExitCode.OK)
    assert len(world.kelet.signals) == 250
    assert {signal.content["session_id"] for signal in world.kelet.signals} == {SESSION}


def test_a_route_takes_the_signal_along(make_world: MakeWorld, tmp_path: Any) -> None:
    """A signal in another project than its spans is invisible."""
    one, other = trace_with_session(environment="prod"), trace_with_session(10, environment="dev", session="session-2")
    world = scored_world(make_world, [*one, *other])
    tmp_path.joinpath("sync.toml").write_text(
        '[[sources]]\nname = "one"\n[[sources.routes]]\nproject = "elsewhere"\nenvironment = "dev"\n'
        '[[sources.scores]]\nmatch = "stars*"\nrange = [1, 5]\ntrigger = "user-stars"\nkind = "feedback"\n'
        'source = "human"\n[[sources.scores]]\nmatch = "secret"\nskip = true\n'
    )
    world.langfuse.scores.put(
        score_on(one[0], 1, name="stars", value=4),
        score_on(other[0], 2, name="hallucination", value=0.25),
        score_on(one[0], 3, name="secret"),
        score_on(None, 4, subject={"kind": "session", "id": "session-2"}, name="tokens", value=812),
    )
    once(world)
    assert {signal.content["metadata"]["langfuse_score_id"]: signal.project for signal in world.kelet.signals} == {
        "score-1": "support_test", "score-2": "elsewhere", "score-4": "elsewhere",
    }  # fmt: skip
    stars, hallucination, tokens = (signals_of(world, number)[0].content for number in (1, 2, 4))
    assert (stars["score"], stars["trigger_name"], stars["kind"], stars["source"]) == (
        0.75, "user-stars", "feedback", "human",
    )  # fmt: skip
    assert hallucination["score"] == 0.75
    assert "score" not in tokens
    assert tokens["value"] == "tokens=812"


def test_a_range_comes_from_its_config_and_is_asked_for_once(make_world: MakeWorld) -> None:
    """A config that is gone means no range, not a server of another generation."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.configs["stars"] = {"id": "stars", "minValue": 1, "maxValue": 5, "categories": None}
    world.langfuse.scores.put(
        score_on(rows[0], 1, configId="stars", value=4, source="ANNOTATION"),
        score_on(rows[0], 2, configId="stars", value=9),
        score_on(rows[0], 3, configId="nope", value=7),
    )
    once(world)
    world.clock.advance(60)
    once(world)
    found = {signal.content["metadata"]["langfuse_score_id"]: signal.content for signal in world.kelet.signals}
    assert (found["score-1"]["score"], found["score-1"]["kind"], found["score-1"]["source"]) == (
        0.75,
        "metric",
        "label",
    )
    assert "score" not in found["score-2"]
    assert "score" not in found["score-3"]
    assert len([request for request in world.langfuse.requests if "score-configs" in request.path]) == 2


def test_authors_stay_out_unless_asked_for(make_world: MakeWorld) -> None:
    """Who annotated is a person."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(score_on(rows[0], 1))
    once(world)
    assert not {"langfuse_author_id", "langfuse_queue_id"} & world.kelet.signals[0].content["metadata"].keys()
    world.environ["SYNC_SCORE_AUTHORS"] = "true"
    world.langfuse.scores.put(score_on(rows[0], 2))
    world.clock.advance(60)
    once(world)
    (second,) = signals_of(world, 2)
    assert second.content["metadata"]["langfuse_author_id"] == "author"


def test_names_choose(make_world: MakeWorld) -> None:
    """A list of names and globs; what is left out costs nothing later."""
    rows = trace_with_session()
    world = scored_world(make_world, rows, SYNC_SCORES="user-*,quality,!user-test")
    names = ("user-vote", "user-test", "quality", "other")
    world.langfuse.scores.put(*(score_on(rows[0], number, name=name) for number, name in enumerate(names)))
    once(world)
    assert sorted(signal.content["metadata"]["langfuse_score_name"] for signal in world.kelet.signals) == [
        "quality", "user-vote",
    ]  # fmt: skip


def test_commands_know_scores(make_world: MakeWorld) -> None:
    """What became of each is shown; `scores test` sends nothing."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(score_on(rows[0], 1), score_on(rows[0], 2, name="stars", value=4))
    once(world)
    world.langfuse.scores.put(score_on(rows[0], 3))
    code, explained = world.program_json("explain", rows[0]["traceId"])
    assert [(one["score_id"], one["state"]) for one in explained["sources"][0]["scores"]] == [
        ("score-1", "sent"), ("score-2", "sent"), ("score-3", "new"),
    ]  # fmt: skip
    _, state = world.program_json("status")
    assert state["sources"][0]["scores"]["sent"] == 2
    _, plan = world.program_json("plan", "--from", "2020-01-01T00:00:00Z", "--to", "now")
    assert plan["sources"][0]["scores"] == 3
    code, verdict = world.program_json("verify", "--from", "2020-01-01T00:00:00Z", "--to", "now")
    assert (code, verdict["sources"][0]["score_findings"]["missing_ids"]) == (6, ["score-3"])
    code, shown = world.program_json("scores", "test", "--from", "2020-01-01T00:00:00Z")
    (source,) = shown["sources"]
    assert (code, source["scores"], [one["unrated"] for one in source["names"]]) == (0, 3, [0, 1])
    assert len(world.kelet.signals) == 2


def test_two_runs_send_a_score_once(make_world: MakeWorld) -> None:
    """A backfill beside the live sync lists the same scores."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(*(score_on(rows[0], number, number) for number in range(20)))
    once(world)
    report, code = world.backfill(moment_ms(NOON) - HOUR, world.clock.now_ms())
    assert (report.error, code, len(world.kelet.signals)) == (None, ExitCode.OK, 20)


def test_a_trace_that_is_left_out_takes_its_scores_along(make_world: MakeWorld) -> None:
    """A signal of a trace that is not synced would tell of it all the same."""
    kept, other = trace_with_session(), trace_with_session(10, environment="dev", session="session-2")
    world = scored_world(make_world, [*kept, *other], SYNC_EXCLUDE_ENVIRONMENTS="dev")
    world.langfuse.scores.put(
        score_on(kept[0], 1), score_on(other[0], 2), score_on(None, 3, subject={"kind": "session", "id": "session-2"})
    )
    report = once(world)
    assert [signal.content["metadata"]["langfuse_score_id"] for signal in world.kelet.signals] == ["score-1"]
    world.clock.advance(60)
    assert (report.scores_filtered, once(world).scores_filtered) == (2, 0)


def test_a_trace_that_is_sent_all_the_same_takes_its_scores_along(make_world: MakeWorld) -> None:
    """`send` overrules the filter for the spans, and the scores stay filtered."""
    rows = trace_with_session(environment="dev")
    world = scored_world(make_world, rows, SYNC_EXCLUDE_ENVIRONMENTS="dev")
    once(world)
    (result,) = world.send(rows[0]["traceId"])
    assert result.sent == 3
    world.langfuse.scores.put(score_on(rows[0], 1, 3600.0))
    world.clock.advance(60)
    once(world)
    assert [signal.content["session_id"] for signal in signals_of(world, 1)] == [SESSION]


def test_what_is_redacted_on_spans_is_redacted_on_signals(make_world: MakeWorld) -> None:
    """What a user wrote of himself would leave by the comment of a score."""
    rows = trace_with_session(session="jane@example.com")
    world = scored_world(make_world, rows, SYNC_REDACT="email", SYNC_PSEUDONYM_KEY="0" * 64)
    on_session = {"kind": "session", "id": "jane@example.com"}
    world.langfuse.scores.put(
        score_on(rows[0], 1, comment="write to jane@example.com", metadata={"who": "jane@example.com"}),
        score_on(None, 2, subject=on_session),
    )
    once(world)
    assert len(world.kelet.signals) == 2
    assert "jane@example.com" not in str(world.kelet.signals)
    spans = {span.attributes["session.id"] for span in world.kelet.spans}
    assert {signal.content["session_id"] for signal in world.kelet.signals} == spans


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"SYNC_EXCLUDE_METADATA": "*mail*,secret"}, {"user_id": "jane", "team": "a", "inner": {"enduser": "joe"}}),
        ({"SYNC_INCLUDE_METADATA": "team"}, {"team": "a"}),
        ({"SYNC_INCLUDE_METADATA": "none-of-it"}, None),
        ({"SYNC_USER_IDS": "drop"}, {"e-mail": "j@x.org", "secret": "s", "team": "a", "inner": {}}),
        ({"SYNC_REDACT": "email", "SYNC_USER_IDS": "drop"},
         {"e-mail": "[redacted:email]", "secret": "s", "team": "a", "inner": {}}),
    ],
)  # fmt: skip
def test_what_is_left_out_of_metadata_is_left_out_of_that_of_scores(
    make_world: MakeWorld, settings: dict[str, str], left: dict[str, Any] | None
) -> None:
    """A user id, or a key that may not leave, leaves by the metadata of a score."""
    rows = trace_with_session()
    world = scored_world(make_world, rows, **settings)
    metadata = {"user_id": "jane", "e-mail": "j@x.org", "secret": "s", "team": "a", "inner": {"enduser": "joe"}}
    world.langfuse.scores.put(score_on(rows[0], 1, metadata=metadata), score_on(rows[0], 2, metadata=[metadata]))
    once(world)
    (one,), (of_list,) = signals_of(world, 1), signals_of(world, 2)
    assert one.content["metadata"].get("langfuse_metadata") == left
    assert of_list.content["metadata"].get("langfuse_metadata") == (None if left is None else [left])


def test_user_ids_of_scores_are_pseudonyms_as_on_spans(make_world: MakeWorld) -> None:
    """A user of a score is another one than that of its spans, or leaves as he is."""
    rows = trace_with_session(user="jane")
    world = scored_world(make_world, rows, SYNC_USER_IDS="pseudonym", SYNC_PSEUDONYM_KEY="0" * 64)
    world.langfuse.scores.put(score_on(rows[0], 1, metadata={"userId": "jane", "by": {"user.id": "joe"}}))
    once(world)
    (signal,) = signals_of(world, 1)
    shown = signal.content["metadata"]["langfuse_metadata"]
    assert {span.attributes["user.id"] for span in world.kelet.spans} == {shown["userId"]}
    assert shown["by"]["user.id"].startswith("[redacted:user:")
    assert shown["by"]["user.id"] != shown["userId"]


def test_scores_test_shows_the_session_of_a_score_as_it_would_be_sent(make_world: MakeWorld) -> None:
    """It shows an address that redaction would replace, as if that were sent."""
    world = scored_world(make_world, trace_with_session(session="jane@example.com"), SYNC_REDACT="email")
    world.langfuse.scores.put(score_on(None, 1, subject={"kind": "session", "id": "jane@example.com"}))
    code, found = world.program_json("scores", "test", "--from", "2026-11-20T00:00:00Z")
    (one,) = found["sources"][0]["names"]
    (example,) = one["examples"]
    assert (code, example["signal"]["session_id"].startswith("[redacted:email:")) == (0, True)


def test_windows_begin_with_the_first_try_not_with_the_first_that_works(make_world: MakeWorld) -> None:
    """Langfuse is out of reach for hours when the worker is set up: scores of the traces that it then sends are due."""
    rows = trace_with_session()
    world = scored_world(make_world, rows, SYNC_SCORE_HORIZONS="20m,1h")
    world.langfuse.script = lambda _: status(503)
    world.once()
    world.clock.advance(6 * 3600)
    world.langfuse.script = None
    world.langfuse.scores.put(score_on(rows[0], 1, 60.0))
    once(world)
    assert len(signals_of(world, 1)) == 1


def _days_of_cycles(world: World, days: int) -> None:
    for _ in range(4 * days):
        world.clock.advance(21_600)
        once(world)


def test_a_backfill_knows_what_the_live_sync_sent_and_forgot(make_world: MakeWorld) -> None:
    """Signals have no ids: Kelet would count each score twice."""
    rows = trace_with_session()
    world = scored_world(make_world, rows, SYNC_SCORE_HORIZONS="1h,1d")
    given = NOON + timedelta(days=5)
    world.langfuse.scores.put(score_on(rows[0], 1, 60.0))
    _days_of_cycles(world, 6)
    assert world.program_json("status")[1]["sources"][0]["scores"]["sent"] == 0  # it is forgotten
    world.langfuse.scores.put(score_on(rows[0], 2, 60.0, createdAt=iso(given)))
    _days_of_cycles(world, 2)
    assert len(signals_of(world, 2)) == 0  # too late for the live sync
    report, code = world.backfill(moment_ms(NOON) - HOUR, moment_ms(NOON) + HOUR)
    assert (report.error, code) == (None, ExitCode.OK)
    assert [len(signals_of(world, number)) for number in (1, 2)] == [1, 1]


def test_names_that_are_wanted_later_come_by_a_backfill(make_world: MakeWorld) -> None:
    """The interval counts as read, though not for these."""
    rows = trace_with_session()
    world = scored_world(make_world, rows, SYNC_SCORES="csat", SYNC_SCORE_HORIZONS="1h,1d")
    world.langfuse.scores.put(score_on(rows[0], 1, 60.0, name="csat"), score_on(rows[0], 2, 60.0, name="quality"))
    world.langfuse.scores.put(score_on(rows[0], 3, -7 * 86_400.0, name="csat"))
    world.langfuse.scores.put(score_on(rows[0], 4, -7 * 86_400.0, name="quality"))
    whole = moment_ms(NOON) - 8 * 86_400_000, moment_ms(NOON) + HOUR
    once(world)
    world.backfill(*whole)
    _days_of_cycles(world, 3)
    world.environ["SYNC_SCORES"] = "true"
    once(world)
    _days_of_cycles(world, 1)
    report, code = world.backfill(*whole)
    assert (report.error, code) == (None, ExitCode.OK)
    assert [len(signals_of(world, number)) for number in (1, 2, 3, 4)] == [1, 1, 1, 1]
