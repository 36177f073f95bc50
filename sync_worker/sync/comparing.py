"""Whether what two addresses of Langfuse list is the same: by what was sent, and by their newest rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Literal

from sync_worker.intervals import Interval
from sync_worker.langfuse.client import EndpointMissing, LangfuseClient
from sync_worker.langfuse.reader import Reader
from sync_worker.langfuse.v1 import V1Reader
from sync_worker.langfuse.v2 import V2Reader
from sync_worker.records import Observation
from sync_worker.spans.context import trace_of
from sync_worker.spans.fingerprint import fingerprint, is_retold

#: So many rows are compared; of what was sent last, at least every second must be found as it was sent.
COMPARED = 20
#: How far back the newest rows of a project are looked for, one after the other, in milliseconds.
_NEWEST = (24 * 3_600_000, 400 * 24 * 3_600_000)

_Wanted = Literal["auto", "v2", "v1"]


async def lists_as_sent(client: LangfuseClient, sent: Sequence[tuple[str, str, int, bytes]], wanted: _Wanted) -> bool:
    """Whether an address lists rows (trace, id, start in Unix ms, fingerprint) as they were sent.

    Every second one must be found, since rows change and go. By another generation of the API than they were sent by,
    where the server has no other, content does not compare: there start and end decide. Raises as a reader does.
    """
    starts = [start for _, _, start, _ in sent]
    around = Interval(min(starts), max(starts) + 1)
    expected = {(trace, row): (start, state) for trace, row, start, state in sent}
    by_v1 = any(len(state) % 2 for *_, state in sent)
    found = await _by_id(_readers(client, wanted, v1_first=by_v1), [row for _, row, _, _ in sent], around)
    same = {key for row in found if (key := (trace_of(row), row.id)) in expected and _is_same(row, *expected[key])}
    return 2 * len(same) >= len(expected)


async def share_rows(one: LangfuseClient, other: LangfuseClient, wanted: _Wanted, now_ms: int) -> bool | None:
    """Whether two addresses list the same rows among their newest; None while neither lists any.

    Raises as a reader does.
    """
    sides = (_readers(one, wanted), _readers(other, wanted))
    newest = [await _newest(side, now_ms) for side in sides]
    if not any(newest):
        return None
    for rows, elsewhere in zip(newest, reversed(sides), strict=True):
        if rows:
            starts = [row.start_ms for row in rows]
            there = await _by_id(elsewhere, [row.id for row in rows], Interval(min(starts), max(starts) + 1))
            if {_outline(row) for row in rows} & {_outline(row) for row in there}:
                return True
    return False


def _is_same(row: Observation, start_ms: int, state: bytes) -> bool:
    now = fingerprint(row)
    return row.start_ms == start_ms and (now == state or is_retold(state, now))


def _outline(row: Observation) -> tuple[str, str, int, str]:
    return trace_of(row), row.id, row.start_ms, row.type


def _readers(client: LangfuseClient, wanted: _Wanted, *, v1_first: bool = False) -> list[Reader]:
    """Return readers of the generations that may be there, in the order in which to try them."""
    if wanted == "v1":
        return [V1Reader(client)]
    if wanted == "v2":
        return [V2Reader(client)]
    return [V1Reader(client), V2Reader(client)] if v1_first else [V2Reader(client), V1Reader(client)]


async def _newest(readers: Sequence[Reader], now_ms: int) -> list[Observation]:
    for reach in _NEWEST:
        found = await _first_there(readers, partial(_first_rows, start_ms=now_ms - reach, end_ms=now_ms))
        if found:
            return found
    return []


async def _first_rows(reader: Reader, start_ms: int, end_ms: int) -> list[Observation]:
    async with aclosing(reader.interval(Interval(start_ms, end_ms), metadata_only=True)) as pages:
        async for page in pages:
            if page.observations:
                return page.observations[:COMPARED]
    return []


async def _by_id(readers: Sequence[Reader], ids: Iterable[str], around: Interval) -> list[Observation]:
    async def read(reader: Reader) -> list[Observation]:
        return [row async for page in reader.observations(list(ids), around) for row in page.observations]

    return await _first_there(readers, read)


async def _first_there(
    readers: Sequence[Reader], read: Callable[[Reader], Awaitable[list[Observation]]]
) -> list[Observation]:
    """Return what the first reader reads whose generation of the API is there. Raises EndpointMissing if none is."""
    missing: EndpointMissing | None = None
    for reader in readers:
        try:
            return await read(reader)
        except EndpointMissing as fault:
            missing = missing or fault
    raise missing or EndpointMissing("no generation of the API is there")
