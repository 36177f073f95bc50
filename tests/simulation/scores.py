"""Scores of a history: late, edited, deleted, dated back, given before their trace can be seen."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sync_worker.demo.score_server import ScoreStore
from tests.simulation.history import PEOPLE, History, RowStory, TraceStory, iso
from tests.simulation.moments import HOUR, MINUTE, SECOND
from tests.simulation.plan import Plan


@dataclass(slots=True)
class ScoreVersion:
    """A state of a score; `words` is what no other state says."""

    words: str
    shown: int
    content: dict[str, Any]


@dataclass(slots=True, eq=False)
class ScoreStory:
    """A score from its first to its last state. `row` is the observation that it is on, if any."""

    id: str
    trace: TraceStory
    subject: str
    row: RowStory | None = None
    versions: list[ScoreVersion] = field(default_factory=list)
    gone: int | None = None

    def latest(self, moment: int) -> ScoreVersion | None:
        """Return the state that is listed at a moment."""
        if self.gone is not None and moment >= self.gone:
            return None
        return next((version for version in reversed(self.versions) if version.shown <= moment), None)


def write_scores(plan: Plan, history: History) -> list[ScoreStory]:
    """Write the scores of a history."""
    chance = random.Random(f"scores of {plan.seed}")
    traces = [trace for trace in history.traces if trace.id is not None]
    stories: list[ScoreStory] = []
    for trace in chance.choices(traces, k=chance.choice([3, 8, 20])) if traces else []:
        number = len(stories)
        subject = chance.choice(["trace", "trace", "observation", "session", "experiment"])
        subject = "trace" if subject == "session" and not trace.session else subject
        story = ScoreStory(f"score-{plan.seed}-{number}", trace, subject)
        if subject == "observation":
            story.row = chance.choice(trace.rows)
        _write_versions(plan, chance, story, number)
        stories.append(story)
    return stories


def _write_versions(plan: Plan, chance: random.Random, story: ScoreStory, number: int) -> None:
    start = story.trace.start
    given = start + chance.choice([0, SECOND, MINUTE, HOUR, plan.deepest // 2])
    back = chance.choice([0, 0, 0, HOUR, plan.deepest])
    dated = given - back
    shown = given + chance.choice([6 * SECOND, 6 * SECOND, 20 * MINUTE])
    for version in range(1, 4):
        words = f"score{number}.{version}"
        story.versions.append(ScoreVersion(words, shown, _content(plan, story, words, dated, given)))
        shown += chance.choice([MINUTE, 20 * MINUTE, plan.deepest // 2])
        if chance.random() < 0.6 or shown > given + plan.deepest:
            break
    if chance.random() < 0.1:
        story.gone = shown + MINUTE


def _content(plan: Plan, story: ScoreStory, words: str, dated: int, given: int) -> dict[str, Any]:
    trace_id = story.trace.id
    subject = {
        "trace": {"kind": "trace", "id": trace_id},
        "session": {"kind": "session", "id": story.trace.session},
        "experiment": {"kind": "experiment", "id": f"run {plan.seed}"},
        "observation": {"kind": "observation", "id": "" if story.row is None else story.row.id, "traceId": trace_id},
    }[story.subject]
    by = f" by judge{PEOPLE}" if plan.has("redaction") else ""
    return {
        "id": story.id, "projectId": f"h1-proj-{story.trace.source}", "name": "csat", "source": "ANNOTATION",
        "timestamp": iso(dated), "environment": "default", "createdAt": iso(given), "updatedAt": iso(given),
        "comment": words + by, "configId": None, "metadata": {}, "authorUserId": None, "queueId": None,
        "subject": subject, "dataType": "NUMERIC", "value": 0.5,
    }  # fmt: skip


def listed(stories: Iterable[ScoreStory], source: int, now: int) -> ScoreStore:
    """Return what a source's server holds at a moment."""
    shown = (story.latest(now) for story in stories if story.trace.source == source)
    return ScoreStore(version.content for version in shown if version is not None)


def last_change(stories: Sequence[ScoreStory]) -> int:
    """Return when a score changes for the last time."""
    moments = [version.shown for story in stories for version in story.versions]
    return max([*moments, *(story.gone or 0 for story in stories)], default=0)
