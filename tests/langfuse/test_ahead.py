"""When the next page is asked for."""

from __future__ import annotations

import pytest

from sync_worker.langfuse.ahead import walk_ahead
from sync_worker.langfuse.page_size import HEAVY_PAGE_BYTES
from sync_worker.langfuse.reader import Page


async def _asked_at_each_page(size: int, **options: bool) -> list[int]:
    """Return, for each of three pages of so many bytes, how many were asked for by the time it is handed out."""
    asked: list[str | None] = []

    async def fetch(cursor: str | None) -> tuple[Page, str | None]:
        asked.append(cursor)
        return Page([], [], size=size), {None: "a", "a": "b"}.get(cursor)

    at_each = [len(asked) async for _ in walk_ahead(fetch, lambda: None, **options)]
    assert asked == [None, "a", "b"]
    return at_each


async def test_the_next_page_is_on_its_way_before_one_is_handed_out() -> None:
    """Reading and sending take turns, which takes as long as both."""
    assert await _asked_at_each_page(10) == [2, 3, 3]


@pytest.mark.parametrize(("size", "options"), [(HEAVY_PAGE_BYTES, {}), (10, {"ahead": False})])
async def test_the_next_page_waits_where_it_must(size: int, options: dict[str, bool]) -> None:
    """Two heavy pages are held at once, or a page is asked for that nobody wants."""
    assert await _asked_at_each_page(size, **options) == [1, 2, 3]
