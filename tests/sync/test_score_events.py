"""Scores to targets of plain OTLP: log events, with what holds of signals."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from sync_worker.demo.serving import Reply
from sync_worker.errors import ExitCode
from sync_worker.spans.ids import otlp_span_id, otlp_trace_id
from tests.support.faults import status
from tests.support.receivers import AnyReceiver
from tests.support.rows import NOON, Row, score, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World

KEY = "Bearer phoenix-key-of-the-test"
TO_PHOENIX = {
    "SYNC_TARGET": "phoenix", "SYNC_TARGET_KEY": KEY.removeprefix("Bearer "), "SYNC_TARGET_PROJECT": "lab",
    "SYNC_SCORES": "true", "SYNC_SCORE_EVENTS": "true", "SYNC_SETTLE": "0s",
}  # fmt: skip


@pytest.fixture
def phoenix() -> Iterator[AnyReceiver]:
    """A receiver that takes traces and logs."""
    with AnyReceiver("/v1/traces", KEY) as receiver:
        receiver.logs_path = "/v1/logs"
        yield receiver


def _world(make_world: MakeWorld, phoenix: AnyReceiver, rows: list[Row], **environ: str) -> World:
    made = make_world(rows, **(TO_PHOENIX | {"SYNC_TARGET_URL": phoenix.url} | environ))
    for name in ("KELET_API_URL", "KELET_API_KEY", "KELET_PROJECT"):
        del made.environ[name]
    return made


def _score(number: int, row: Row, at: float = 0.0, **fields: Any) -> dict[str, Any]:
    return score(number, row["traceId"], NOON + timedelta(seconds=at), **fields)


def _once(world: World) -> Any:
    report, code = world.once()
    assert (report.error, code) == (None, ExitCode.OK)
    return report


def _attributes(record: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in record.attributes}


@pytest.mark.parametrize(("target", "encoding"), [("phoenix", "protobuf"), ("otlp", "json")])
def test_a_score_arrives_as_an_event_once(
    make_world: MakeWorld, phoenix: AnyReceiver, target: str, encoding: str
) -> None:
    """It is on the span that it is of, by the names of the conventions, in the encoding of the spans."""
    rows = trace(2, session="session-1", user="ada")
    world = _world(make_world, phoenix, rows, SYNC_TARGET_ENCODING=encoding, SYNC_TARGET=target)
    subject = {"kind": "observation", "id": rows[1]["id"], "traceId": rows[1]["traceId"]}
    world.langfuse.scores.put(
        _score(1, rows[0], subject=subject, comment="why", value=4),
        _score(2, rows[0], 1.0, dataType="CATEGORICAL", value="good", source="ANNOTATION"),
    )
    assert _once(world).signals_sent == 2
    world.clock.advance(60)
    assert _once(world).signals_sent == 0
    first, second = phoenix.records
    assert (first.event_name, first.time_unix_nano) == ("gen_ai.evaluation.result", int(NOON.timestamp()) * 10**9)
    assert first.trace_id.hex() == otlp_trace_id("h1-proj-a", rows[0]["traceId"])
    assert first.span_id.hex() == otlp_span_id("h1-proj-a", rows[1]["traceId"], rows[1]["id"])
    found = _attributes(first)
    revision = found.pop("langfuse.score.revision")
    assert found == {
        "gen_ai.evaluation.name": "quality", "gen_ai.evaluation.score.value": 4.0,
        "gen_ai.evaluation.explanation": "why", "session.id": "session-1", "gen_ai.conversation.id": "session-1",
        "user.id": "ada", "langfuse.score.id": "score-1", "langfuse.score.source": "API",
        "langfuse.score.data_type": "NUMERIC",
    }  # fmt: skip
    assert _attributes(second)["gen_ai.evaluation.score.label"] == "good"
    of_project = {"openinference.project.name": "lab"} if target == "phoenix" else {}
    assert phoenix.log_resources[0] == {"service.name": "lab"} | of_project
    world.langfuse.scores.put(_score(1, rows[0], subject=subject, comment="why", value=5))
    world.clock.advance(60)
    _once(world)
    assert _attributes(phoenix.records[-1])["langfuse.score.supersedes"] == revision


def test_without_the_setting_no_event_is_sent(make_world: MakeWorld, phoenix: AnyReceiver) -> None:
    """A target may have no logs endpoint: nobody asked for it."""
    rows = trace(2)
    world = _world(make_world, phoenix, rows, SYNC_SCORE_EVENTS="false")
    world.langfuse.scores.put(_score(1, rows[0]))
    _once(world)
    assert {request.path for request in phoenix.requests} == {"/v1/traces"}
    assert not [request for request in world.langfuse.requests if "scores" in request.path]


def test_what_is_redacted_on_spans_is_redacted_on_events(make_world: MakeWorld, phoenix: AnyReceiver) -> None:
    """What a user wrote of himself would leave by the comment of a score."""
    rows = trace(2, session="jane@example.com", user="jane@example.com")
    world = _world(make_world, phoenix, rows, SYNC_REDACT="email", SYNC_PSEUDONYM_KEY="0" * 64)
    world.langfuse.scores.put(
        _score(1, rows[0], comment="write to jane@example.com", name="of jane@example.com"),
        _score(2, rows[0], 1.0, dataType="TEXT", value="jane@example.com"),
    )
    _once(world)
    assert len(phoenix.records) == 2
    assert "jane@example.com" not in str(phoenix.records)
    spans = {span.attributes["session.id"] for span in phoenix.spans}
    assert {_attributes(record)["session.id"] for record in phoenix.records} == spans


def test_what_is_redacted_is_redacted_after_its_trace_was_forgotten(
    make_world: MakeWorld, phoenix: AnyReceiver
) -> None:
    """Session and user are read from Langfuse again: they would leave, or the events be apart from their spans."""
    rows, dropped = trace(2, session="jane@example.com", user="jane@example.com"), trace(2, environment="dev")
    world = _world(
        make_world, phoenix, [*rows, *dropped], SYNC_REDACT="email", SYNC_PSEUDONYM_KEY="0" * 64,
        SYNC_LATE_HORIZONS="20m,1h", SYNC_EXCLUDE_ENVIRONMENTS="dev",
    )  # fmt: skip
    for _ in range(6):
        _once(world)
        world.clock.advance(1800)
    world.langfuse.scores.put(_score(1, rows[0], 3 * 3600), _score(2, dropped[0], 3 * 3600))
    before = len(world.langfuse.requests)
    assert _once(world).scores_filtered == 1
    assert any("traceId" in dict(request.params).get("filter", "") for request in world.langfuse.requests[before:])
    (record,) = phoenix.records
    (shown,) = {(span.attributes["session.id"], span.attributes["user.id"]) for span in phoenix.spans}
    assert "jane@example.com" not in shown
    assert (_attributes(record)["session.id"], _attributes(record)["user.id"]) == shown


PAGE = Reply(200, {"Content-Type": "text/html"}, b"<html>sign in</html>")
PARTIAL = {
    "json": Reply(
        200, {"Content-Type": "application/json"}, b'{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"no"}}'
    ),
    "protobuf": Reply(200, {"Content-Type": "application/x-protobuf"}, b"\n\x06\x08\x01\x12\x02no"),
}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (PAGE, ExitCode.PAUSED), (status(404), ExitCode.PAUSED), (status(405), ExitCode.PAUSED),
        (status(401), ExitCode.CREDENTIALS), (status(422), ExitCode.DEAD_LETTERS),
        (PARTIAL["json"], ExitCode.DEAD_LETTERS), (PARTIAL["protobuf"], ExitCode.DEAD_LETTERS),
        (status(503), ExitCode.TRANSIENT),
    ],
)  # fmt: skip
def test_answers_mean_what_they_mean_of_signals(
    make_world: MakeWorld, phoenix: AnyReceiver, reply: Reply, expected: int
) -> None:
    """Spans go on; an event is marked for an acknowledgement alone."""
    rows = trace(2)
    world = _world(make_world, phoenix, rows)
    world.langfuse.scores.put(_score(1, rows[0]))
    phoenix.script = lambda request: reply if request.path == "/v1/logs" else None
    report, code = world.once(patience=10.0)
    assert (code, report.signals_sent, len(phoenix.spans)) == (expected, 0, len(rows))
    phoenix.script = None
    world.clock.advance(120)
    if expected == ExitCode.DEAD_LETTERS:
        code, result = world.program_json("dead-letters", "retry", "--all")
        assert (code, result["sent"], result["left"]) == (0, 1, 0)
    else:
        _once(world)
    assert len(phoenix.records) == 1


def test_commands_know_events(make_world: MakeWorld, phoenix: AnyReceiver) -> None:
    """`scores test` shows what goes to this target; a backfill of scores that go nowhere is refused."""
    rows = trace(2)
    world = _world(make_world, phoenix, rows)
    world.langfuse.scores.put(_score(1, rows[0]))
    _once(world)
    code, shown = world.program_json("scores", "test", "--from", "2020-01-01T00:00:00Z")
    (example,) = shown["sources"][0]["names"][0]["examples"]
    assert (code, example["signal"]["gen_ai.evaluation.name"]) == (0, "quality")
    world.environ["SYNC_SCORE_EVENTS"] = "false"
    code, _, err = world.program("backfill", "--from", "2026-11-20T00:00:00Z", "--to", "now", "--scores", "only")
    assert (code, "SYNC_SCORE_EVENTS=true" in err) == (ExitCode.USAGE, True)
