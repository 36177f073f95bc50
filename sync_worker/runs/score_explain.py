"""The scores of a trace for `explain`, and how many scores there are for `plan`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sync_worker.intervals import Interval
from sync_worker.langfuse.score_reader import ScoreReader
from sync_worker.ledger import ScoreNote
from sync_worker.pipeline.plan import spread
from sync_worker.records import Score
from sync_worker.runs.score_sync import ScoreSync
from sync_worker.signals.content import content_of
from sync_worker.times import iso_time

#: Parts of the range of which one page is listed to estimate its scores.
_PARTS = 12


async def explain_scores(scores: ScoreSync, trace_id: str) -> list[dict[str, Any]]:
    """Return the scores of a trace as JSON objects, by their time. Raises as the reader does."""
    session = scores.session
    listed: dict[str, Score] = {}
    async for page in scores.reader.of_trace(trace_id):
        listed |= {score.id: score for score in page.scores}
    known = {note.score_id: note for note in session.ledger.scores_of_trace(session.source_id, trace_id)}
    known |= session.ledger.scores(session.source_id, [score_id for score_id in listed if score_id not in known])
    found = [_describe(scores, score_id, listed.get(score_id), known.get(score_id)) for score_id in {**known, **listed}]
    return sorted(found, key=lambda one: (one["time"], one["score_id"]))


def _describe(scores: ScoreSync, score_id: str, score: Score | None, note: ScoreNote | None) -> dict[str, Any]:
    return {
        "score_id": score_id,
        "name": None if score is None else score.name,
        "source": None if score is None else score.source,
        "type": None if score is None else score.type,
        "observation_id": None if score is None else score.observation_id,
        "time": iso_time(score.timestamp_ms if score is not None else 0 if note is None else note.timestamp_ms),
        "state": _state(scores, score, note),
        "reason": None if note is None else note.reason,
        "sent": None if note is None or note.sent_ms is None else iso_time(note.sent_ms),
        "project": None if note is None else note.project,
    }


def _state(scores: ScoreSync, score: Score | None, note: ScoreNote | None) -> str:
    if note is None:
        return "new" if score is None or scores.settings.takes(score.name) else "left_out"
    if score is None:
        return "deleted"
    return "changed" if note.state == "sent" and note.content != content_of(score) else note.state


async def estimate_scores(reader: ScoreReader, intervals: Sequence[Interval]) -> int:
    """Estimate the scores of intervals by one page of parts that are spread evenly. Raises as the reader does."""
    _, parts = spread(intervals, _PARTS)
    scores = 0.0
    for part in parts:
        async for page in reader.interval(part):
            scores += len(page.scores) * part.length / max(1, part.end - page.down_to_ms)
            break
    whole_ms = sum(interval.length for interval in intervals)
    return math.ceil(scores * whole_ms / max(1, sum(part.length for part in parts)))
