"""Which parts of covered time to list again, where a listing costs as much as a reading (v1).

Time is cut into buckets. Of each one it is remembered how many rows the server counted when it was listed last, and
when that was. A bucket is listed again when its count has changed, and once whenever a horizon has passed over it,
since an update may leave the count as it is. Counts of many buckets are compared at once, and halved where they differ.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from sync_worker.clock import Clock
from sync_worker.langfuse.reader import Reader
from sync_worker.ledger import Ledger
from sync_worker.sync.report import SourceReport
from sync_worker.windows import Window

BUCKET_MS = 300_000
_FACT = "counts"
#: Requests that a count takes: one of each v1 list.
_REQUESTS = 2


class Recount:
    """Remembers counts of one source. `horizons` are in milliseconds, shortest first."""

    def __init__(
        self, ledger: Ledger, scope: str, reader: Reader, horizons: Sequence[int], clock: Clock, report: SourceReport
    ) -> None:
        self._ledger = ledger
        self._scope = scope
        self._reader = reader
        self._horizons = horizons
        self._clock = clock
        self._report = report
        stored = ledger.fact(scope, _FACT)
        self._known: dict[int, list[int]] = (
            {int(start): values for start, values in json.loads(stored).items()} if stored else {}
        )

    async def parts_to_list(self, stretch: Window) -> list[Window]:
        """Return the parts of a stretch that may hold something new. Raises as the reader does."""
        parts, run, whole = list[Window](), list[int](), list[int]()
        for piece in _pieces(stretch):
            if piece.length < BUCKET_MS:
                parts.append(piece)
            elif self._is_due(piece.start):
                whole.append(piece.start)
            elif run and run[-1] + BUCKET_MS != piece.start:
                whole += await self._differing(run)
                run = [piece.start]
            else:
                run.append(piece.start)
        whole += await self._differing(run)
        for start in sorted(whole):
            bucket = Window(start, start + BUCKET_MS)
            # Counted before it is listed: what comes in between shows the next time.
            self._known[start] = [await self._count(bucket), self._clock.now_ms()]
            parts.append(bucket)
        return parts

    def store(self) -> None:
        """Keep the counts for the next run, as far back as looks reach."""
        oldest = self._clock.now_ms() - 2 * self._horizons[-1]
        self._known = {start: values for start, values in self._known.items() if start >= oldest}
        self._ledger.learn(self._scope, _FACT, json.dumps(self._known, separators=(",", ":")))

    def _is_due(self, start: int) -> bool:
        """Whether a bucket was never listed, or not since a horizon but the deepest passed over it."""
        known = self._known.get(start)
        if known is None:
            return True
        end, now = start + BUCKET_MS, self._clock.now_ms()
        return any(known[1] < end + horizon <= now for horizon in self._horizons[:-1])

    async def _differing(self, run: Sequence[int]) -> list[int]:
        """Return which of these buckets, one after the other, hold another number of rows than they did."""
        if not run:
            return []
        counted = await self._count(Window(run[0], run[-1] + BUCKET_MS))
        if counted == sum(self._known[start][0] for start in run):
            return []
        if len(run) == 1:
            return list(run)
        middle = len(run) // 2
        return [*await self._differing(run[:middle]), *await self._differing(run[middle:])]

    async def _count(self, window: Window) -> int:
        self._report.langfuse_requests_of_late_scans += _REQUESTS
        return await self._reader.count(window) or 0


def _pieces(stretch: Window) -> list[Window]:
    """Cut a stretch where buckets begin."""
    pieces = []
    here = stretch.start
    while here < stretch.end:
        end = min(stretch.end, here - here % BUCKET_MS + BUCKET_MS)
        pieces.append(Window(here, end))
        here = end
    return pieces
