"""Real rows of a real server, each arriving once and as what it is."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from sync_worker.demo.receiver import ReceivedSpan
from sync_worker.spans.ids import otlp_span_id
from tests.support.rows import Row, recorded_rows
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities, identity

ALL = {"SYNC_START": "2024-01-01T00:00:00Z"}
#: Noon of 2026-11-20 plus this is the afternoon of 2026-11-24: after the row that a wrong clock dated tomorrow.
LATER = 4.2 * 86_400


def _nanoseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000


def _latest() -> dict[tuple[str, str], Row]:
    """Return the rows by their span's ids; of a row that stands there twice, the state written last."""
    latest: dict[tuple[str, str], Row] = {}
    for row in recorded_rows():
        held = latest.get(identity(row))
        if held is None or row["updatedAt"] > held["updatedAt"]:
            latest[identity(row)] = row
    return latest


@pytest.fixture
def synced(make_world: MakeWorld) -> World:
    """All recorded rows, brought over in one run."""
    made = make_world(recorded_rows(), LATER, **ALL)
    report, code = made.once()
    assert (report.error, code) == (None, 0)
    return made


def _pairs(synced: World) -> list[tuple[Row, ReceivedSpan]]:
    rows = _latest()
    return [(rows[span.trace_id, span.span_id], span) for span in synced.kelet.spans]


def test_every_row_arrives_once(synced: World) -> None:
    """A row is lost, or arrives twice: 822 rows, one of which stands there in two states."""
    assert identities(recorded_rows()) == synced.arrived()
    assert len(synced.kelet.spans) == 821


def test_times_names_and_levels(synced: World) -> None:
    """A span has another time, name or status than its row."""
    for row, span in _pairs(synced):
        assert _nanoseconds(row["startTime"]) == span.start_ns
        assert max(_nanoseconds(row["endTime"]), span.start_ns) == span.end_ns
        assert row["name"] == span.name
        assert (2 if row["level"] == "ERROR" else 0) == span.status_code
        if row["level"] == "ERROR":
            assert row["statusMessage"] == span.status_message


def test_parents(synced: World) -> None:
    """A tree is not the tree of the rows; parents that never reached Langfuse stay named."""
    for row, span in _pairs(synced):
        parent = row["parentObservationId"]
        expected = otlp_span_id(row["projectId"], row["traceId"], parent) if parent else ""
        assert expected == span.parent_id
    assert synced.span("missing-parent").parent_id == "ffffffffffffff01"


def _at(span: ReceivedSpan, key: str) -> Any:
    return span.attributes.get(key)


def test_content(synced: World) -> None:
    """Input, output or metadata of a row do not reach its span whole, unicode, NUL and empty values included."""
    for row, span in _pairs(synced):
        if len(row["input"] or "") < 1_000_000:
            assert (row["input"] or None) == _at(span, "langfuse.observation.input")
            assert (row["output"] or None) == _at(span, "langfuse.observation.output")
    assert _at(synced.span("io-nul"), "langfuse.observation.input") == "a\x00b"


def test_large_value_is_cut_with_a_mark(synced: World) -> None:
    """A value of 1 MB loses more than what is over the limit, or does not say that it was cut."""
    (row,) = [row for row in recorded_rows() if row["name"] == "huge"]
    value = _at(synced.span("huge"), "langfuse.observation.input")
    size = len(row["input"].encode())
    if size <= 1_048_576:
        assert row["input"] == value
    else:
        assert value.endswith(f"[cut by the sync worker: {size} bytes in all]")
        assert len(value.encode()) <= 1_048_576


def _native(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters as the SDK got them: Langfuse keeps numbers and makes text of booleans and lists."""
    text = {"true": True, '["a","b"]': ["a", "b"]}
    return {key: text.get(value, value) if isinstance(value, str) else value for key, value in parameters.items()}


def _is_computed(row: Row) -> bool:
    """Whether Langfuse computed a cost that its SDK had not given."""
    reported = {"v3-gen", "huge", "orphan-child", "embed", "gen"}
    return row["metadata"].get("scope.name") == "langfuse-sdk" and row["name"] in reported


def test_model_and_usage(synced: World) -> None:
    """A generation's model, parameters, tokens or cost differ from its row."""
    for row, span in _pairs(synced):
        assert (row["model"] or None) == _at(span, "langfuse.observation.model.name")
        usage, cost, parameters = (
            json.loads(_at(span, f"langfuse.observation.{name}") or "{}")
            for name in ("usage_details", "cost_details", "model.parameters")
        )
        added = {"total": usage["input"]} if usage.keys() == {"input"} else {}  # by Langfuse
        assert row["usageDetails"] == usage | added
        assert cost == ({} if _is_computed(row) else row["costDetails"])
        assert _native(row["modelParameters"]) == parameters
        if row["type"] == "GENERATION" and "attributes.gen_ai.usage.input_tokens" not in row["metadata"]:
            assert (row["inputUsage"] or None) == (_at(span, "gen_ai.usage.input_tokens") or None)
            assert (row["outputUsage"] or None) == (_at(span, "gen_ai.usage.output_tokens") or None)
            assert (row["model"] or None) == _at(span, "gen_ai.request.model")


def test_session_user_and_tags_reach_every_span(synced: World) -> None:
    """A span of a trace whose session, user or tags some row knows goes without them."""
    known: dict[tuple[str, str], Any] = {}
    for row in recorded_rows():
        for key in ("sessionId", "userId", "tags"):
            if row[key]:
                known.setdefault((row["traceId"], key), row[key])
    for row, span in _pairs(synced):
        session = known.get((row["traceId"], "sessionId"))
        assert session == _at(span, "session.id")
        assert (session or row["traceId"]) == _at(span, "gen_ai.conversation.id")
        assert known.get((row["traceId"], "userId")) == _at(span, "user.id")
        tags = known.get((row["traceId"], "tags"), [])
        assert ",".join(tags) == (_at(span, "metadata.tags") or "")
        own = row["metadata"].get("scope.name") == "langfuse-sdk"  # its SDK wrote them where they are
        assert ((row["tags"] if own else tags) or None) == _at(span, "langfuse.trace.tags")


def test_project_and_types(synced: World) -> None:
    """A span goes without its project, which Kelet would lose in silence, or without its type."""
    for row, span in _pairs(synced):
        assert span.project == "support_test"
        assert span.attributes["kelet.project"] == "support_test"
        assert span.resource["kelet.project"] == "support_test"
        assert span.resource["service.name"]
        assert row["type"].lower() == _at(span, "langfuse.observation.type")


def test_second_run_sends_nothing(synced: World) -> None:
    """A run with nothing new costs more than four requests, or sends something again."""
    requests, posts = synced.langfuse_requests(), len(synced.kelet.trace_requests)
    synced.clock.advance(60)
    report, code = synced.once()
    assert (report.spans_sent, code) == (0, 0)
    assert synced.langfuse_requests() - requests <= 4
    assert len(synced.kelet.trace_requests) == posts


def test_backfill_brings_the_same(make_world: MakeWorld) -> None:
    """A backfill loses or doubles rows where intervals meet, or brings them twice when it is run again."""
    made = make_world(recorded_rows(), LATER)
    now = made.clock.now_ms()
    for _ in range(2):
        report, code = made.backfill(now - 800 * 86_400_000, now)
        assert (report.error, code) == (None, 0)
        assert identities(recorded_rows()) == made.arrived()
