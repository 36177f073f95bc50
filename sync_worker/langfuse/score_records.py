"""Scores and their configs as either API returns them; whatever can be understood is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sync_worker.errors import RecordRejected
from sync_worker.json_text import dump, is_deep, utf8
from sync_worker.records import Number, Score, ScoreConfig, storable_id
from sync_worker.times import unix_ms

_TEXTS = frozenset({"CATEGORICAL", "TEXT", "CORRECTION"})
_MAX_CONTENT = 1_000_000  # characters of a comment or a value that are read; Langfuse takes less in a request
_MAX_NUMBER = 1e300


def parse_v3(item: Any) -> Score:
    """Return a score of `v3/scores`. Raises RecordRejected."""
    score = _object(item)
    subject = score.get("subject")
    subject = subject if isinstance(subject, Mapping) else {}
    kind, about = subject.get("kind"), _id(subject.get("id"))
    return _score(
        score,
        trace_id=about if kind == "trace" else _id(subject.get("traceId")) if kind == "observation" else None,
        observation_id=about if kind == "observation" else None,
        session_id=about if kind == "session" else None,
        experiment_id=about if kind == "experiment" else None,
        value=score.get("value"),
    )


def parse_v2(item: Any) -> Score:
    """Return a score of `v2/scores`, or of v1's `scores`. Raises RecordRejected."""
    score = _object(item)
    text = score.get("stringValue")
    value = score.get("value")
    kind = _text(score.get("dataType"))
    if kind == "BOOLEAN":
        value = bool(value) if isinstance(value, int | float) else text == "True"
    elif kind in _TEXTS:
        value = text if text is not None else value
    return _score(
        score,
        trace_id=_id(score.get("traceId")),
        observation_id=_id(score.get("observationId")),
        session_id=_id(score.get("sessionId")),
        experiment_id=_id(score.get("datasetRunId")),
        value=value,
    )


def parse_config(item: Any) -> ScoreConfig:
    """Return the config of a score. Raises RecordRejected."""
    config = _object(item)
    categories = config.get("categories")
    pairs = [
        (label, value)
        for one in (categories if isinstance(categories, list) else [])
        if isinstance(one, Mapping)
        and (label := _text(one.get("label"))) is not None
        and (value := _number(one.get("value"))) is not None
    ]
    return ScoreConfig(_number(config.get("minValue")), _number(config.get("maxValue")), tuple(pairs))


def parse_scores(items: list[Any], parse: Callable[[Any], Score]) -> tuple[list[Score], int]:
    """Return a list's items as scores, and how many cannot be understood. Whatever one is, it costs no other."""
    scores: list[Score] = []
    for item in items:
        try:
            scores.append(parse(item))
        except Exception:  # noqa: BLE001, S112 - it concerns this score alone, which is counted
            continue
    return scores, len(items) - len(scores)


def _score(
    score: Mapping[str, Any],
    *,
    trace_id: str | None,
    observation_id: str | None,
    session_id: str | None,
    experiment_id: str | None,
    value: Any,
) -> Score:
    score_id, timestamp = _id(score.get("id")), unix_ms(score.get("timestamp"))
    if score_id is None or timestamp is None:
        raise RecordRejected("a score has no id, or no time that can be read")
    kind = _text(score.get("dataType")) or "NUMERIC"
    if observation_id is not None and trace_id is None:
        trace_id = f"obs:{observation_id}"  # as an observation without a trace has it
    return Score(
        id=score_id,
        name=_text(score.get("name")) or "",
        type=kind,
        source=_text(score.get("source")) or "API",
        timestamp_ms=timestamp,
        value=_value(kind, value),
        trace_id=trace_id,
        observation_id=observation_id,
        session_id=session_id,
        experiment_id=experiment_id,
        comment=_text(score.get("comment")),
        config_id=_text(score.get("configId")),
        metadata=_metadata(score.get("metadata")),
        environment=_text(score.get("environment")),
        created_ms=unix_ms(score.get("createdAt")),
        updated_ms=unix_ms(score.get("updatedAt")),
        author_id=_text(score.get("authorUserId")),
        queue_id=_text(score.get("queueId")),
    )


def _value(kind: str, value: Any) -> Number | bool | str | None:
    if kind in _TEXTS:
        return None if value is None else utf8(value if isinstance(value, str) else dump(value))[:_MAX_CONTENT]
    if kind == "BOOLEAN":
        return value if isinstance(value, bool) else bool(value) if isinstance(value, int | float) else None
    number = _number(value)
    return number if number is not None else _text(value)


def _object(item: Any) -> Mapping[str, Any]:
    if not isinstance(item, Mapping):
        raise RecordRejected(f"a score is {type(item).__name__}, not an object")
    return item


def _text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    return utf8(value if isinstance(value, str) else dump(value))[:_MAX_CONTENT]


def _id(value: Any) -> str | None:
    return storable_id(value) if isinstance(value, str) and value else None


def _number(value: Any) -> Number | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if -_MAX_NUMBER <= value <= _MAX_NUMBER else None


def _metadata(value: Any) -> Any:
    """Return metadata that can be written as JSON; None where there is nothing in it."""
    if value is None or value in ({}, [], ""):
        return None
    if is_deep(value):
        return dump(value)
    return _tidy(value)


def _tidy(value: Any) -> Any:
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    return {utf8(key): _tidy(item) for key, item in value.items()} if isinstance(value, dict) else value
