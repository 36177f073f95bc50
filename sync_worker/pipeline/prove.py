"""Tells rows that come once from rows of which a page showed only one version.

A cursor leaves out whatever ties with the last row of its page, another version of that row too. So the last row of a
page comes once only if a listing by its id shows it once. Those of many pages go into one light request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from sync_worker.langfuse.reader import Reader
from sync_worker.pipeline.assemble import Assembly, StoreKey, store_key
from sync_worker.records import Observation
from sync_worker.windows import Window


async def prove(reader: Reader, assembly: Assembly) -> int:
    """Find out of each row held whose other version a cursor may have left out; return how many pages that took.

    Where there is one, both are taken in, so that the newer one is held. Raises as the reader does.
    """
    unproven = list(assembly.unproven.values())
    if not unproven:
        return 0
    twice, pages = await _listed_twice(reader, unproven)
    assembly.prove(twice)
    if twice:
        async for page in reader.rows(list({row_id for _, row_id, _ in twice}), _around(unproven)):
            pages += 1
            assembly.add([row for row in page.rows if store_key(row) in twice], page.size)
    return pages


async def _listed_twice(reader: Reader, rows: Sequence[Observation]) -> tuple[set[StoreKey], int]:
    """Return which of these rows are listed twice, and how many pages it took to tell."""
    twice: set[StoreKey] = set()
    pages = 0
    todo = {store_key(row): row for row in rows}
    while todo:
        times, borders = Counter[StoreKey](), set[StoreKey]()
        async for page in reader.rows(list({row.id for row in todo.values()}), _around(todo.values()), light=True):
            pages += 1
            times.update(store_key(row) for row in page.rows)
            if page.border is not None:
                borders.add(store_key(page.border))
        twice |= {key for key in todo if times[key] > 1}
        left = {key: row for key, row in todo.items() if key in borders and key not in twice}
        if len(todo) == 1:  # what else its page's cursor stands for can only be another version
            return twice | left.keys(), pages
        if len(left) == len(todo):  # pages of one row: they tell only of a row that is asked for alone
            for row in left.values():
                found, more = await _listed_twice(reader, [row])
                twice, pages = twice | found, pages + more
            break
        todo = left
    return twice, pages


def _around(rows: Iterable[Observation]) -> Window:
    starts = [row.start_ms for row in rows]
    return Window(min(starts), max(starts) + 1)
