"""Reads the v1 endpoints: self-hosted Langfuse v2 and v3, and v4 while it still writes both generations.

Traces and observations are two lists. They are walked side by side, so that observations come newest first whichever
list they stand on; the fields of a trace come as its synthetic root observation. Lists always hold all content.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from sync_worker.choices import Api
from sync_worker.intervals import Interval
from sync_worker.langfuse.blame import Trial
from sync_worker.langfuse.filters import any_of, not_before, parts
from sync_worker.langfuse.langfuse_client import (
    Answer,
    EndpointMissing,
    LangfuseClient,
    PageTooHeavy,
    RequestRejected,
    ServerError,
)
from sync_worker.langfuse.listing import MAX_ROWS, OBSERVATIONS, TRACES, Listing
from sync_worker.langfuse.observation_parser import parse_all
from sync_worker.langfuse.paging import NotServedError
from sync_worker.langfuse.reader import Page, Unreadable
from sync_worker.langfuse.truncated_fields import Media
from sync_worker.langfuse.walk import Walk, Walked
from sync_worker.records import SYNTHETIC_ROOT_PREFIX, Observation

#: The first version whose v1 lists take `filter`; older ones silently ignore it. (Changelog of 2025-11-03.)
_FILTERS_SINCE = (3, 120)
_NO_PARENT: dict[str, Any] = {"type": "null", "column": "parentObservationId", "operator": "is null", "value": ""}
_RECENT_MS = 60_000  # a question whether a list is there looks at no more than this
_VERSION = re.compile(r"v?(\d+)\.(\d+)")


class V1Reader:
    """Walks both v1 lists."""

    api: Api = "v1"
    metadata_only_is_cheap = False
    leaves_out_environments = False

    def __init__(
        self, client: LangfuseClient, limits: Mapping[str, int] | None = None, version: str | None = None
    ) -> None:
        self._client = client
        self._media: Media | None = None
        limits = limits or {}
        self._filters = takes_filters(version)
        self._observations, self._traces = (
            Walk(client, listing, limits.get(listing.path, MAX_ROWS), filters=self._filters)
            for listing in (OBSERVATIONS, TRACES)
        )

    @property
    def limits(self) -> dict[str, int]:
        """Observations a page by list, as found out so far."""
        return {OBSERVATIONS.path: self._observations.limit, TRACES.path: self._traces.limit}

    async def count(self, interval: Interval) -> int:
        """Return how many observations the server counts in the interval.

        Versions of an observation that it has yet to merge included.
        """
        return await self._observations.count(interval) + await self._traces.count(interval)

    async def interval(
        self,
        interval: Interval,
        *,
        metadata_only: bool = False,
        ended_since_ms: int | None = None,
        without_environments: Sequence[str] = (),
    ) -> AsyncGenerator[Page, None]:
        """Walk all observations that start in the interval, newest first, in all environments.

        Older servers cannot be asked for what ended lately: to them, nothing did.
        """
        del without_environments
        if ended_since_ms is not None:
            conditions = [not_before("endTime", ended_since_ms)]
            walk = self._walk(OBSERVATIONS, interval, conditions) if self._filters else _no_pages()
        else:
            walk = _side_by_side(self._observations.walk(interval), self._traces.walk(interval), interval)
        async for page in walk:
            yield _without_content(page) if metadata_only else page

    async def traces(
        self, trace_ids: Sequence[str], interval: Interval, *, metadata_only: bool = False
    ) -> AsyncIterator[Page]:
        """Walk all observations of these traces that start in the interval."""
        async for page in self._synthetic_roots(trace_ids, interval):
            yield _without_content(page) if metadata_only else page
        async for page in self._observations_of(trace_ids, interval):
            yield _without_content(page) if metadata_only else page

    async def roots(self, trace_ids: Sequence[str], interval: Interval) -> AsyncIterator[Page]:
        """Walk the synthetic roots of these traces, and their observations without a parent."""
        async for page in self._synthetic_roots(trace_ids, interval):
            yield _without_content(page)
        async for page in self._observations_of(trace_ids, interval, [_NO_PARENT]):
            yield _without_content(
                Page([observation for observation in page.observations if _has_no_parent(observation)], page.unreadable)
            )

    async def observations(
        self, observation_ids: Sequence[str], interval: Interval, *, metadata_only: bool = False
    ) -> AsyncIterator[Page]:
        """Walk the observations with these ids that start in the interval; `metadata_only` leaves out content."""
        async for page in self._observations_by_id(observation_ids, interval):
            yield _without_content(page) if metadata_only else page

    async def _observations_by_id(self, observation_ids: Sequence[str], interval: Interval) -> AsyncIterator[Page]:
        roots = [
            observation_id for observation_id in observation_ids if observation_id.startswith(SYNTHETIC_ROOT_PREFIX)
        ]
        async for page in self._synthetic_roots(
            [observation_id.removeprefix(SYNTHETIC_ROOT_PREFIX) for observation_id in roots], interval
        ):
            yield page
        if self._filters:
            for part in parts(
                observation_ids, self._client.filter_bytes
            ):  # roots among them: observations may have any id
                async for page in self._walk(OBSERVATIONS, interval, [any_of("id", part)]):
                    yield page
            return
        async for page in self._one_by_one(OBSERVATIONS, observation_ids, interval):
            yield page

    async def resolve(self, observation: Observation) -> Observation:
        """Return the observation with truncated fields resolved; the same observation where none is."""
        self._media = self._media or Media(self._client)
        return await self._media.resolve(observation)

    async def _observations_of(
        self, trace_ids: Sequence[str], interval: Interval, conditions: Sequence[Mapping[str, Any]] = ()
    ) -> AsyncIterator[Page]:
        """Walk observations of these traces; an older server knows no conditions, and is asked trace by trace."""
        if self._filters:
            for part in parts(trace_ids, self._client.filter_bytes):
                async for page in self._walk(OBSERVATIONS, interval, [any_of("traceId", part), *conditions]):
                    yield page
            return
        for trace_id in trace_ids:
            async for page in self._walk(OBSERVATIONS, interval, extra={"traceId": trace_id}):
                yield page

    async def _synthetic_roots(self, trace_ids: Sequence[str], interval: Interval) -> AsyncIterator[Page]:
        """Walk the synthetic roots of these traces; a trace that was never created has none."""
        if self._filters:
            for part in parts(trace_ids, self._client.filter_bytes):
                async for page in self._walk(TRACES, interval, [any_of("id", part)]):
                    yield page
            return
        async for page in self._one_by_one(TRACES, trace_ids, interval):
            yield page

    async def _walk(
        self,
        listing: Listing,
        interval: Interval,
        conditions: Sequence[Mapping[str, Any]] = (),
        extra: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Page]:
        async for found in self._walk_of(listing).walk(interval, conditions, extra):
            yield Page(found.observations, found.unreadable, found.size)

    async def _one_by_one(self, listing: Listing, item_ids: Sequence[str], interval: Interval) -> AsyncIterator[Page]:
        """Fetch single observations by their ids.

        EndpointMissing when one is not there, and its list is not there either.
        """
        some_missing = False
        for item_id in item_ids:
            page = await self._one(listing, item_id)
            if page is None:
                some_missing = True
            elif page.unreadable or interval.contains(page.observations[0].start_ms):
                yield page
        if some_missing:
            now = self._client.clock.now_ms()
            await self._walk_of(listing).count(Interval(now - _RECENT_MS, now))

    async def _one(self, listing: Listing, item_id: str) -> Page | None:
        """Fetch a single observation by its id; None where it is not there."""
        path = f"{listing.path}/{quote(item_id, safe='')}"
        paging, trial = self._walk_of(listing).paging, Trial()

        async def attempt() -> Answer:
            try:
                return await self._client.attempt(path, {"fields": "core,io"} if listing is TRACES else {})
            except (PageTooHeavy, ServerError) as error:
                now = self._client.clock.now_ms()
                if await paging.prove_unservable(trial, Interval(now, now)):
                    raise NotServedError(str(error)) from error
                raise

        try:
            answer = await self._client.backoff.retry(attempt)
        except (EndpointMissing, RequestRejected):
            return None
        except NotServedError as error:
            return Page(unreadable=[Unreadable(f"Langfuse cannot serve it: {error}", *listing.ids(item_id))])
        return Page(*parse_all([answer.body], listing.parse, is_valid=answer.is_valid), answer.size)

    def _walk_of(self, listing: Listing) -> Walk:
        return self._observations if listing is OBSERVATIONS else self._traces


def takes_filters(version: str | None) -> bool:
    """Whether the v1 lists of a server of this version take `filter`; an unknown version is taken to be old."""
    found = _VERSION.match(version or "")
    return found is not None and (int(found[1]), int(found[2])) >= _FILTERS_SINCE


async def _side_by_side(
    observations: AsyncIterator[Walked], traces: AsyncIterator[Walked], interval: Interval
) -> AsyncIterator[Page]:
    """Merge two walks into one, newest first: an observation waits until the other walk has come as far."""
    walks = (observations, traces)
    reached = [interval.end, interval.end]
    out = interval.end
    held: list[Observation] = []  # all start before `out`: they are looked at again only when it moves
    size = 0
    while out > interval.start:
        behind = 0 if reached[0] >= reached[1] else 1
        found = await anext(walks[behind], Walked(interval.start))
        reached[behind] = min(reached[behind], found.down_to)
        size += found.size
        arrived = found.observations
        if max(reached) < out:
            out = max(reached)
            arrived = held + arrived
            held = []
        ready = sorted(
            (observation for observation in arrived if observation.start_ms >= out),
            key=lambda observation: -observation.start_ms,
        )
        held += [observation for observation in arrived if observation.start_ms < out]
        if ready or found.unreadable:
            share = size * len(ready) // max(1, len(ready) + len(held))
            size -= share
            yield Page(ready, found.unreadable, share)
    if held:  # observations that the server lists though they lie outside
        yield Page(held, size=size)


async def _no_pages() -> AsyncIterator[Page]:
    for page in list[Page]():
        yield page


def _has_no_parent(observation: Observation) -> bool:
    """Whether the server gives no parent: older ones cannot be asked for these alone."""
    return observation.is_trace_root or observation.parent_id == f"{SYNTHETIC_ROOT_PREFIX}{observation.trace_id}"


def _without_content(page: Page) -> Page:
    """Return the page without content: it came, but need not be held."""
    observations = [replace(observation, input=None, output=None) for observation in page.observations]
    return Page(observations, page.unreadable, 0)
