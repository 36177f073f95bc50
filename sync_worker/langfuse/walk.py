"""Walks a v1 list without ever trusting a second page.

Rows that share a start have no order, so a list cut into pages by number repeats some rows and leaves out others: real
servers lost 2 of 197 at 50 a page. The walk asks for first pages only. A first page holds every row that starts after
the oldest one on it; the next first page ends just behind that, so that ties are read again. How many rows the server
counts before and after must agree with how many were seen; where they do not, the stretch is read again in halves. A
single millisecond with more rows than a page is split by type, level and trace.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sync_worker.errors import TransientError
from sync_worker.langfuse.client import LangfuseClient, PageTooHeavy, RequestRejected, ServerFault
from sync_worker.langfuse.listing import MAX_ROWS, Listing, Part, fetch_part
from sync_worker.langfuse.page_size import PageSize
from sync_worker.langfuse.reader import Unreadable
from sync_worker.langfuse.shrinking import fetch_fitting
from sync_worker.records import Observation
from sync_worker.windows import Window

#: How often a millisecond that nothing splits is read by page number, with pages of other lengths, until none is new.
_ROUNDS = 8
#: How often a row is asked for alone before it is to blame.
_TRIES = 2

log = logging.getLogger(__name__)


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


class _UnservableError(TransientError):
    """The newest row of a stretch is not served even alone."""


class Walk:
    """Walks one v1 list with pages as large as the server bears, 100 rows at most."""

    def __init__(self, client: LangfuseClient, listing: Listing, limit: int = MAX_ROWS) -> None:
        self._client = client
        self._listing = listing
        self._size = PageSize(limit, MAX_ROWS)
        self._served: int | None = None  # start of a row that was served, to tell a bad row from a bad server

    @property
    def limit(self) -> int:
        """Rows a page, as found out so far."""
        return self._size.limit

    async def count(self, window: Window) -> int:
        """Return how many rows the server counts in the window. Raises as `walk`."""
        query = self._listing.query(window)
        while True:
            try:
                part = await fetch_part(self._client, self._listing, query, 1)
            except TransientError as fault:
                await self._client.backoff.wait(fault)
            else:
                self._client.backoff.success()
                return part.total

    async def walk(
        self, window: Window, conditions: Sequence[Mapping[str, Any]] = (), extra: Mapping[str, str] | None = None
    ) -> AsyncIterator[Stretch]:
        """Walk all rows that start in the window, newest first. Rows may repeat.

        Raises as the client does; what is transient only when patience ends.
        """
        todo = [window]
        claim: _Claim | None = None
        while todo:
            here = todo.pop()
            query = self._listing.query(here, conditions) | dict(extra or {})
            try:
                part = await self._fetch(query)
            except _UnservableError as fault:
                if here.length > 1:
                    newest_is_alone, instead = await self._around(here, query)
                    todo += instead
                    if newest_is_alone:
                        yield Stretch(here.start, unreadable=[_not_served(fault)])
                else:
                    async for found in self._one_by_one(query, here):
                        yield found
                    yield Stretch(here.start)
                claim = None
                continue
            if claim is not None and claim.total - part.total > claim.seen:
                todo += [here, *_halves(claim.newer)]
                claim = None
                continue
            claim = None
            if part.is_all:
                yield Stretch(here.start, part.rows, part.unreadable, part.size)
            elif here.length <= 1:
                async for found in self._crowded(query, here, part):
                    yield found
                yield Stretch(here.start)
            else:
                yield Stretch(here.end, part.rows, part.unreadable, part.size)
                starts = [row.start_ms for row in part.rows if here.holds(row.start_ms)]
                oldest = min(starts, default=here.end)
                if here.start < oldest + 1 < here.end:
                    rest = Window(here.start, oldest + 1)
                    newer = {(row.trace_id, row.id) for row in part.rows if row.start_ms > oldest}
                    claim = _Claim(Window(oldest + 1, here.end), part.total, len(newer) + len(part.unreadable))
                    todo.append(rest)
                elif oldest + 1 == here.end:
                    todo += [Window(here.start, oldest), Window(oldest, here.end)]
                else:
                    todo += _halves(here)

    async def _fetch(self, query: Mapping[str, str]) -> Part:
        async def fetch(limit: int) -> Part:
            part = await fetch_part(self._client, self._listing, query, limit)
            self._size.served(limit, part.size)
            if part.rows:
                self._served = part.rows[-1].start_ms
            return part

        async def alone(fault: TransientError) -> Part:
            raise _UnservableError(str(fault))

        return await fetch_fitting(self._client, self._size, fetch, alone)

    # Rows of one millisecond

    async def _crowded(self, query: Mapping[str, str], here: Window, part: Part) -> AsyncIterator[Stretch]:
        """Read a millisecond that does not fit a page, split by what rows can be asked for by."""
        seen: dict[tuple[str | None, str], str | None] = {}
        async for found in self._split(query, here, part, self._listing.facets, seen):
            yield found
        whole = await self._fetch(query)
        missing = whole.total - len(seen)
        if missing > 0:
            async for found in self._by_number(query, here, whole.total, seen):
                yield found
        missing = whole.total - len(seen)
        if missing > 0:  # unmerged versions of rows count twice, so this is seldom a loss
            log.warning(
                "%s counts %d rows at one moment, %d were seen: `verify` tells whether any is missing",
                self._listing.path, whole.total, len(seen), extra={"action": "ties"},
            )  # fmt: skip

    async def _split(
        self,
        query: Mapping[str, str],
        here: Window,
        part: Part,
        facets: Sequence[tuple[str, tuple[str, ...]]],
        seen: dict[tuple[str | None, str], str | None],
    ) -> AsyncIterator[Stretch]:
        yield _noted(part, here, seen)
        values: Iterable[str]
        if facets:
            name, values = facets[0]
        elif self._listing.by_trace and "traceId" not in query:
            name, values = "traceId", sorted({trace for trace in seen.values() if trace is not None})
        else:
            return
        for value in values:
            narrower = {**query, name: value}
            try:
                found = await self._fetch(narrower)
            except RequestRejected:  # an older server does not know this value
                continue
            if found.is_all:
                yield _noted(found, here, seen)
            else:
                async for stretch in self._split(narrower, here, found, facets[1:], seen):
                    yield stretch

    async def _by_number(
        self, query: Mapping[str, str], here: Window, total: int, seen: dict[tuple[str | None, str], str | None]
    ) -> AsyncIterator[Stretch]:
        """Read page after page, over and over with pages of another length, until all that are counted were seen."""
        stable = {**query, **self._listing.stable}
        for turn in range(_ROUNDS):
            limit = max(1, self._size.limit - 7 * turn)
            page = 1
            while (page - 1) * limit < total:
                part = await self._numbered(stable, limit, page)
                total = part.total
                page += 1
                yield _noted(part, here, seen)
            if len(seen) >= total:
                return

    async def _numbered(self, query: Mapping[str, str], limit: int, page: int) -> Part:
        while True:
            try:
                part = await fetch_part(self._client, self._listing, query, limit, page)
            except TransientError as fault:
                await self._client.backoff.wait(fault)
            else:
                self._client.backoff.success()
                return part

    # Rows that are not served

    async def _around(self, here: Window, query: Mapping[str, str]) -> tuple[bool, list[Window]]:
        """Say whether the newest row of a stretch, which is not served, is its only one; else what to walk instead.

        The row is only to blame while the server serves another; else the server is at fault, which is waited out.
        """
        second = await self._try(query, 2)
        if second is None:
            return False, _halves(here)
        starts = [row.start_ms for row in second.rows if here.holds(row.start_ms)]
        if not starts:
            return second.total <= 1, [] if second.total <= 1 else _halves(here)
        behind = starts[0] + 1
        if behind >= here.end:
            return False, _halves(here)
        return False, [Window(here.start, behind), Window(behind, here.end)]

    async def _one_by_one(self, query: Mapping[str, str], here: Window) -> AsyncIterator[Stretch]:
        """Read the rows of a millisecond one a page; those that are not served become unreadable."""
        stable = {**query, **self._listing.stable}
        number, total = 1, MAX_ROWS
        while number <= total:
            part = await self._try(stable, number)
            if part is None:
                yield Stretch(here.end, unreadable=[_not_served(None)])
            else:
                total = part.total
                yield Stretch(here.end, part.rows, part.unreadable, part.size)
            number += 1

    async def _try(self, query: Mapping[str, str], page: int) -> Part | None:
        """Fetch one row by its number; None when it is not served while others are."""
        for turn in range(_TRIES):
            try:
                part = await fetch_part(self._client, self._listing, query, 1, page)
            except (PageTooHeavy, ServerFault) as fault:
                if turn == _TRIES - 1:
                    await self._until_served(fault)
                else:
                    await self._client.backoff.wait(fault)
            except TransientError as down:
                await self._client.backoff.wait(down)
            else:
                self._client.backoff.success()
                self._size.stepped_over()
                return part
        return None

    async def _until_served(self, fault: TransientError) -> None:
        """Wait until a row that was served before is served again. Raises when patience ends."""
        if self._served is None:
            await self._client.backoff.wait(fault)
            return
        query = self._listing.query(Window(self._served, self._served + 1))
        while True:
            try:
                await fetch_part(self._client, self._listing, query, 1)
            except TransientError as down:
                await self._client.backoff.wait(down)
            else:
                self._client.backoff.success()
                return


def _not_served(fault: TransientError | None) -> Unreadable:
    reason = "Langfuse cannot serve it" + ("" if fault is None else f": {fault}")
    log.warning("a row cannot be served%s", "" if fault is None else f": {fault}", extra={"action": "dead-letter"})
    return Unreadable(reason)


def _noted(part: Part, here: Window, seen: dict[tuple[str | None, str], str | None]) -> Stretch:
    seen.update({(row.trace_id, row.id): row.trace_id for row in part.rows})
    return Stretch(here.end, part.rows, part.unreadable, part.size)


def _halves(window: Window) -> list[Window]:
    """Return both halves, the newer one last; a millisecond stays whole."""
    middle = window.start + window.length // 2
    return [Window(window.start, middle), Window(middle, window.end)] if middle > window.start else [window]
