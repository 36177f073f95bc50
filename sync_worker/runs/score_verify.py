"""Compares what is remembered of scores with Langfuse: what of the last lookback window was never taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sync_worker.intervals import Interval, gaps
from sync_worker.ledger.score_notes import WAITING
from sync_worker.ledger.state_keys import LAST_SCORE_SCAN, SCORES_FORGOTTEN_BEFORE, last_score_scan
from sync_worker.runs.score_sync import ScoreSync
from sync_worker.signals.content import content_of

_SHOWN = 100  # ids


@dataclass(slots=True)
class ScoreVerdict:
    """Scores of an interval: how many Langfuse lists that are wanted, and which were not taken."""

    listed: int = 0
    missing: list[str] = field(default_factory=list)  # ids: not known, or known in another state
    waiting: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "listed": self.listed,
            "missing": len(self.missing),
            "missing_ids": self.missing[:_SHOWN],
            "waiting": self.waiting,
        }


async def verify_scores(scores: ScoreSync, interval: Interval | None, windows: Sequence[int]) -> ScoreVerdict:
    """Compare the scores that were dated up to the last listing. Raises as the reader does.

    Without an interval, those of the longest window whose scan is completed, and of completed backfills; what was
    forgotten is not compared.
    """
    session, state = scores.session, scores.session.state
    last = state.get(LAST_SCORE_SCAN)
    found = ScoreVerdict()
    lengths = [window for window in windows if state.get(last_score_scan(window)) is not None]
    known = [*session.ledger.completed_scores(session.source_id, scores.settings.selection.as_text())]
    if last is not None and lengths:
        known.append(Interval(last - max(lengths), last))
    whole = interval or Interval(0, session.clock.now_ms())
    since = max(whole.start, state.get(SCORES_FORGOTTEN_BEFORE) or 0)
    for unknown in [Interval(since, whole.end)] if since < whole.end else []:
        outside = gaps(unknown, known)
        for part in gaps(unknown, outside):
            await _compare(scores, part, found)
    return found


async def _compare(scores: ScoreSync, part: Interval, found: ScoreVerdict) -> None:
    session = scores.session
    async for page in scores.reader.interval(part):
        wanted = {score.id: score for score in page.scores if scores.settings.takes(score.name)}
        notes = session.ledger.scores(session.source_id, wanted)
        for score_id, score in wanted.items():
            found.listed += 1
            note = notes.get(score_id)
            if note is None or (note.content != content_of(score) and note.state != "ignored"):
                found.missing.append(score_id)
            elif note.state == WAITING:
                found.waiting += 1
