"""What a score becomes, field by field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from sync_worker.configured import ScoreOverride
from sync_worker.records import Score, ScoreConfig
from sync_worker.signals.content import content_of
from sync_worker.signals.evaluation import to_event, to_request
from sync_worker.signals.mapping import to_signal
from sync_worker.signals.score_names import is_feedback, is_wanted, slug
from sync_worker.signals.signal_model import Attribution
from sync_worker.spans.ids import otlp_span_id, otlp_trace_id

TRACE = "0" * 31 + "7"
SCORE = Score("s1", "quality", "NUMERIC", "API", 1_795_348_800_123, 0.25, trace_id=TRACE)
HERE = Attribution("project", "session", "user")
STARS = ScoreConfig(1.0, 5.0)
LABELS = ScoreConfig(categories=(("bad", 0.0), ("fair", 1.0), ("good", 4.0)))


def _signal(config: ScoreConfig | None = None, override: ScoreOverride | None = None, **changes: Any) -> dict[str, Any]:
    return to_signal(replace(SCORE, **changes), "p", HERE, config, override).as_json()


@pytest.mark.parametrize(
    ("source", "name", "type_", "config", "expected"),
    [
        ("API", "quality", "NUMERIC", None, ("metric", "synthetic", "api-quality")),
        ("API", "user_feedback", "NUMERIC", None, ("feedback", "human", "user-user-feedback")),
        ("API", "thumbsUp", "BOOLEAN", None, ("feedback", "human", "user-thumbsup")),
        ("API", "note", "TEXT", None, ("feedback", "synthetic", "api-note")),
        ("EVAL", "Answer Relevance", "NUMERIC", None, ("metric", "synthetic", "eval-answer-relevance")),
        ("EVAL", "note", "TEXT", None, ("arbitrary", "synthetic", "eval-note")),
        ("ANNOTATION", "rating", "NUMERIC", STARS, ("metric", "label", "annotation-rating")),
        ("ANNOTATION", "rating", "NUMERIC", None, ("feedback", "label", "annotation-rating")),
        ("ANNOTATION", "verdict", "CATEGORICAL", LABELS, ("feedback", "label", "annotation-verdict")),
        ("ANNOTATION", "output", "CORRECTION", None, ("edit", "label", "annotation-edit")),
        ("API", "output", "CORRECTION", None, ("edit", "human", "user-edit")),
    ],
)
def test_kind_source_and_trigger(
    source: str, name: str, type_: str, config: ScoreConfig | None, expected: tuple[str, str, str]
) -> None:
    """Kelet weighs a signal by kind and source, and groups by trigger name."""
    found = _signal(config, source=source, name=name, type=type_, value="x")
    assert (found["kind"], found["source"], found["trigger_name"]) == expected


@pytest.mark.parametrize(
    ("changes", "config", "override", "expected"),
    [
        ({"value": 0.25}, None, None, 0.25),
        ({"value": 4.0}, STARS, None, 0.75),
        ({"value": 4.0}, None, None, None),
        ({"value": 7.0}, STARS, None, None),
        ({"value": 5.000000001}, STARS, None, 1.0),
        ({"value": -0.5}, None, None, None),
        ({"value": 30.0}, STARS, ScoreOverride("q*", range=(0.0, 60.0), invert=True), 0.5),
        ({"value": 0.25, "name": "hallucination"}, None, None, 0.75),
        ({"value": 0.25, "name": "hallucination"}, None, ScoreOverride("*", invert=False), 0.25),
        ({"value": True, "type": "BOOLEAN"}, None, None, 1.0),
        ({"value": False, "type": "BOOLEAN"}, None, None, 0.0),
        ({"value": "fair", "type": "CATEGORICAL"}, LABELS, None, 0.25),
        ({"value": "new", "type": "CATEGORICAL"}, LABELS, None, None),
        ({"value": "fair", "type": "CATEGORICAL"}, None, None, None),
        ({"value": "words", "type": "TEXT"}, None, None, None),
    ],
)
def test_score_is_placed_in_its_range_and_never_guessed(
    changes: dict[str, Any], config: ScoreConfig | None, override: ScoreOverride | None, expected: float | None
) -> None:
    """A number out of any known range says nothing of good and bad."""
    assert _signal(config, override, **changes).get("score") == expected


def test_value_is_what_a_person_reads() -> None:
    """A label, a text, a comment, or a number that has no range."""
    assert _signal(value=812.0)["value"] == "quality=812"
    assert "value" not in _signal()
    assert _signal(comment="why")["value"] == "why"
    assert _signal(type="CATEGORICAL", value="good", comment="why")["value"] == "good: why"
    assert _signal(type="TEXT", value="words", comment="why")["value"] == "words"
    assert _signal(type="TEXT", value="words", comment="why")["metadata"]["langfuse_comment"] == "why"


def test_ids_are_those_of_the_spans() -> None:
    """A signal of other ids is unlinked."""
    found = _signal(observation_id="obs")
    assert (found["trace_id"], found["session_id"]) == (otlp_trace_id("p", TRACE), "session")
    assert found["metadata"]["span_id"] == otlp_span_id("p", TRACE, "obs")
    assert found["timestamp"] == "2026-11-22T12:00:00.123+00:00"
    on_session = _signal(trace_id=None, session_id="session")
    assert ("trace_id" in on_session, on_session["session_id"]) == (False, "session")


def test_content_shows_edits_and_nothing_else() -> None:
    """What a signal says decides whether it is sent again, not when Langfuse wrote it."""
    same = replace(SCORE, updated_ms=5, created_ms=6, author_id="me", timestamp_ms=7, value=0.25 + 1e-13)
    assert content_of(same) == content_of(SCORE)
    edits: list[dict[str, Any]] = [
        {"value": 0.26}, {"comment": "x"}, {"name": "other"}, {"metadata": {"a": 1}}, {"trace_id": "x"},
    ]  # fmt: skip
    for edit in edits:
        assert content_of(replace(SCORE, **edit)) != content_of(SCORE)


def test_supersedes_names_the_revision() -> None:
    """Kelet cannot take a signal back: the new one says which it replaces."""
    edited = replace(SCORE, value=0.5)
    signal = to_signal(edited, "p", HERE, supersedes=content_of(SCORE))
    assert signal.metadata["supersedes"] == to_signal(SCORE, "p", HERE).metadata["revision"]


def test_names_choose() -> None:
    """A glob with `!` leaves out, whatever else fits."""
    assert is_wanted("a", ["*"])
    assert not is_wanted("a", [])
    assert is_wanted("user-x", ["user-*", "!user-test"])
    assert not is_wanted("user-test", ["user-*", "!user-test"])
    assert (is_wanted("a", ["!b"]), is_wanted("b", ["!b"])) == (True, False)


def test_feedback_is_known_by_words() -> None:
    """`generating` is no rating, `likelihood` no like."""
    assert all(is_feedback(name) for name in ("thumbs", "userFeedback", "csat", "NPS", "is_helpful", "up-vote", "like"))
    assert not any(is_feedback(name) for name in ("generating", "likelihood", "moderation", "helpfulness", "quality"))


def test_slugs_are_stable() -> None:
    """Kelet clusters by trigger name."""
    assert [slug(name) for name in ("User  Feedback!", "Qualité", "質", "a_b-c")] == [
        "user-feedback", "qualité", "質", "a-b-c",
    ]  # fmt: skip
    assert slug("👍") == slug("👍") != slug("👎")


def test_evaluation_event() -> None:
    """Targets of plain OTLP take the event of the GenAI conventions."""
    score = replace(SCORE, observation_id="00f067aa0ba902b7", comment="why")
    made = to_request(to_event(score, "p", HERE, text=str, identifier=str), {"service.name": "service"})
    request = ExportLogsServiceRequest.FromString(made)
    (event,) = request.resource_logs[0].scope_logs[0].log_records
    found = {pair.key: pair.value.string_value or pair.value.double_value for pair in event.attributes}
    assert (event.event_name, event.span_id.hex()) == ("gen_ai.evaluation.result", "00f067aa0ba902b7")
    assert found["gen_ai.evaluation.name"] == "quality"
    assert found["gen_ai.evaluation.score.value"] == 0.25
    assert found["gen_ai.evaluation.explanation"] == "why"
    assert found["session.id"] == "session"
