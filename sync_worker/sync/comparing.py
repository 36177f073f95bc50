"""Compares what two addresses of Langfuse list: with what was sent, and by their newest observations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Literal

from sync_worker.intervals import Interval
from sync_worker.langfuse.langfuse_client import EndpointMissing, LangfuseClient
from sync_worker.langfuse.reader import Reader
from sync_worker.langfuse.v1 import V1Reader
from sync_worker.langfuse.v2 import V2Reader
from sync_worker.records import Observation
from sync_worker.spans.context import trace_of
from sync_worker.spans.fingerprint import fingerprint, is_retold

#: Number of observations compared; of those sent last, at least half must be found as they were sent.
COMPARED = 20
#: How far back the newest observations of a project are searched, one after the other, in milliseconds.
_NEWEST = (24 * 3_600_000, 400 * 24 * 3_600_000)

_Wanted = Literal["auto", "v2", "v1"]


async def lists_as_sent(client: LangfuseClient, sent: Sequence[tuple[str, str, int, bytes]], wanted: _Wanted) -> bool:
    """Whether an address lists observations (trace, id, start in Unix ms, fingerprint) as they were sent.

    Half of them must be found, since observations change and are deleted. Content of different generations of the API
    cannot be compared: there start and end decide. Raises as a reader does.
    """
    starts = [start for _, _, start, _ in sent]
    around = Interval(min(starts), max(starts) + 1)
    expected = {(trace, observation): (start, state) for trace, observation, start, state in sent}
    by_v1 = any(len(state) % 2 for *_, state in sent)
    found = await _by_id(
        _readers(client, wanted, v1_first=by_v1), [observation for _, observation, _, _ in sent], around
    )
    same = {
        key
        for observation in found
        if (key := (trace_of(observation), observation.id)) in expected and _is_same(observation, *expected[key])
    }
    return 2 * len(same) >= len(expected)


async def share_observations(one: LangfuseClient, other: LangfuseClient, wanted: _Wanted, now_ms: int) -> bool | None:
    """Whether two addresses list the same observations among their newest; None while neither lists any.

    Raises as a reader does.
    """
    sides = (_readers(one, wanted), _readers(other, wanted))
    newest = [await _newest(side, now_ms) for side in sides]
    if not any(newest):
        return None
    for observations, elsewhere in zip(newest, reversed(sides), strict=True):
        if observations:
            starts = [observation.start_ms for observation in observations]
            there = await _by_id(
                elsewhere, [observation.id for observation in observations], Interval(min(starts), max(starts) + 1)
            )
            if {_outline(observation) for observation in observations} & {
                _outline(observation) for observation in there
            }:
                return True
    return False


def _is_same(observation: Observation, start_ms: int, state: bytes) -> bool:
    now = fingerprint(observation)
    return observation.start_ms == start_ms and (now == state or is_retold(state, now))


def _outline(observation: Observation) -> tuple[str, str, int, str]:
    return trace_of(observation), observation.id, observation.start_ms, observation.type


def _readers(client: LangfuseClient, wanted: _Wanted, *, v1_first: bool = False) -> list[Reader]:
    """Return readers of the possible generations, in the order in which to try them."""
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
        return [
            observation async for page in reader.observations(list(ids), around) for observation in page.observations
        ]

    return await _first_there(readers, read)


async def _first_there(
    readers: Sequence[Reader], read: Callable[[Reader], Awaitable[list[Observation]]]
) -> list[Observation]:
    """Return what the first reader with an existing API generation reads. Raises EndpointMissing if there is none."""
    missing: EndpointMissing | None = None
    for reader in readers:
        try:
            return await read(reader)
        except EndpointMissing as error:
            missing = missing or error
    raise missing or EndpointMissing("the server has no generation of the API")
