"""What scores would become: the signal of each name, with examples. Nothing is sent, and nothing stored."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sync_worker.intervals import Interval
from sync_worker.langfuse.score_reader import ConfigNotServed
from sync_worker.pipeline.attribution import Filtered, ScoreWait
from sync_worker.records import Score
from sync_worker.redaction.protection import RedactionFailed
from sync_worker.runs.score_sync import ScoreSync
from sync_worker.signals.mapping import is_assumed
from sync_worker.signals.score_names import override_for
from sync_worker.signals.signal_model import Attribution

#: Examples of each name, source and type.
_EXAMPLES = 2


@dataclass(slots=True)
class NamePreview:
    """Scores of one name, source and type.

    Of numbers, `unrated` go without a score, since their range is not known; `assumed` count as they are, though it is
    not, since they lie in 0 to 1. `unredactable` cannot be redacted, and are not sent.
    """

    name: str
    source: str
    type: str
    count: int = 0
    left_out: bool = False
    override: str | None = None  # the glob that matched
    unrated: int = 0
    assumed: int = 0
    unredactable: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class ScorePreview:
    """What of the newest scores each name would become. `more` says that there are more than were read."""

    source: str
    scores: int = 0
    more: bool = False
    names: list[NamePreview] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


async def preview_scores(scores: ScoreSync, interval: Interval, most: int) -> ScorePreview:
    """Return what the newest scores of an interval, about `most`, would become. Raises as the reader does."""
    found: dict[tuple[str, str, str], NamePreview] = {}
    preview = ScorePreview(scores.session.report.source)
    seen: set[str] = set()
    async for page in scores.reader.interval(interval):
        for score in page.scores:
            if score.id not in seen:
                seen.add(score.id)
                await _add(scores, score, found)
        preview.scores = len(seen)
        if preview.scores >= most and page.down_to_ms > interval.start:
            preview.more = True
            break
    preview.names = sorted(found.values(), key=lambda one: (one.name, one.source, one.type))
    return preview


async def _add(scores: ScoreSync, score: Score, found: dict[tuple[str, str, str], NamePreview]) -> None:
    key = (score.name, score.source, score.type)
    override = override_for(score.name, scores.settings.overrides)
    one = found.setdefault(key, NamePreview(*key, override=None if override is None else override.match))
    one.count += 1
    one.left_out = score.experiment_id is not None or not scores.settings.takes(score.name)
    if one.left_out:
        return
    session_id = None if score.session_id is None else _shown(scores, score.session_id)
    attribution = Attribution(scores.session.policy.project, session_id)
    why: str | None = None
    if score.trace_id is not None and len(one.examples) < _EXAMPLES:
        verdict = scores.attributor.known([score.trace_id]).get(score.trace_id)
        if isinstance(verdict, Attribution):
            attribution = verdict
        else:
            why = (
                f"filtered: {verdict.rule}" if isinstance(verdict, Filtered)
                else f"waits: {verdict.reason}" if isinstance(verdict, ScoreWait)
                else "its trace is not remembered: it is looked up before it is sent"
            )  # fmt: skip
    try:
        signal = await scores.signal_of(score, attribution)
    except ConfigNotServed:
        one.unrated += 1
        return
    except RedactionFailed:
        one.unredactable += 1
        return
    one.unrated += signal.score is None and score.type == "NUMERIC"
    one.assumed += is_assumed(score, await scores.config_of(score), override)
    if len(one.examples) < _EXAMPLES:
        if why is not None:  # which session its spans have is not known
            signal = replace(signal, session_id=None)
        shown = signal.as_json()
        if not scores.delivery.client.target.preset.takes_signals:
            shown = await _event(scores, score, attribution)
        one.examples.append({"project": attribution.project, "waits": why, "signal": shown})


def _shown(scores: ScoreSync, session_id: str) -> str | None:
    """Return a session id as spans have it, None where it cannot be redacted: the score cannot either."""
    try:
        return scores.session.protection.identifier(session_id)
    except RedactionFailed:
        return None


async def _event(scores: ScoreSync, score: Score, attribution: Attribution) -> dict[str, Any]:
    """Return the attributes of the log event that a score would become."""
    event = await scores.event_of(score, attribution)
    found = {pair.key: pair.value.string_value or pair.value.double_value for pair in event.attributes}
    if attribution.session_id is None:
        found.pop("gen_ai.conversation.id", None)
    return {"trace_id": event.trace_id.hex(), "span_id": event.span_id.hex(), **found}
