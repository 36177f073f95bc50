"""Scores of a project that grows: given before, with and after their traces, dated back, edited, deleted."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.soak.project import Project, Story, Trace
from tests.support import rows as wire

_SHARE = 0.5  # of the traces that have scores


@dataclass(slots=True, eq=False)
class ScoreStory:
    """A score and the words of the states of it that could be seen, the newest last."""

    id: str
    trace: Trace
    subject: dict[str, Any]
    dated: float  # Unix seconds
    words: list[str] = field(default_factory=list)
    deleted: bool = False


class Scores:
    """Gives scores to the traces of a project, when it is time."""

    def __init__(self, project: Project, seed: int) -> None:
        self.project = project
        self.stories: list[ScoreStory] = []
        self._chance = random.Random(f"scores {project.prefix} {seed}")
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._seen = 0  # traces that were looked at

    def advance(self, now: float) -> None:
        """Give what is due by now."""
        for trace in self.project.traces[self._seen :]:
            if trace.id is not None and self._chance.random() < _SHARE:
                self._plan(trace, max(now, trace.start))
        self._seen = len(self.project.traces)
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()

    def calm(self) -> None:
        """Give nothing more."""
        self._due = []

    def _plan(self, trace: Trace, now: float) -> None:
        for _ in range(self._chance.choice([1, 1, 2])):
            given = now + self._chance.choice([0.0, 1.0, 20.0, self._chance.uniform(0, 90)])
            row = self._chance.choice(trace.rows) if trace.rows else None
            subject = self._subject(trace, row)
            dated = given - self._chance.choice([0.0, 0.0, 1.0, self._chance.uniform(0, 120)])
            story = ScoreStory(f"score-{self.project.prefix}-{len(self.stories)}", trace, subject, dated)
            self.stories.append(story)
            self._at(given, lambda story=story: self._put(story))  # type: ignore[misc]
            while self._chance.random() < 0.3:
                given += self._chance.choice([0.5, 5.0, 60.0])
                self._at(given, lambda story=story: self._put(story))  # type: ignore[misc]
            if self._chance.random() < 0.05:
                self._at(given + self._chance.uniform(1, 60), lambda story=story: self._delete(story))  # type: ignore[misc]

    def _subject(self, trace: Trace, row: Story | None) -> dict[str, Any]:
        kind = self._chance.choice(["trace", "trace", "observation", "session", "experiment"])
        if kind == "session" and trace.session:
            return {"kind": "session", "id": trace.session}
        if kind == "observation" and row is not None:
            return {"kind": "observation", "id": row.id, "traceId": trace.id}
        return {"kind": "experiment", "id": "run"} if kind == "experiment" else {"kind": "trace", "id": trace.id}

    def _put(self, story: ScoreStory) -> None:
        if story.deleted:
            return
        story.words.append(f"{story.id}.{len(story.words) + 1}")
        self.project.server.scores.put(
            wire.score(
                0, None, datetime.fromtimestamp(story.dated, UTC), id=story.id, comment=story.words[-1],
                subject=story.subject, projectId=self.project.server.project_id, source="ANNOTATION",
            )
        )  # fmt: skip

    def _delete(self, story: ScoreStory) -> None:
        story.deleted = True
        self.project.server.scores.remove(story.id)

    def _at(self, moment: float, do: Callable[[], object]) -> None:
        heapq.heappush(self._due, (moment, next(self._order), do))
