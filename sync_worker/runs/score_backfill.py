"""The scores of a backfill: those that are dated in its interval, after the spans; a rerun resumes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from sync_worker.intervals import Interval, clip, gaps
from sync_worker.runs.score_sync import ScoreSync

#: Requests after which progress is stored.
_A_STEP = 10


async def backfill_scores(scores: ScoreSync, whole: Interval, partitions: Sequence[Interval] | None) -> None:
    """Send the scores of `whole`, or only of these partitions, that no backfill has read. Raises as the parts do."""
    session = scores.session
    own = [whole] if partitions is None else clip(partitions, whole)
    for part in own:
        scores.revive(part)
    completed = session.ledger.completed_scores(session.source_id, scores.settings.selection.as_text())
    for gap in [gap for part in own for gap in gaps(part, completed)]:
        end = gap.end
        while end > gap.start:
            session.clock.check()
            end = await _backfill_part(scores, Interval(gap.start, end))
    await scores.take_waiting()


async def _backfill_part(scores: ScoreSync, interval: Interval) -> int:
    """Send the newest part of an interval, and return the time from which on it is done."""
    session = scores.session
    low, requests, listed = interval.end, 0, set[str]()
    async with aclosing(scores.reader.interval(interval)) as walk:
        async for page in walk:
            requests += 1
            listed |= {score.id for score in page.scores}
            await scores.take(page)
            low = page.down_to_ms
            if requests >= _A_STEP and interval.start < low < interval.end:
                break
    await scores.check_deleted(Interval(low, interval.end), listed)
    selection = scores.settings.selection.as_text()
    session.ledger.commit_scores_interval(session.source_id, Interval(low, interval.end), selection)
    return low
