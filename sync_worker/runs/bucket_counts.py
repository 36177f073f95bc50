"""Which parts of completed intervals to list again, where a listing is as expensive as a read (v1).

Time is split into buckets. For each one, the server's count of observations at its last listing is stored, and when
that was. A bucket is listed again when its count has changed, and once for each lookback window that has passed over
it, since an update may not change the count. Counts of many buckets are compared at once, and bisected where they
differ. Adjacent buckets are listed in one walk; what it listed of each is its count, if the sum equals the server's
count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence

from sync_worker.clock import Clock
from sync_worker.intervals import Interval
from sync_worker.langfuse.reader import Reader
from sync_worker.ledger.state_keys import BUCKET_COUNTS, State
from sync_worker.pipeline.report import SourceReport

BUCKET_MS = 300_000
#: Requests of a count: one for each v1 list.
_REQUESTS = 2
#: Observations that one walk may list: more are listed in halves, to limit the missing ones held at a time.
_MAX_OBSERVATIONS = 500

#: Lists an interval, compares what it lists, and returns the starts (Unix ms) of the observations, each observation
#: once.
Compare = Callable[[Interval], Awaitable[Iterable[int]]]


class BucketCounts:
    """Bucket counts of one source. `windows` are the lookback windows in milliseconds, shortest first."""

    def __init__(
        self, state: State, reader: Reader, windows: Sequence[int], clock: Clock, report: SourceReport
    ) -> None:
        self._state = state
        self._reader = reader
        self._windows = windows
        self._clock = clock
        self._report = report
        stored = state.get(BUCKET_COUNTS) or {}
        self._known: dict[int, list[int]] = {int(start): values for start, values in stored.items()}

    async def list_changed(self, interval: Interval, compare: Compare) -> None:
        """List the parts of an interval that may contain something new. Raises as the reader and `compare` do."""
        run, due = list[int](), list[int]()
        now = self._clock.now_ms()
        for part in _split_at_buckets(interval):
            if part.length < BUCKET_MS:
                await compare(part)
            elif self._is_due(part.start, now):
                due.append(part.start)
            elif run and run[-1] + BUCKET_MS != part.start:
                due += await self._differing(run)
                run = [part.start]
            else:
                run.append(part.start)
        due += await self._differing(run)
        for adjacent in reversed(_runs(sorted(due))):
            await self._list(adjacent, compare)

    async def _list(self, run: Sequence[int], compare: Compare) -> None:
        """List adjacent buckets, and store the count of each."""
        whole = Interval(run[0], run[-1] + BUCKET_MS)
        now = self._clock.now_ms()
        # Counted before it is listed: what arrives in between is found the next time.
        counted = await self._count(whole)
        if counted <= _MAX_OBSERVATIONS or len(run) == 1:
            starts = await compare(whole) if counted else ()
            listed = Counter(start - start % BUCKET_MS for start in starts)
            if len(run) == 1:
                self._known[run[0]] = [counted, now]
                return
            if sum(listed.values()) == counted:
                self._known |= {start: [listed[start], now] for start in run}
                return
        middle = len(run) // 2
        await self._list(run[middle:], compare)
        await self._list(run[:middle], compare)

    def store(self) -> None:
        """Store the counts for the next run, as far back as scans reach."""
        oldest = self._clock.now_ms() - 2 * self._windows[-1]
        self._known = {start: values for start, values in self._known.items() if start >= oldest}
        self._state.put(BUCKET_COUNTS, {str(start): values for start, values in self._known.items()})

    def _is_due(self, start: int, now: int) -> bool:
        """Whether a bucket was never listed, or not since a window, except the longest, passed over it."""
        known = self._known.get(start)
        if known is None:
            return True
        end = start + BUCKET_MS
        return any(known[1] < end + window <= now for window in self._windows[:-1])

    async def _differing(self, run: Sequence[int]) -> list[int]:
        """Return which of these adjacent buckets have another count than before."""
        if not run:
            return []
        counted = await self._count(Interval(run[0], run[-1] + BUCKET_MS))
        if counted == sum(self._known[start][0] for start in run):
            return []
        if len(run) == 1:
            return list(run)
        middle = len(run) // 2
        return [*await self._differing(run[:middle]), *await self._differing(run[middle:])]

    async def _count(self, interval: Interval) -> int:
        self._report.lookback_requests += _REQUESTS
        return await self._reader.count(interval) or 0


def _runs(starts: Sequence[int]) -> list[list[int]]:
    """Group adjacent buckets, oldest first."""
    runs = list[list[int]]()
    for start in starts:
        if runs and runs[-1][-1] + BUCKET_MS == start:
            runs[-1].append(start)
        else:
            runs.append([start])
    return runs


def _split_at_buckets(interval: Interval) -> list[Interval]:
    """Split an interval at bucket boundaries."""
    parts = []
    here = interval.start
    while here < interval.end:
        end = min(interval.end, here - here % BUCKET_MS + BUCKET_MS)
        parts.append(Interval(here, end))
        here = end
    return parts
