"""Finds unmerged observations of which a page showed only one version.

A cursor skips whatever ties with the last observation of its page, including another version of it. So the last
observation of a page has one version only if a listing by its id shows it once. Those of many pages share one
metadata-only request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from sync_worker.intervals import Interval
from sync_worker.langfuse.reader import Reader
from sync_worker.pipeline.assemble import Assembly, StoreKey, store_key
from sync_worker.records import Observation


async def find_unmerged(reader: Reader, assembly: Assembly) -> int:
    """Find unmerged observations among the last of each page; return how many pages that took.

    Both versions are added, so that the newer one is kept. Raises as the reader does.
    """
    unchecked = list(assembly.unchecked.values())
    twice, pages = await _listed_twice(reader, unchecked)
    assembly.mark_unmerged(twice)
    if twice:
        async for page in reader.observations(
            list({observation_id for _, observation_id, _ in twice}), _around(unchecked)
        ):
            pages += 1
            assembly.add(
                [observation for observation in page.observations if store_key(observation) in twice], page.size
            )
    return pages


async def _listed_twice(reader: Reader, observations: Sequence[Observation]) -> tuple[set[StoreKey], int]:
    """Return which of these observations are listed twice, and how many pages that took."""
    twice: set[StoreKey] = set()
    pages = 0
    todo = {store_key(observation): observation for observation in observations}
    while todo:
        times, borders = Counter[StoreKey](), set[StoreKey]()
        async for page in reader.observations(
            list({observation.id for observation in todo.values()}), _around(todo.values()), metadata_only=True
        ):
            pages += 1
            times.update(store_key(observation) for observation in page.observations)
            if page.border is not None:
                borders.add(store_key(page.border))
        twice |= {key for key in todo if times[key] > 1}
        left = {key: observation for key, observation in todo.items() if key in borders and key not in twice}
        if len(todo) == 1:  # what follows its page's cursor can only be another version
            return twice | left.keys(), pages
        if len(left) == len(todo):  # pages of one observation: they are conclusive only for a single id
            for observation in left.values():
                found, more = await _listed_twice(reader, [observation])
                twice, pages = twice | found, pages + more
            break
        todo = left
    return twice, pages


def _around(observations: Iterable[Observation]) -> Interval:
    starts = [observation.start_ms for observation in observations]
    return Interval(min(starts), max(starts) + 1)
