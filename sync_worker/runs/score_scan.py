"""Lists scores: each cycle the newest ones, and by period those of longer lookback windows.

A score is often back-dated, given days after its trace, and edited without a new time or `updatedAt`, and Langfuse has
no list by update. So every cycle lists from now back over the shortest window, one request in the usual case, and every
twelfth of a longer window the rest of that. What is known is recognised by its content. All of it takes a quarter of
the requests, together with the lookback scans of observations, except for what was dated since the last cycle; a scan
that does not fit resumes in the next cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from sync_worker.corrected import STEP_MS
from sync_worker.intervals import Interval
from sync_worker.langfuse.score_reader import OPEN_END
from sync_worker.ledger.state_keys import (
    LAST_SCORE_SCAN,
    SCORES_FORGOTTEN_BEFORE,
    SCORES_LISTED,
    State,
    last_score_scan,
    running_score_scan,
)
from sync_worker.ledger.stored_records import ReadScores
from sync_worker.pipeline.plan import SCANS_PER_WINDOW
from sync_worker.pipeline.session import Session
from sync_worker.runs.lookback import REQUEST_SHARE
from sync_worker.runs.score_sync import ScoreSettings, ScoreSync

#: How far before the last cycle's listing the next one must come, whatever it takes: scores are visible after seconds.
_MARGIN_MS = 600_000
#: Requests after which the progress of a scan is stored.
_A_STEP = 10
_MAX_CYCLE_MS = 300_000  # after an outage the backlog is not requested all at once
_MIN_REQUESTS = 2


def begin_scans(session: Session, settings: ScoreSettings, now: int) -> None:
    """Note when scores were first to be listed: all windows count from there. A time in the future was wrong.

    Where other names or another window were asked for so far, it is noted which dates were listed by these.
    """
    state = session.state
    last = state.get(LAST_SCORE_SCAN)
    if last is None or last > now + STEP_MS:
        last = now
        state.put(LAST_SCORE_SCAN, now)
    chosen = [settings.selection.as_text(), settings.deepest_ms]
    listed = _listed(state)
    if listed is None or listed[1:] != tuple(chosen):
        begin = max(last - settings.deepest_ms, state.get(SCORES_FORGOTTEN_BEFORE, fresh=True) or 0)
        with session.ledger.transaction():
            if listed is not None and listed[0] < begin:
                window = min(listed[2], settings.deepest_ms)
                taken = ReadScores(Interval(listed[0], begin), listed[1], window)
                session.ledger.add_read_scores(session.source_id, taken)
            state.put(SCORES_LISTED, [begin, *chosen])
    state.save()


def _listed(state: State) -> tuple[int, str, int] | None:
    """Return from which date on the live sync lists scores, the selection, and the longest window in milliseconds."""
    stored: Any = state.get(SCORES_LISTED)
    return None if stored is None else (stored[0], stored[1], stored[2])


class ScoreScans:
    """Runs the scans for scores of one source. `windows` (ms) are the lookback windows of scores."""

    def __init__(
        self, scores: ScoreSync, windows: Sequence[int], requests_per_minute: int | None, interval_ms: int
    ) -> None:
        self._scores = scores
        self._session = session = scores.session
        self._state = session.state
        self._windows = tuple(sorted(windows))
        self._per_minute = requests_per_minute or session.limits.assumed_per_minute
        self._interval = max(1, interval_ms)

    async def run(self, now: int) -> None:
        """List what is due, and send what is new or changed. Raises as the parts do."""
        # Some are left to scores whatever observations took.
        self._end = max(self._session.report.lookback_requests + _MIN_REQUESTS, self._requests_allowed(now))
        self._bound = self._state.get(SCORES_FORGOTTEN_BEFORE, fresh=True) or 0
        await self._list_newest(now)
        for window in self._windows:
            scan = self._stored(window)
            if scan is None:
                continue
            start, end, began = scan
            while start < end and self._left() > 0:
                self._session.clock.check()
                end = await self._list(Interval(start, end), None, min(self._left(), _A_STEP))
                self._store(window, start, end, began)
            if start >= end:
                self._complete(window, began)

    async def _list_newest(self, now: int) -> None:
        """List what was dated since the last cycle, and on over all windows that are due, in one walk."""
        last = self._state.get(LAST_SCORE_SCAN) or now
        must = max(self._bound, last - _MARGIN_MS)
        due = {window: start for window in self._windows if (start := self._due(window, now, last)) is not None}
        low = await self._list(Interval(min([must, *due.values()]), OPEN_END), must, self._left())
        self._state.put(LAST_SCORE_SCAN, now)
        for window in sorted(due):
            if low <= due[window]:
                self._complete(window, now)
            else:  # a longer window goes on where this one ends
                self._store(window, due[window], low, now)
                low = due[window]

    async def _list(self, interval: Interval, must: int | None, most: int) -> int:
        """List an interval, newest first, in about `most` requests, and down to `must` in any number.

        Returns the time from which on it is done.
        """
        low, requests = interval.end, 0
        listed: set[str] = set()
        async with aclosing(self._scores.reader.interval(interval)) as walk:
            async for page in walk:
                requests += 1
                self._session.report.lookback_requests += 1
                listed |= {score.id for score in page.scores}
                await self._scores.take(page)
                low = page.down_to_ms
                if interval.start < low < interval.end and requests >= most and (must is None or low <= must):
                    break
        await self._scores.check_deleted(Interval(low, interval.end), listed)
        return low

    def _requests_allowed(self, now: int) -> int:
        every = max(self._interval, now - (self._state.get(LAST_SCORE_SCAN) or now))
        minutes = min(max(every, 60_000), _MAX_CYCLE_MS) // 60_000
        return max(self._session.limits.lookback_requests, self._per_minute * minutes // REQUEST_SHARE)

    def _left(self) -> int:
        """Return the requests left in this cycle."""
        return self._end - self._session.report.lookback_requests

    def _due(self, window: int, now: int, last_listed: int) -> int | None:
        """Return from when on a window is to be listed; None where that is not due, or under way."""
        if self._stored(window) is not None:
            return None
        if window == self._windows[0]:
            return max(self._bound, last_listed - window)
        last = self._state.get(last_score_scan(window))
        if last is None or last > now + STEP_MS:
            last = last_listed
        elif now - last < window // SCANS_PER_WINDOW:
            return None
        return max(self._bound, last - window)

    def _stored(self, window: int) -> tuple[int, int, int] | None:
        stored: Any = self._state.get(running_score_scan(window))
        if not isinstance(stored, list) or len(stored) != 3 or not all(isinstance(one, int) for one in stored):
            return None
        start, end, began = stored
        return max(start, self._bound), end, began

    def _store(self, window: int, start: int, end: int, began: int) -> None:
        self._state.put(running_score_scan(window), [start, end, began])
        self._state.save()

    def _complete(self, window: int, began: int) -> None:
        self._state.drop(running_score_scan(window))
        self._state.put(last_score_scan(window), began)
        self._state.save()


def forget_scores(scores: ScoreSync, windows: Sequence[int], now: int) -> None:
    """Forget scores with a result that no scan will list again: older than the longest window and than any scan."""
    session, state = scores.session, scores.session.state
    deepest = max(windows)
    before = now - deepest - deepest // SCANS_PER_WINDOW
    for window in windows:
        last = state.get(last_score_scan(window))
        before = before if last is None else min(before, last - window)
        running = state.get(running_score_scan(window))
        if isinstance(running, list) and running:
            before = min(before, int(running[0]))
    if not session.ledger.has_scores_before(session.source_id, before):
        return
    listed = _listed(state)
    taken = None if listed is None or listed[0] >= before else ReadScores(Interval(listed[0], before), *listed[1:])
    state.put(SCORES_FORGOTTEN_BEFORE, before)
    session.ledger.forget_scores(session.source_id, before, taken)
