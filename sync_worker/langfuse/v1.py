"""Reads the v1 endpoints: self-hosted Langfuse v2 and v3, and v4 while it still writes both generations.

Traces and observations are two lists. They are walked side by side, so that rows come newest first whichever list they
stand on; what a trace says of itself comes as its synthetic root row. Lists always hold all content.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from sync_worker.errors import RecordRefused, TransientError
from sync_worker.langfuse.client import Answer, EndpointMissing, LangfuseClient, RequestRejected
from sync_worker.langfuse.filters import any_of, not_before, parts
from sync_worker.langfuse.listing import MAX_ROWS, OBSERVATIONS, TRACES, Listing, fetch_part
from sync_worker.langfuse.media import whole_row
from sync_worker.langfuse.reader import Page
from sync_worker.langfuse.rows import unreadable
from sync_worker.langfuse.walk import Stretch, Walk
from sync_worker.records import SYNTHETIC_ROOT_PREFIX, Api, Observation
from sync_worker.windows import Window

#: The first version whose v1 lists take `filter`; older ones pass over it without a word. (Changelog of 2025-11-03.)
_FILTERS_SINCE = (3, 120)
_NO_PARENT: dict[str, Any] = {"type": "null", "column": "parentObservationId", "operator": "is null", "value": ""}
_VERSION = re.compile(r"v?(\d+)\.(\d+)")


class V1Reader:
    """Walks both v1 lists."""

    api: Api = "v1"
    lists_lightly = False

    def __init__(
        self, client: LangfuseClient, limits: Mapping[str, int] | None = None, version: str | None = None
    ) -> None:
        self._client = client
        learnt = limits or {}
        self._observations = Walk(client, OBSERVATIONS, learnt.get(OBSERVATIONS.path, MAX_ROWS))
        self._traces = Walk(client, TRACES, learnt.get(TRACES.path, MAX_ROWS))
        self._filters = takes_filters(version)

    @property
    def limits(self) -> dict[str, int]:
        """Rows a page by list, as found out so far."""
        return {OBSERVATIONS.path: self._observations.limit, TRACES.path: self._traces.limit}

    @property
    def ahead_ms(self) -> int:
        """How far this machine's clock runs ahead of the server's, in milliseconds; 0 when it does not."""
        return self._client.ahead_ms

    async def count(self, window: Window) -> int:
        """Return how many rows the server counts in the window, versions of a row that it has yet to merge included."""
        return await self._observations.count(window) + await self._traces.count(window)

    async def window(
        self, window: Window, *, light: bool = False, ended_since_ms: int | None = None
    ) -> AsyncIterator[Page]:
        """Walk all rows that start in the window, newest first.

        Older servers cannot be asked for what ended lately: to them, nothing did.
        """
        if ended_since_ms is not None:
            conditions = [not_before("endTime", ended_since_ms)]
            walk = self._walk(OBSERVATIONS, window, conditions) if self._filters else _nothing()
        else:
            walk = _side_by_side(self._observations.walk(window), self._traces.walk(window), window)
        async for page in walk:
            yield _lightened(page) if light else page

    async def traces(self, trace_ids: Sequence[str], window: Window, *, light: bool = False) -> AsyncIterator[Page]:
        """Walk all rows of these traces that start in the window."""
        async for page in self._trace_rows(trace_ids, window):
            yield _lightened(page) if light else page
        async for page in self._rows_of(trace_ids, window):
            yield _lightened(page) if light else page

    async def roots(self, trace_ids: Sequence[str], window: Window) -> AsyncIterator[Page]:
        """Walk what these traces say of themselves, and their rows without a parent."""
        async for page in self._trace_rows(trace_ids, window):
            yield _lightened(page)
        async for page in self._rows_of(trace_ids, window, [_NO_PARENT]):
            yield _lightened(page)

    async def rows(self, row_ids: Sequence[str], window: Window) -> AsyncIterator[Page]:
        """Walk the rows with these ids that start in the window, with their content."""
        roots = [row_id for row_id in row_ids if row_id.startswith(SYNTHETIC_ROOT_PREFIX)]
        async for page in self._trace_rows([row_id.removeprefix(SYNTHETIC_ROOT_PREFIX) for row_id in roots], window):
            yield page
        others = [row_id for row_id in row_ids if not row_id.startswith(SYNTHETIC_ROOT_PREFIX)]
        if self._filters:
            for part in parts(others):
                async for page in self._walk(OBSERVATIONS, window, [any_of("id", part)]):
                    yield page
            return
        for row_id in others:
            yield await self._one(OBSERVATIONS, row_id)

    async def whole(self, row: Observation) -> Observation:
        """Return the row with input and output that the server keeps elsewhere put in; the same row where none is."""
        return await whole_row(self._client, row)

    async def _rows_of(
        self, trace_ids: Sequence[str], window: Window, conditions: Sequence[Mapping[str, Any]] = ()
    ) -> AsyncIterator[Page]:
        """Walk observations of these traces; an older server knows no conditions, and is asked trace by trace."""
        if self._filters:
            for part in parts(trace_ids):
                async for page in self._walk(OBSERVATIONS, window, [any_of("traceId", part), *conditions]):
                    yield page
            return
        for trace_id in trace_ids:
            async for page in self._walk(OBSERVATIONS, window, extra={"traceId": trace_id}):
                yield page

    async def _trace_rows(self, trace_ids: Sequence[str], window: Window) -> AsyncIterator[Page]:
        """Walk the synthetic roots of these traces; a trace that was never created has none."""
        if self._filters:
            for part in parts(trace_ids):
                async for page in self._walk(TRACES, window, [any_of("id", part)]):
                    yield page
            return
        for trace_id in trace_ids:
            yield await self._one(TRACES, trace_id)

    async def _walk(
        self,
        listing: Listing,
        window: Window,
        conditions: Sequence[Mapping[str, Any]] = (),
        extra: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Page]:
        walk = self._observations if listing is OBSERVATIONS else self._traces
        async for found in walk.walk(window, conditions, extra):
            yield Page(found.rows, found.unreadable, found.size)

    async def _one(self, listing: Listing, item_id: str) -> Page:
        """Fetch a single row by its id; a page without rows where it is not there."""
        answer = await self._get_or_none(f"{listing.path}/{quote(item_id, safe='')}", listing)
        if answer is None:
            return Page()
        try:
            return Page([listing.parse(answer.body)], size=answer.size)
        except RecordRefused as refusal:
            return Page(unreadable=[unreadable(answer.body, str(refusal))], size=answer.size)

    async def _get_or_none(self, path: str, listing: Listing) -> Answer | None:
        """GET one thing; None where it is not there but its list is, else EndpointMissing is raised."""
        fields = {"fields": "core,io"} if listing is TRACES else {}
        while True:
            try:
                answer = await self._client.attempt(path, fields)
            except (EndpointMissing, RequestRejected):
                await fetch_part(self._client, listing, listing.params, 1)
                return None
            except TransientError as fault:
                await self._client.backoff.wait(fault)
            else:
                self._client.backoff.success()
                return answer


def takes_filters(version: str | None) -> bool:
    """Whether the v1 lists of a server of this version take `filter`; an unknown version is taken to be old."""
    found = _VERSION.match(version or "")
    return found is not None and (int(found[1]), int(found[2])) >= _FILTERS_SINCE


async def _side_by_side(
    observations: AsyncIterator[Stretch], traces: AsyncIterator[Stretch], window: Window
) -> AsyncIterator[Page]:
    """Merge two walks into one, newest first: a row waits until the other walk has come as far."""
    walks = (observations, traces)
    reached = [window.end, window.end]
    held: list[Observation] = []
    size = 0
    while max(reached) > window.start:
        behind = 0 if reached[0] >= reached[1] else 1
        found = await anext(walks[behind], Stretch(window.start))
        reached[behind] = min(reached[behind], found.down_to)
        held += found.rows
        size += found.size
        out = max(reached)
        ready = sorted((row for row in held if row.start_ms >= out), key=lambda row: -row.start_ms)
        if ready or found.unreadable:
            share = size * len(ready) // max(1, len(held))
            held = [row for row in held if row.start_ms < out]
            size -= share
            yield Page(ready, found.unreadable, share)
    if held:  # rows that the server lists though they lie outside
        yield Page(held, size=size)


async def _nothing() -> AsyncIterator[Page]:
    for page in list[Page]():
        yield page


def _lightened(page: Page) -> Page:
    """Return the page without content: it came, but need not be held."""
    rows = [replace(row, input=None, output=None) for row in page.rows]
    return Page(rows, page.unreadable, 0)
