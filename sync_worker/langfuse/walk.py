"""Walks a v1 list without ever trusting a second page.

Observations that share a start have no order, so a list cut into pages by number repeats some observations and leaves
out others: real servers lost 2 of 197 at 50 a page. The walk asks for first pages only. A first page holds every
observation that starts after the oldest one on it; the next first page ends just behind that, so that ties are read
again. How many observations the server counts before and after must agree with how many were seen; where they do not,
the interval is read again in halves. A single millisecond that does not fit a page is read by `moment`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sync_worker.intervals import Interval
from sync_worker.langfuse.langfuse_client import LangfuseClient
from sync_worker.langfuse.listing import MAX_ROWS, Listing, Part, Question
from sync_worker.langfuse.moment import read_moment
from sync_worker.langfuse.paging import Paging
from sync_worker.langfuse.reader import Unreadable
from sync_worker.records import Observation


@dataclass(slots=True)
class Walked:
    """Observations of a walk, and how far it is.

    All observations that start at or after `down_to`, in Unix ms, are out.
    """

    down_to: int
    observations: list[Observation] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    size: int = 0


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a first page claims: that of `total` observations it showed `seen`, all that start in `newer`."""

    newer: Interval
    total: int
    seen: int


class Walk:
    """Walks one v1 list with pages as large as the server bears, 100 observations at most."""

    def __init__(self, client: LangfuseClient, listing: Listing, limit: int = MAX_ROWS, *, filters: bool) -> None:
        self._listing = listing
        self._filters = filters
        self.paging = Paging(client, listing, limit)

    @property
    def limit(self) -> int:
        """Observations a page, as found out so far."""
        return self.paging.size.limit

    async def count(self, interval: Interval) -> int:
        """Return how many observations the server counts in the interval. Raises as `walk`."""
        return await self.paging.total(Question(self._listing, interval))

    async def walk(
        self, interval: Interval, conditions: Sequence[Mapping[str, Any]] = (), extra: Mapping[str, str] | None = None
    ) -> AsyncIterator[Walked]:
        """Walk all observations that start in the interval, newest first. Observations may repeat.

        Raises as the client does; transient errors only when the retry deadline passes.
        """
        whole = Question(self._listing, interval, tuple(conditions), extra or {})
        todo: list[tuple[Interval, Part | None]] = [(interval, None)] if interval.length > 0 else []
        claim: _Claim | None = None
        while todo:
            here, part = todo.pop()
            question = whole.within(here)
            part = part or await self.paging.first(question)
            if part is None or (here.length <= 1 and not part.is_all):
                claim = None
                if here.length > 1:
                    instead = await self._around(question)
                    todo += [(interval, None) for interval in instead]
                    if not instead:
                        page = await self.paging.alone(question)
                        yield Walked(here.start, page.observations, page.unreadable, page.size)
                    continue
                async for page in read_moment(self.paging, question, part, filters=self._filters):
                    yield Walked(here.end, page.observations, page.unreadable, page.size)
                yield Walked(here.start)
                continue
            if claim is not None and claim.total - part.total > claim.seen:
                todo += [(here, part), *((half, None) for half in _halves(claim.newer))]
                claim = None
                continue
            claim = None
            if part.is_all:
                yield Walked(here.start, part.observations, part.unreadable, part.size)
                continue
            yield Walked(here.end, part.observations, part.unreadable, part.size)
            starts = [observation.start_ms for observation in part.observations if here.contains(observation.start_ms)]
            oldest = min(starts, default=None)
            if oldest is None:
                todo += [(half, None) for half in _halves(here)]
            elif oldest + 1 == here.end:
                todo += [(Interval(here.start, oldest), None), (Interval(oldest, here.end), None)]
            else:
                newer = {
                    (observation.trace_id, observation.id)
                    for observation in part.observations
                    if observation.start_ms > oldest
                }
                claim = _Claim(Interval(oldest + 1, here.end), part.total, len(newer) + len(part.unreadable))
                todo.append((Interval(here.start, oldest + 1), None))

    async def _around(self, question: Question) -> list[Interval]:
        """Return what to walk instead of an interval whose newest observation is not served.

        Nothing when it is the only one.
        """
        here = question.interval
        behind = await self.paging.numbered(question, 1, 2)
        if behind is not None and behind.total <= 1:
            return []
        starts = (
            []
            if behind is None
            else [observation.start_ms for observation in behind.observations if here.contains(observation.start_ms)]
        )
        if starts and starts[0] + 1 < here.end:
            return [Interval(here.start, starts[0] + 1), Interval(starts[0] + 1, here.end)]
        newest = await self._newest(question)
        return [
            interval for interval in (Interval(here.start, newest), Interval(newest, newest + 1)) if interval.length > 0
        ]

    async def _newest(self, question: Question) -> int:
        """Return the millisecond of the newest observation, found by counts alone.

        Little time first, which holds few observations.
        """
        start, end = question.interval
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
        return await self.paging.total(question.within(Interval(since, question.interval.end)), beyond=True) > 0


def _halves(interval: Interval) -> list[Interval]:
    """Return both halves, the newer one last; a millisecond stays whole."""
    middle = interval.start + interval.length // 2
    return [Interval(interval.start, middle), Interval(middle, interval.end)] if middle > interval.start else [interval]
