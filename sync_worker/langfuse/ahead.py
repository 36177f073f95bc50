"""Prefetches the next page while the current one is processed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from sync_worker.errors import TransientError
from sync_worker.langfuse.page_size import HEAVY_PAGE_BYTES
from sync_worker.langfuse.reader import Page

#: After a page larger than this the next one waits until it is wanted: memory is bounded by the page.
_MOST_BYTES = HEAVY_PAGE_BYTES // 4
#: Turns of the event loop after which a request that was begun is on its way.
_TURNS = 5

Fetch = Callable[[str | None], Awaitable[tuple[Page, str | None]]]


async def walk_ahead(fetch: Fetch, check: Callable[[], None], *, ahead: bool = True) -> AsyncGenerator[Page, None]:
    """Yield pages until one comes without a cursor; without `ahead` each is requested only when it is needed.

    Raises as `fetch`, as `check` before each page, or TransientError for a cursor seen twice.
    """
    seen: set[str | None] = set()
    coming = asyncio.ensure_future(fetch(None))
    try:
        while True:
            check()
            page, cursor = await coming
            page.cut = cursor is not None
            goes_on = cursor is not None and cursor not in seen
            begun = ahead and goes_on and page.size <= _MOST_BYTES
            if begun:
                coming = asyncio.ensure_future(fetch(cursor))
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
            yield page
            if cursor is None:
                return
            if not goes_on:
                raise TransientError(
                    "Langfuse returned a page cursor twice: the walk would never end, so the interval stays open. "
                    "Try: run again; if it stays, report the server's version"
                )
            seen.add(cursor)
            if not begun:
                coming = asyncio.ensure_future(fetch(cursor))
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
