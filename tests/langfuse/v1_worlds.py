"""Data of v1 for tests, made by chance, and what a walk over it must hold to."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable

from sync_worker.demo.rowstore import to_ms
from sync_worker.langfuse.reader import Page, Unreadable
from tests.support.rows import at
from tests.support.v1_items import Item, observation_item, trace_item

Key = tuple[str | None, str]

#: Free-form ids as clients of the ingestion API make them.
ODD_IDS = (
    "run/7",
    "my gen/2 ünï",
    "a b",
    "ünï-🚀",
    'q"uote',
    "per%20cent",
    "x&y=z#?",
    "ends\\",
    "t-9",
    "日本",
    "I'd",
    "+",
)
TYPES = ("SPAN", "GENERATION", "EVENT", "AGENT", "TOOL")
OLD_TYPES = TYPES[:3]


def keys_of(traces: Iterable[Item], observations: Iterable[Item]) -> set[Key]:
    """Return what a walk must bring, by trace id and row id."""
    return {(item["id"], f"t-{item['id']}") for item in traces} | {
        (item["traceId"], item["id"]) for item in observations
    }


def starts_of(traces: Iterable[Item], observations: Iterable[Item]) -> dict[Key, int]:
    """Return when each row starts."""
    roots = {(item["id"], f"t-{item['id']}"): to_ms(item["timestamp"]) for item in traces}
    return roots | {(item["traceId"], item["id"]): to_ms(item["startTime"]) for item in observations}


def keys(pages: Iterable[Page]) -> list[Key]:
    """Return the rows of pages in the order of arrival."""
    return [(row.trace_id, row.id) for page in pages for row in page.observations]


def unreadable(pages: Iterable[Page]) -> list[Unreadable]:
    """Return what was dead-lettered."""
    return [item for page in pages for item in page.unreadable]


async def walk_as_caller(pages: AsyncIterator[Page], starts: dict[Key, int], never: Iterable[Key] = ()) -> list[Page]:
    """Walk, and hold at every page what the caller counts on: all rows newer than the oldest one read are out."""
    out = set(never)
    oldest = None
    kept = []
    async for page in pages:
        kept.append(page)
        for row in page.observations:
            out.add((row.trace_id, row.id))
            oldest = row.start_ms if oldest is None else min(oldest, row.start_ms)
        missing = [key for key, start in starts.items() if oldest is not None and start > oldest and key not in out]
        assert missing == [], f"time is claimed down to {oldest} without {missing[:3]}"
    return kept


def crowd(
    rng: random.Random, count: int, *, moments: int = 40, types: tuple[str, ...] = TYPES
) -> tuple[list[Item], list[Item]]:
    """Return traces and observations at few moments, a millisecond to hours apart, with ids of all kinds."""
    times = [0.0]
    while len(times) < moments:
        times.append(round(times[-1] + rng.choice((0.001, 0.001, 0.002, 1, 60, 3600)), 3))
    traces = [trace_item(_trace_id(rng, number), start=rng.choice(times)) for number in range(max(1, count // 5))]
    observations = []
    for number in range(count):
        of = rng.choice(traces)["id"] if rng.random() < 0.9 else rng.choice((None, f"never-created-{number % 7}"))
        observations.append(
            observation_item(
                of,
                id=f"{rng.choice(ODD_IDS)}-{number}{rng.choice(ODD_IDS)}" if rng.random() < 0.2 else None,
                start=rng.choice(times),
                type=rng.choice(types),
                level=rng.choice(("DEFAULT", "DEFAULT", "ERROR")),
                input={"n": number},
            )
        )
    return traces, observations


def _trace_id(rng: random.Random, number: int) -> str | None:
    return f"{rng.choice(ODD_IDS)}{number}" if rng.random() < 0.2 else None


def steady(count: int, *, every: float = 0.05, rows_a_trace: int = 5) -> tuple[list[Item], list[Item]]:
    """Return ordinary data: observations one after the other, of traces that begin with their first one."""
    traces, observations = [], []
    for number in range(count):
        if number % rows_a_trace == 0:
            traces.append(trace_item(start=number * every))
        observations.append(observation_item(traces[-1]["id"], start=number * every))
    return traces, observations


def same_moment(count: int, *, trace: str | None = "one-trace", ids: str = "hex") -> list[Item]:
    """Return observations of one millisecond, one trace, one type and one level."""
    if ids == "hex":
        return [observation_item(trace, start=at(1)) for _ in range(count)]
    return [observation_item(trace, id=f"{ids}{number}", start=at(1)) for number in range(count)]
