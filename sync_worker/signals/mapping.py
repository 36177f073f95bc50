"""A score as Kelet's signal: kind, source, trigger name, score, value, metadata.

    source of the score    kind                                source     trigger name
    API, name of feedback  feedback                            human      user-<slug>
    API                    metric; TEXT: feedback              synthetic  api-<slug>
    EVAL                   metric; TEXT: arbitrary             synthetic  eval-<slug>
    ANNOTATION             feedback; NUMERIC by a config: metric  label   annotation-<slug>
    any, CORRECTION        edit                                human; ANNOTATION: label
                                                               user-edit, annotation-edit
    another                arbitrary                           synthetic  <source>-<slug>

A number counts in the range of the settings, else of its config, else as it is where it lies in 0 to 1. Any other goes
without `score`: nothing is clamped to a range, and no range is guessed from values.
"""

from __future__ import annotations

import math
from typing import Any

from sync_worker.configured import ScoreOverride
from sync_worker.records import Number, Score, ScoreConfig
from sync_worker.signals.content import content_of
from sync_worker.signals.score_names import is_feedback, slug, words
from sync_worker.signals.signal_model import Attribution, Signal
from sync_worker.spans.ids import otlp_span_id, otlp_trace_id
from sync_worker.times import iso_time

#: What a value may lie outside of its range by, as a share of it: noise of floating point.
_NOISE = 1e-9
#: Words of a name by which a high value is bad.
_BAD = frozenset({"hallucination", "hallucinations", "toxicity"})


def to_signal(
    score: Score,
    project_id: str,
    attribution: Attribution,
    config: ScoreConfig | None = None,
    override: ScoreOverride | None = None,
    *,
    with_authors: bool = False,
    supersedes: bytes | None = None,
) -> Signal:
    """Return a score as a signal of its trace, or of its session.

    `project_id` is Langfuse's. `config` is that of the score where it names one. `supersedes` is the content that was
    sent of it before. A trace without a session is one of its own, named by the trace, as its spans have it.
    """
    kind, source, trigger = _defaults(score, config)
    if override is not None:
        kind, source, trigger = override.kind or kind, override.source or source, override.trigger or trigger
    good = rate(score, config, override)
    return Signal(
        kind=kind,
        source=source,
        trigger_name=trigger,
        timestamp=iso_time(score.timestamp_ms).replace("Z", "+00:00"),
        session_id=attribution.session_id or attribution.shown_trace_id,
        trace_id=None if score.trace_id is None else otlp_trace_id(project_id, score.trace_id),
        score=good,
        value=_text(score, is_rated=good is not None),
        metadata=_metadata(score, project_id, with_authors=with_authors, supersedes=supersedes),
    )


def rate(score: Score, config: ScoreConfig | None, override: ScoreOverride | None) -> float | None:
    """Return how good a score is, 0..1; None where that is not known."""
    value = _share(score, config, None if override is None else override.range)
    if value is None:
        return None
    invert = None if override is None else override.invert
    if invert is None:
        invert = not _BAD.isdisjoint(words(score.name))
    return 1.0 - value if invert else value


def is_assumed(score: Score, config: ScoreConfig | None, override: ScoreOverride | None) -> bool:
    """Whether a score counts as it is, since it lies in 0 to 1 and nothing says what its range is."""
    is_known = (override is not None and override.range is not None) or _limits(config) is not None
    return score.type == "NUMERIC" and not is_known and rate(score, config, override) is not None


def _defaults(score: Score, config: ScoreConfig | None) -> tuple[str, str, str]:
    """Return kind, source and trigger name."""
    name = slug(score.name)
    if score.type == "CORRECTION":
        return ("edit", "label", "annotation-edit") if score.source == "ANNOTATION" else ("edit", "human", "user-edit")
    match score.source:
        case "API" if is_feedback(score.name):
            return "feedback", "human", f"user-{name}"
        case "API":
            return "feedback" if score.type == "TEXT" else "metric", "synthetic", f"api-{name}"
        case "EVAL":
            return "arbitrary" if score.type == "TEXT" else "metric", "synthetic", f"eval-{name}"
        case "ANNOTATION":
            by_config = score.type == "NUMERIC" and config is not None
            return "metric" if by_config else "feedback", "label", f"annotation-{name}"
    return "arbitrary", "synthetic", f"{slug(score.source)}-{name}"


def _share(score: Score, config: ScoreConfig | None, limits: tuple[float, float] | None) -> float | None:
    """Return where a score lies in its range, 0..1."""
    if score.type == "BOOLEAN":
        return None if not isinstance(score.value, bool) else float(score.value)
    if score.type == "CATEGORICAL":
        return _of_category(str(score.value), config)
    if score.type != "NUMERIC" or isinstance(score.value, bool | str | None):
        return None
    low, high = limits or _limits(config) or (0.0, 1.0)
    if not high > low or not math.isfinite(score.value):
        return None
    share = (score.value - low) / (high - low)
    if not -_NOISE <= share <= 1 + _NOISE:
        return None
    return min(1.0, max(0.0, share))


def _limits(config: ScoreConfig | None) -> tuple[Number, Number] | None:
    if config is None or config.minimum is None or config.maximum is None:
        return None
    return config.minimum, config.maximum


def _of_category(label: str, config: ScoreConfig | None) -> float | None:
    numbers = {} if config is None else dict(config.categories)
    if label not in numbers:
        return None
    low, high = min(numbers.values()), max(numbers.values())
    return (numbers[label] - low) / (high - low) if high > low else None


def _text(score: Score, *, is_rated: bool) -> str | None:
    """Return what a person reads: the comment, a label, the text itself, or a number that has no range."""
    value = score.value
    if score.type in {"TEXT", "CORRECTION"}:
        return None if value is None else str(value)
    if score.type == "CATEGORICAL":
        label = "" if value is None else str(value)
        return f"{label}: {score.comment}" if label and score.comment else label or score.comment
    if score.comment:
        return score.comment
    return None if is_rated or value is None else f"{score.name}={_written(value)}"


def _metadata(score: Score, project_id: str, *, with_authors: bool, supersedes: bytes | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "langfuse_score_id": score.id,
        "langfuse_score_name": score.name,
        "langfuse_data_type": score.type,
        "langfuse_source": score.source,
        "langfuse_raw_value": score.value,
        "langfuse_config_id": score.config_id,
        "langfuse_trace_id": score.trace_id,
        "environment": score.environment,
        "created": None if score.created_ms is None else iso_time(score.created_ms),
        "updated": None if score.updated_ms is None else iso_time(score.updated_ms),
        "revision": content_of(score).hex(),
        "supersedes": None if supersedes is None else supersedes.hex(),
        "langfuse_metadata": score.metadata or None,
    }
    if score.observation_id is not None and score.trace_id is not None:
        found["langfuse_observation_id"] = score.observation_id
        found["span_id"] = otlp_span_id(project_id, score.trace_id, score.observation_id)
    if score.type in {"TEXT", "CORRECTION"}:
        del found["langfuse_raw_value"]  # it is the value itself
        found["langfuse_comment"] = score.comment
    if with_authors:
        found["langfuse_author_id"] = score.author_id
        found["langfuse_queue_id"] = score.queue_id
    return {name: value for name, value in found.items() if value is not None}


def _written(value: Any) -> str:
    return str(value) if isinstance(value, bool | str) else format(value, ".15g")
