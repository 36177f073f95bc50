"""Reads `GET /api/public/v2/observations`: Langfuse Cloud and self-hosted v4.

Rows come by start time, newest first, rows of one trace apart from each other, behind an opaque cursor that is stable
while rows are added. A page may be short or empty and still have a cursor; only its absence ends a walk. The cursor
carries no filters, so each request repeats them. (Langfuse v4.16.0, and its changelog of 2026-11-03.)
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from sync_worker.errors import RecordRefused, TransientError
from sync_worker.json_text import dump
from sync_worker.langfuse.client import EndpointMissing, LangfuseClient, PageTooHeavy, ServerFault
from sync_worker.langfuse.reader import Page, Unreadable
from sync_worker.langfuse.rows import parse_row
from sync_worker.times import iso_time
from sync_worker.windows import Window

PATH = "/api/public/v2/observations"
MAX_LIMIT = 1000  # rows a page; the server refuses more

FULL = "core,basic,time,io,metadata,model,usage,prompt,trace_context"
LIGHT = "core,basic,time"
CONTEXT = "core,basic,time,metadata,trace_context"

#: A page whose decoded answer passes this many bytes is halved, so that memory stays bounded by the page.
HEAVY_PAGE_BYTES = 16 * 1024 * 1024
#: Bytes that a list of ids may take in an address: bare servers took 16 KB, an edge in front may take less.
MAX_FILTER_BYTES = 6_400
#: What a page is divided by when the server fails or times out on it: each such try is slow, so few are made.
_SHRINK_ON_FAULT = 8
#: Asking for any key makes the server return all metadata uncut where input and output are not asked for.
_WHOLE_METADATA = {"expandMetadata": "langfuse"}
_MAX_RAW = 20_000  # characters of a row that cannot be understood, kept for a look

log = logging.getLogger(__name__)


class V2Reader:
    """Walks the v2 endpoint with pages as large as the server bears."""

    def __init__(self, client: LangfuseClient) -> None:
        self._client = client
        self._limits = {FULL: MAX_LIMIT, LIGHT: MAX_LIMIT, CONTEXT: MAX_LIMIT}

    def window(self, window: Window, *, light: bool = False) -> AsyncIterator[Page]:
        """Walk all rows that start in the window."""
        return self._walk(LIGHT if light else FULL, _bounds(window))

    async def traces(self, trace_ids: Sequence[str], window: Window, *, light: bool = False) -> AsyncIterator[Page]:
        """Walk all rows of these traces that start in the window."""
        for part in _parts(trace_ids):
            async for page in self._walk(LIGHT if light else FULL, _bounds(window) | _filter(_any_of("traceId", part))):
                yield page

    async def roots(self, trace_ids: Sequence[str], window: Window) -> AsyncIterator[Page]:
        """Walk the root rows of these traces that start in the window."""
        is_root = {"type": "boolean", "column": "isRootObservation", "operator": "=", "value": True}
        for part in _parts(trace_ids):
            params = _bounds(window) | _filter(_any_of("traceId", part), is_root) | _WHOLE_METADATA
            async for page in self._walk(CONTEXT, params):
                yield page

    async def rows(self, row_ids: Sequence[str], window: Window) -> AsyncIterator[Page]:
        """Walk the rows with these ids that start in the window, with their content."""
        for part in _parts(row_ids):
            async for page in self._walk(FULL, _bounds(window) | _filter(_any_of("id", part))):
                yield page

    async def _walk(self, fields: str, params: Mapping[str, str]) -> AsyncIterator[Page]:
        cursor: str | None = None
        seen: set[str] = set()
        while True:
            page, cursor = await self._page(fields, params, cursor)
            yield page
            if cursor is None:
                return
            if cursor in seen:
                raise TransientError(
                    "Langfuse gave the same page cursor twice: the walk would never end, so the window stays open. "
                    "Try: run again; if it stays, report the server's version"
                )
            seen.add(cursor)

    async def _page(self, fields: str, params: Mapping[str, str], cursor: str | None) -> tuple[Page, str | None]:
        """Fetch one page, smaller and smaller while the server cannot serve it; Stopped may be raised between."""
        faults = 0
        while True:
            self._client.clock.check()
            await self._client.backoff.ready()
            limit = self._limits[fields]
            try:
                page, after = await self._fetch(fields, params, cursor, limit)
            except PageTooHeavy as fault:
                if limit == 1:
                    return await self._without_content(fields, params, cursor, fault)
                self._shrink(fields, limit // 2, fault)
            except ServerFault as fault:
                faults += 1
                if faults > 1 and limit == 1:
                    return await self._without_content(fields, params, cursor, fault)
                await self._client.backoff.wait(fault)
                if faults > 1:
                    self._shrink(fields, limit // _SHRINK_ON_FAULT, fault)
            except TransientError as fault:
                await self._client.backoff.wait(fault)
            else:
                self._client.backoff.success()
                self._grow(fields, limit, page)
                return page, after

    async def _fetch(
        self, fields: str, params: Mapping[str, str], cursor: str | None, limit: int
    ) -> tuple[Page, str | None]:
        asked = {"fields": fields, "limit": str(limit), **params}
        if cursor is not None:
            asked["cursor"] = cursor
        try:
            answer = await self._client.get(PATH, asked)
        except EndpointMissing as missing:
            raise EndpointMissing(
                f"{missing}. The worker reads Langfuse Cloud and self-hosted v4; self-hosted v2 and v3, and v4 in legacy "
                "write mode, do not have this endpoint. Try: is LANGFUSE_BASE_URL right? Else upgrade the server"
            ) from missing
        body = answer.body
        data = body.get("data") if isinstance(body, Mapping) else None
        if not isinstance(data, list):
            raise TransientError(f"{PATH} answered 200 without a list of rows under `data`: not Langfuse's API")
        meta = body.get("meta")
        after = meta.get("cursor") if isinstance(meta, Mapping) else None
        page = Page(size=answer.size)
        for item in data:
            try:
                page.rows.append(parse_row(item))
            except RecordRefused as refusal:
                page.unreadable.append(_unreadable(item, str(refusal)))
        return page, after if isinstance(after, str) and after else None

    async def _without_content(
        self, fields: str, params: Mapping[str, str], cursor: str | None, fault: TransientError
    ) -> tuple[Page, str | None]:
        """Step over a row that cannot be served even alone: list it without content, as a dead letter."""
        while True:
            try:
                listed, after = await self._fetch(LIGHT, params, cursor, 1)
            except TransientError as down:  # not this row's fault: the server serves nothing now
                await self._client.backoff.wait(down)
                continue
            self._client.backoff.success()
            self._limits[fields] = 2
            page = Page(unreadable=listed.unreadable)
            for row in listed.rows:
                log.warning("row %s cannot be served: %s", row.id, fault, extra={"action": "dead-letter"})
                page.unreadable.append(Unreadable(f"Langfuse cannot serve it: {fault}", row.id, row.trace_id))
            return page, after

    def _shrink(self, fields: str, limit: int, fault: TransientError) -> None:
        self._limits[fields] = max(1, limit)
        log.info("%s: the page becomes %d rows", fault, self._limits[fields], extra={"action": "shrink"})

    def _grow(self, fields: str, limit: int, page: Page) -> None:
        """Set the size of the next page by what this one weighed."""
        if page.size > HEAVY_PAGE_BYTES:
            self._limits[fields] = max(1, limit // 2)
        elif limit < MAX_LIMIT and page.size * 2 <= HEAVY_PAGE_BYTES:
            self._limits[fields] = min(MAX_LIMIT, limit * 2)


def _bounds(window: Window) -> dict[str, str]:
    return {"fromStartTime": iso_time(window.start), "toStartTime": iso_time(window.end)}


def _filter(*conditions: Mapping[str, Any]) -> dict[str, str]:
    return {"filter": dump(conditions)}


def _any_of(column: str, values: Sequence[str]) -> dict[str, Any]:
    return {"type": "stringOptions", "column": column, "operator": "any of", "value": list(values)}


def _parts(ids: Sequence[str]) -> Iterator[list[str]]:
    """Cut ids into lists that fit an address."""
    part: list[str] = []
    used = 0
    for item in ids:
        cost = len(quote(dump(item))) + 3
        if part and used + cost > MAX_FILTER_BYTES:
            yield part
            part, used = [], 0
        part.append(item)
        used += cost
    if part:
        yield part


def _unreadable(item: Any, reason: str) -> Unreadable:
    row = item if isinstance(item, Mapping) else {}
    row_id, trace_id = row.get("id"), row.get("traceId")
    return Unreadable(
        reason,
        row_id if isinstance(row_id, str) else None,
        trace_id if isinstance(trace_id, str) else None,
        dump(item)[:_MAX_RAW],
    )
