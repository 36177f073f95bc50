"""Walks a v1 list without ever trusting a second page.

Rows that share a start have no order, so a list cut into pages by number repeats some rows and leaves out others: real
servers lost 2 of 197 at 50 a page. The walk asks for first pages only. A first page holds every row that starts after
the oldest one on it; the next first page ends just behind that, so that ties are read again. How many rows the server
counts before and after must agree with how many were seen; where they do not, the stretch is read again in halves. A
single millisecond that does not fit a page is read by `moment`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sync_worker.langfuse.client import LangfuseClient
from sync_worker.langfuse.listing import MAX_ROWS, Listing, Part, Question
from sync_worker.langfuse.moment import read_moment
from sync_worker.langfuse.paging import Paging
from sync_worker.langfuse.reader import Unreadable
from sync_worker.records import Observation
from sync_worker.windows import Window


@dataclass(slots=True)
class Stretch:
    """Rows of a walk, and how far it is: all rows that start at or after `down_to`, in Unix ms, are out."""

    down_to: int
    rows: list[Observation] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    size: int = 0


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a first page claims: that of `total` rows it showed `seen`, all that start in `newer`."""

    newer: Window
    total: int
    seen: int


class Walk:
    """Walks one v1 list with pages as large as the server bears, 100 rows at most."""

    def __init__(self, client: LangfuseClient, listing: Listing, limit: int = MAX_ROWS, *, filters: bool) -> None:
        self._listing = listing
        self._filters = filters
        self.paging = Paging(client, listing, limit)

    @property
    def limit(self) -> int:
        """Rows a page, as found out so far."""
        return self.paging.size.limit

    async def count(self, window: Window) -> int:
        """Return how many rows the server counts in the window. Raises as `walk`."""
        return await self.paging.total(Question(self._listing, window))

    async def walk(
        self, window: Window, conditions: Sequence[Mapping[str, Any]] = (), extra: Mapping[str, str] | None = None
    ) -> AsyncIterator[Stretch]:
        """Walk all rows that start in the window, newest first. Rows may repeat.

        Raises as the client does; what is transient only when patience ends.
        """
        whole = Question(self._listing, window, tuple(conditions), extra or {})
        todo: list[tuple[Window, Part | None]] = [(window, None)] if window.length > 0 else []
        claim: _Claim | None = None
        while todo:
            here, part = todo.pop()
            question = whole.within(here)
            part = part or await self.paging.first(question)
            if part is None or (here.length <= 1 and not part.is_all):
                claim = None
                if here.length > 1:
                    instead = await self._around(question)
                    todo += [(window, None) for window in instead]
                    if not instead:
                        page = await self.paging.alone(question)
                        yield Stretch(here.start, page.rows, page.unreadable, page.size)
                    continue
                async for page in read_moment(self.paging, question, part, filters=self._filters):
                    yield Stretch(here.end, page.rows, page.unreadable, page.size)
                yield Stretch(here.start)
                continue
            if claim is not None and claim.total - part.total > claim.seen:
                todo += [(here, part), *((half, None) for half in _halves(claim.newer))]
                claim = None
                continue
            claim = None
            if part.is_all:
                yield Stretch(here.start, part.rows, part.unreadable, part.size)
                continue
            yield Stretch(here.end, part.rows, part.unreadable, part.size)
            starts = [row.start_ms for row in part.rows if here.holds(row.start_ms)]
            oldest = min(starts, default=None)
            if oldest is None:
                todo += [(half, None) for half in _halves(here)]
            elif oldest + 1 == here.end:
                todo += [(Window(here.start, oldest), None), (Window(oldest, here.end), None)]
            else:
                newer = {(row.trace_id, row.id) for row in part.rows if row.start_ms > oldest}
                claim = _Claim(Window(oldest + 1, here.end), part.total, len(newer) + len(part.unreadable))
                todo.append((Window(here.start, oldest + 1), None))

    async def _around(self, question: Question) -> list[Window]:
        """Return what to walk instead of a stretch whose newest row is not served; nothing when it is the only one."""
        here = question.window
        behind = await self.paging.numbered(question, 1, 2)
        if behind is not None and behind.total <= 1:
            return []
        starts = [] if behind is None else [row.start_ms for row in behind.rows if here.holds(row.start_ms)]
        if starts and starts[0] + 1 < here.end:
            return [Window(here.start, starts[0] + 1), Window(starts[0] + 1, here.end)]
        newest = await self._newest(question)
        return [window for window in (Window(here.start, newest), Window(newest, newest + 1)) if window.length > 0]

    async def _newest(self, question: Question) -> int:
        """Return the millisecond of the newest row, found by counts alone; little time first, which holds few rows."""
        start, end = question.window
        low, high = end - 1, end
        while low > start and not await self._holds_any(question, low):
            low, high = max(start, end - 4 * (end - low)), low
        while high - low > 1:
            middle = low + (high - low) // 2
            if await self._holds_any(question, middle):
                low = middle
            else:
                high = middle
        return low

    async def _holds_any(self, question: Question, since: int) -> bool:
        return await self.paging.total(question.within(Window(since, question.window.end)), beyond=True) > 0


def _halves(window: Window) -> list[Window]:
    """Return both halves, the newer one last; a millisecond stays whole."""
    middle = window.start + window.length // 2
    return [Window(window.start, middle), Window(middle, window.end)] if middle > window.start else [window]
