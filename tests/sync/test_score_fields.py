"""Scores of all types, sources and subjects, from both APIs: every field of what arrives."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sync_worker.choices import Api
from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.spans.ids import otlp_span_id, otlp_trace_id
from sync_worker.times import iso_time, moment_ms
from tests.support.langfuse_v1 import LangfuseV1
from tests.support.rows import NOON, score, trace
from tests.support.v1_items import whole_trace
from tests.sync.conftest import MakeWorld
from tests.sync.scored import SESSION, once, scored_world

PROJECT = "h1-proj-a"
CONFIGS: dict[str, dict[str, Any]] = {
    "stars": {"minValue": 1, "maxValue": 5, "categories": None},
    "celsius": {"minValue": -5, "maxValue": 5, "categories": None},
    "half": {"minValue": None, "maxValue": 1, "categories": None},
    "verdict": {
        "categories": [{"label": "bad", "value": 0}, {"label": "so", "value": 1}, {"label": "good", "value": 4}]
    },
    "flat": {"categories": [{"label": "a", "value": 1}, {"label": "b", "value": 1}]},
}
#: A score's source, type, name, value, config and comment, and the kind, source, trigger name, score and value of its
#: signal. `...` is a score or value that must not be there.
MAPPED: list[tuple[str, str, str, Any, str | None, str | None, str, str, str, Any, Any]] = [
    ("API", "NUMERIC", "quality", 0.25, None, None, "metric", "synthetic", "api-quality", 0.25, ...),
    ("API", "NUMERIC", "User Rating", 4, "stars", "nice", "feedback", "human", "user-user-rating", 0.75, "nice"),
    ("API", "NUMERIC", "user-rating", 5, "stars", None, "feedback", "human", "user-user-rating", 1.0, ...),
    ("API", "NUMERIC", "stars", 6, "stars", None, "metric", "synthetic", "api-stars", ..., "stars=6"),
    ("API", "NUMERIC", "temperature", -3, "celsius", None, "metric", "synthetic", "api-temperature", 0.2, ...),
    ("API", "NUMERIC", "loss", -1e-9, None, None, "metric", "synthetic", "api-loss", 0.0, ...),
    ("API", "NUMERIC", "loss", -0.5, None, None, "metric", "synthetic", "api-loss", ..., "loss=-0.5"),
    ("API", "NUMERIC", "huge", 1e300, None, "big", "metric", "synthetic", "api-huge", ..., "big"),
    ("API", "NUMERIC", "tokens", 12345678901234567890, None, None, "metric", "synthetic", "api-tokens", ...,
     "tokens=1.23456789012346e+19"),
    ("API", "NUMERIC", "open", 0.5, "half", None, "metric", "synthetic", "api-open", 0.5, ...),
    ("API", "NUMERIC", "名前", 1, None, None, "metric", "synthetic", "api-名前", 1.0, ...),
    ("API", "NUMERIC", "🎉", 0, None, None, "metric", "synthetic", "api-ea752979", 0.0, ...),
    ("EVAL", "NUMERIC", "Hallucination", 0.25, None, "why", "metric", "synthetic", "eval-hallucination", 0.75, "why"),
    ("ANNOTATION", "NUMERIC", "stars", 2, "stars", None, "metric", "label", "annotation-stars", 0.25, ...),
    ("ANNOTATION", "NUMERIC", "stars", 2, None, None, "feedback", "label", "annotation-stars", ..., "stars=2"),
    ("API", "BOOLEAN", "thumbs_up", True, None, None, "feedback", "human", "user-thumbs-up", 1.0, ...),
    ("EVAL", "BOOLEAN", "toxicity", True, None, None, "metric", "synthetic", "eval-toxicity", 0.0, ...),
    ("ANNOTATION", "BOOLEAN", "ok", False, None, "no", "feedback", "label", "annotation-ok", 0.0, "no"),
    ("API", "CATEGORICAL", "label", "red", None, None, "metric", "synthetic", "api-label", ..., "red"),
    ("EVAL", "CATEGORICAL", "verdict", "so", "verdict", "meh", "metric", "synthetic", "eval-verdict", 0.25, "so: meh"),
    ("ANNOTATION", "CATEGORICAL", "verdict", "none", "verdict", None, "feedback", "label", "annotation-verdict", ...,
     "none"),
    ("ANNOTATION", "CATEGORICAL", "flat", "a", "flat", None, "feedback", "label", "annotation-flat", ..., "a"),
    ("API", "TEXT", "note", "line 1\nline 2 🎉", None, "c", "feedback", "synthetic", "api-note", ...,
     "line 1\nline 2 🎉"),
    ("EVAL", "TEXT", "reason", "since", None, None, "arbitrary", "synthetic", "eval-reason", ..., "since"),
    ("ANNOTATION", "TEXT", "note", "a", None, None, "feedback", "label", "annotation-note", ..., "a"),
    ("API", "CORRECTION", "output", '{"a": 1}', None, None, "edit", "human", "user-edit", ..., '{"a": 1}'),
    ("ANNOTATION", "CORRECTION", "output", "13°C", None, "QA", "edit", "label", "annotation-edit", ..., "13°C"),
    ("ELSEWHERE", "NUMERIC", "new", 0.5, None, None, "arbitrary", "synthetic", "elsewhere-new", 0.5, ...),
]  # fmt: skip


def _server(api: Api) -> tuple[RecordedLangfuse, str, str]:
    """Return a Langfuse with one trace of a session, with its id and that of an observation."""
    if api == "v2":
        rows = trace(1, start=NOON, seconds=5.0, session=SESSION)
        return RecordedLangfuse(rows), rows[0]["traceId"], rows[1]["id"]
    of_trace, items = whole_trace(1, sessionId=SESSION)
    return LangfuseV1([of_trace], items), of_trace["id"], items[1]["id"]


@pytest.mark.parametrize("api", ["v2", "v1"])
def test_every_field_of_every_type_and_source(make_world: MakeWorld, api: Api) -> None:
    """A wrong kind, range or name is feedback that says the opposite, or a cluster of its own."""
    langfuse, trace_id, observation_id = _server(api)
    world = scored_world(make_world, langfuse)
    langfuse.scores.configs |= {name: {"id": name, **config} for name, config in CONFIGS.items()}
    subjects: list[dict[str, str]] = [
        {"kind": "trace", "id": trace_id},
        {"kind": "observation", "id": observation_id, "traceId": trace_id},
        {"kind": "session", "id": SESSION},
    ]
    expected: dict[str, dict[str, Any]] = {}
    for number, (by, kind, name, value, config, comment, *signal) in enumerate(MAPPED):
        subject, when = subjects[number % 3], NOON + timedelta(seconds=number)
        metadata = {"judge": {"n": [1, None, "é"]}} if number % 2 else {}
        made = score(
            number, trace_id, when, source=by, dataType=kind, name=name, value=value, configId=config, comment=comment,
            metadata=metadata, subject=subject, environment="staging", updatedAt=iso_time(moment_ms(when) + 500),
        )  # fmt: skip
        langfuse.scores.put(made)
        expected[made["id"]] = _expected(made, subject, signal)
    langfuse.scores.put(score(99, None, NOON, subject={"kind": "experiment", "id": "run"}))
    report = once(world)
    assert (report.scores_of_experiments, report.scores_waiting) == (1, 0)
    arrived = {signal.content["metadata"]["langfuse_score_id"]: signal.content for signal in world.kelet.signals}
    assert len(world.kelet.signals) == len(MAPPED)
    for score_id, content in arrived.items():
        revision = content["metadata"].pop("revision")
        assert (len(revision), int(revision, 16) >= 0) == (16, True)
        assert content == expected[score_id]
    assert {signal.project for signal in world.kelet.signals} == {"support_test"}


def _expected(made: dict[str, Any], subject: dict[str, str], signal: list[Any]) -> dict[str, Any]:
    kind, source, trigger, good, text = signal
    trace_id = subject.get("traceId") or (subject["id"] if subject["kind"] == "trace" else None)
    is_text = made["dataType"] in {"TEXT", "CORRECTION"}
    metadata = {
        "langfuse_score_id": made["id"],
        "langfuse_score_name": made["name"],
        "langfuse_data_type": made["dataType"],
        "langfuse_source": made["source"],
        "langfuse_raw_value": None if is_text else made["value"],
        "langfuse_comment": made["comment"] if is_text else None,
        "langfuse_config_id": made["configId"],
        "langfuse_trace_id": trace_id,
        "environment": "staging",
        "created": made["createdAt"],
        "updated": made["updatedAt"],
        "langfuse_metadata": made["metadata"] or None,
    }
    if subject["kind"] == "observation":
        metadata["langfuse_observation_id"] = subject["id"]
        metadata["span_id"] = otlp_span_id(PROJECT, subject["traceId"], subject["id"])
    content = {
        "session_id": SESSION,
        "trace_id": None if trace_id is None else otlp_trace_id(PROJECT, trace_id),
        "kind": kind,
        "source": source,
        "trigger_name": trigger,
        "score": None if good is ... else good,
        "value": None if text is ... else text,
        "metadata": {name: value for name, value in metadata.items() if value is not None},
        "timestamp": made["timestamp"].replace("Z", "+00:00"),
    }
    return {name: value for name, value in content.items() if value is not None}
