"""Reads `GET /api/public/v2/observations`: Langfuse Cloud and self-hosted v4.

Rows come by start time, newest first, rows of one trace apart from each other, behind an opaque cursor that is stable
while rows are added. A page may be short or empty and still have a cursor; only its absence ends a walk. The cursor
carries no filters, so each request repeats them. (Langfuse v4.16.0, and its changelog of 2026-11-03.)
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from sync_worker.errors import RecordRefused, TransientError
from sync_worker.json_text import dump
from sync_worker.langfuse.client import EndpointMissing, LangfuseClient, PageTooHeavy, ServerFault
from sync_worker.langfuse.media import is_shortened, whole
from sync_worker.langfuse.page_size import HEAVY_PAGE_BYTES, MAX_LIMIT, PageSize
from sync_worker.langfuse.reader import Page, Unreadable
from sync_worker.langfuse.rows import parse_row
from sync_worker.records import Observation
from sync_worker.times import iso_time
from sync_worker.windows import Window

__all__ = ["CONTEXT", "FULL", "HEAVY_PAGE_BYTES", "LIGHT", "MAX_FILTER_BYTES", "MAX_LIMIT", "PATH", "V2Reader"]

PATH = "/api/public/v2/observations"

FULL = "core,basic,time,io,metadata,model,usage,prompt,trace_context"
LIGHT = "core,basic,time"
CONTEXT = "core,basic,time,metadata,trace_context"

#: Bytes that a list of ids may take in an address: bare servers took 16 KB, an edge in front may take less.
MAX_FILTER_BYTES = 6_400
#: What a page is divided by when the server fails or times out on it: each such try is slow, so few are made.
_SHRINK_ON_FAULT = 8
#: While the server has not served any content yet: how often a row is tried alone before it is to blame, and how many
#: rows may be to blame one after the other.
_TRIES_ALONE = 3
_MAX_UNPROVEN = 8
#: Asking for any key makes the server return all metadata uncut where input and output are not asked for.
_WHOLE_METADATA = {"expandMetadata": "langfuse"}
_MAX_RAW = 20_000  # characters of a row that cannot be understood, kept for a look

log = logging.getLogger(__name__)


class V2Reader:
    """Walks the v2 endpoint with pages as large as the server bears."""

    def __init__(self, client: LangfuseClient, limits: Mapping[str, int] | None = None) -> None:
        self._client = client
        learnt = limits or {}
        self._sizes = {fields: PageSize(learnt.get(fields, MAX_LIMIT)) for fields in (FULL, LIGHT, CONTEXT)}
        self._served: dict[str, Observation] = {}  # by fields, a row that was served last, without its content
        self._unproven = 0  # rows stepped over before any was served

    @property
    def limits(self) -> dict[str, int]:
        """Rows a page by kind of fields, as found out so far: what the next reader of this server begins with."""
        return {fields: size.limit for fields, size in self._sizes.items()}

    @property
    def ahead_ms(self) -> int:
        """How far this machine's clock runs ahead of the server's, in milliseconds; 0 when it does not."""
        return self._client.ahead_ms

    def window(self, window: Window, *, light: bool = False, ended_since_ms: int | None = None) -> AsyncIterator[Page]:
        """Walk all rows that start in the window, newest first."""
        params = _bounds(window)
        if ended_since_ms is not None:
            params |= _filter(
                {"type": "datetime", "column": "endTime", "operator": ">=", "value": iso_time(ended_since_ms)}
            )
        return self._walk(LIGHT if light else FULL, params)

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

    async def whole(self, row: Observation) -> Observation:
        """Return the row with input and output that the server keeps elsewhere put in; the same row where none is."""
        if not (is_shortened(row.input) or is_shortened(row.output)):
            return row
        asked = None if row.input is None else await whole(self._client, row.input)
        answered = None if row.output is None else await whole(self._client, row.output)
        return replace(row, input=asked, output=answered)

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
        size = self._sizes[fields]
        faults = 0
        while True:
            self._client.clock.check()
            await self._client.backoff.ready()
            limit = size.limit
            try:
                page, after = await self._fetch(fields, params, cursor, limit)
            except PageTooHeavy as fault:
                if limit == 1:
                    return await self._alone(fields, params, cursor, fault)
                self._shrink(fields, limit, 2, fault)
            except ServerFault as fault:
                faults += 1
                await self._client.backoff.wait(fault)
                if faults > 1:
                    if limit == 1:
                        return await self._alone(fields, params, cursor, fault)
                    self._shrink(fields, limit, _SHRINK_ON_FAULT, fault)
            except TransientError as fault:
                await self._client.backoff.wait(fault)
            else:
                self._client.backoff.success()
                size.served(limit, page.size)
                self._remember(fields, page)
                return page, after

    async def _fetch(
        self, fields: str, params: Mapping[str, str], cursor: str | None, limit: int
    ) -> tuple[Page, str | None]:
        asked = {"fields": fields, "limit": str(limit), **params}
        if cursor is not None:
            asked["cursor"] = cursor
        try:
            answer = await self._client.attempt(PATH, asked)
        except EndpointMissing as missing:
            raise EndpointMissing(
                f"{missing}. The worker reads Langfuse Cloud and self-hosted v4; v2 and v3, and v4 in legacy "
                "write mode, do not have this endpoint. Try: is LANGFUSE_BASE_URL right? Else upgrade the server"
            ) from missing
        body = answer.body
        data, meta = (body.get("data"), body.get("meta")) if isinstance(body, Mapping) else (None, None)
        if not isinstance(data, list) or not isinstance(meta, Mapping):
            raise TransientError(f"{PATH} answered 200 without `data` and `meta`: not Langfuse's API")
        after = meta.get("cursor")
        if after is not None and not isinstance(after, str):  # to end the walk here would lose what follows
            raise TransientError(f"{PATH} gave a page cursor that is no text ({type(after).__name__})")
        page = Page(size=answer.size)
        for item in data:
            try:
                page.rows.append(parse_row(item))
            except RecordRefused as refusal:
                page.unreadable.append(_unreadable(item, str(refusal)))
        return page, after or None

    async def _alone(
        self, fields: str, params: Mapping[str, str], cursor: str | None, fault: TransientError
    ) -> tuple[Page, str | None]:
        """Settle a row that was not served even alone: list it without content, as a dead letter, and step over it.

        It is only to blame when the server does list it, fails on it once more, and serves the content of another row
        then: else the server is at fault, which is waited out.
        """
        tries = 0
        while True:
            self._client.clock.check()
            await self._client.backoff.ready()
            try:
                listed, after = await self._fetch(LIGHT, params, cursor, 1)
                served = await self._fetch_content(fields, params, cursor)
                if not isinstance(served, TransientError):
                    self._client.backoff.success()
                    self._remember(fields, served[0])
                    return served
                fault = served
                tries += 1
                if not await self._is_to_blame(fields, listed, tries):
                    raise fault
            except TransientError as down:
                await self._client.backoff.wait(down)
                continue
            rows = len(listed.rows) + len(listed.unreadable)
            if rows > 1:
                raise TransientError(f"{fault}; and a page of one row holds {rows}, so that none can be stepped over")
            self._client.backoff.success()
            self._sizes[fields].stepped_over()
            page = Page(unreadable=listed.unreadable)
            for row in listed.rows:
                log.warning("row %s cannot be served: %s", row.id, fault, extra={"action": "dead-letter"})
                page.unreadable.append(Unreadable(f"Langfuse cannot serve it: {fault}", row.id, row.trace_id))
            return page, after

    async def _fetch_content(
        self, fields: str, params: Mapping[str, str], cursor: str | None
    ) -> tuple[Page, str | None] | TransientError:
        """Fetch one row, or return the fault that may lie in it."""
        try:
            return await self._fetch(fields, params, cursor, 1)
        except (PageTooHeavy, ServerFault) as fault:
            return fault

    async def _is_to_blame(self, fields: str, listed: Page, tries: int) -> bool:
        """Whether the server serves other content now: a row that it served before, or, for want of one, a guess."""
        other = self._served.get(fields)
        if other is not None and all(row.id != other.id for row in listed.rows):
            there = _bounds(Window(other.start_ms, other.start_ms + 1)) | _filter(_any_of("id", [other.id]))
            again = await self._fetch_content(fields, there, None)
            if isinstance(again, TransientError):
                return False
            if again[0].rows:
                return True
            self._served.pop(fields, None)  # it is gone
        if tries < _TRIES_ALONE or self._unproven >= _MAX_UNPROVEN:
            return False
        self._unproven += 1
        return True

    def _remember(self, fields: str, page: Page) -> None:
        if page.rows:
            row = page.rows[-1]
            self._served[fields] = Observation(row.id, row.trace_id, row.project_id, row.type, row.start_ms)
            self._unproven = 0

    def _shrink(self, fields: str, limit: int, divisor: int, fault: TransientError) -> None:
        size = self._sizes[fields]
        size.refused(limit, divisor)
        log.info("%s: the page becomes %d rows", fault, size.limit, extra={"action": "shrink"})


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
        cost = len(quote(dump(item), safe="")) + 3
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
        row_id if isinstance(row_id, str) and row_id else None,
        trace_id if isinstance(trace_id, str) and trace_id else None,
        dump(item)[:_MAX_RAW],
    )
