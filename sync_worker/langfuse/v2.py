"""Reads `GET /api/public/v2/observations`: Langfuse Cloud and self-hosted v4.

Observations come by start time, newest first, observations of one trace apart from each other, behind an opaque cursor
that is stable while observations are added. A page may be short or empty and still have a cursor; only its absence ends
a walk. The cursor carries no filters, so each request repeats them. (Langfuse v4.16.0, and its changelog of
2026-11-03.)
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

from sync_worker.choices import Api
from sync_worker.errors import TransientError
from sync_worker.intervals import Interval
from sync_worker.langfuse.ahead import walk_ahead
from sync_worker.langfuse.blame import Blame, Trial
from sync_worker.langfuse.filters import any_of, filtered, none_of, not_before, parts
from sync_worker.langfuse.langfuse_client import LangfuseClient, PageTooHeavy, ServerError
from sync_worker.langfuse.metrics_api import count_observations
from sync_worker.langfuse.observation_parser import parse_all, parse_v2_metadata, parse_v2_observation
from sync_worker.langfuse.page_size import MAX_LIMIT, PageSize
from sync_worker.langfuse.reader import Page, Unreadable
from sync_worker.langfuse.shrinking import fetch_fitting
from sync_worker.langfuse.truncated_fields import Media
from sync_worker.records import Observation
from sync_worker.times import iso_time

PATH = "/api/public/v2/observations"

FULL = "core,basic,time,io,metadata,model,usage,prompt,trace_context"
METADATA_ONLY = "core,basic,time"
CONTEXT = "core,basic,time,metadata,trace_context"

#: Asking for any key makes the server return metadata without truncation where input and output are not asked for.
_WHOLE_METADATA = {"expandMetadata": "langfuse"}

log = logging.getLogger(__name__)


class V2Reader:
    """Walks the v2 endpoint with pages as large as the server bears."""

    api: Api = "v2"
    metadata_only_is_cheap = True
    leaves_out_environments = True

    def __init__(self, client: LangfuseClient, limits: Mapping[str, int] | None = None) -> None:
        self._client = client
        self._media: Media | None = None
        limits = limits or {}
        self._sizes = {fields: PageSize(limits.get(fields, MAX_LIMIT)) for fields in (FULL, METADATA_ONLY, CONTEXT)}
        self._served: dict[str, Observation] = {}  # by fields, an observation that was served last, without its content
        self._blame = Blame(proofs=1)  # an attempt lists it, fails on it and reads another: one is enough

    @property
    def limits(self) -> dict[str, int]:
        """Observations a page by kind of fields, as found out so far.

        What the next reader of this server begins with.
        """
        return {fields: size.limit for fields, size in self._sizes.items()}

    async def count(self, interval: Interval) -> int | None:
        """Return how many observations the server counts in the interval; None where it does not count them."""
        return await count_observations(self._client, interval)

    def interval(
        self,
        interval: Interval,
        *,
        metadata_only: bool = False,
        ended_since_ms: int | None = None,
        without_environments: Sequence[str] = (),
    ) -> AsyncGenerator[Page, None]:
        """Walk all observations that start in the interval, newest first."""
        params = _bounds(interval)
        conditions = [] if ended_since_ms is None else [not_before("endTime", ended_since_ms)]
        if without_environments:
            conditions.append(none_of("environment", without_environments))
        if conditions:
            params |= filtered(*conditions)
        return self._walk(METADATA_ONLY if metadata_only else FULL, params)

    async def traces(
        self, trace_ids: Sequence[str], interval: Interval, *, metadata_only: bool = False
    ) -> AsyncIterator[Page]:
        """Walk all observations of these traces that start in the interval."""
        for part in parts(trace_ids, self._client.filter_bytes):
            async for page in self._walk(
                METADATA_ONLY if metadata_only else FULL, _bounds(interval) | filtered(any_of("traceId", part))
            ):
                yield page

    async def roots(self, trace_ids: Sequence[str], interval: Interval) -> AsyncIterator[Page]:
        """Walk the root observations of these traces that start in the interval."""
        is_root = {"type": "boolean", "column": "isRootObservation", "operator": "=", "value": True}
        for part in parts(trace_ids, self._client.filter_bytes):
            params = _bounds(interval) | filtered(any_of("traceId", part), is_root) | _WHOLE_METADATA
            async for page in self._walk(CONTEXT, params):
                yield page

    async def observations(
        self, observation_ids: Sequence[str], interval: Interval, *, metadata_only: bool = False
    ) -> AsyncIterator[Page]:
        """Walk the observations with these ids that start in the interval; `metadata_only` leaves out content."""
        for part in parts(observation_ids, self._client.filter_bytes):
            async for page in self._walk(
                METADATA_ONLY if metadata_only else FULL, _bounds(interval) | filtered(any_of("id", part))
            ):
                yield page

    async def resolve(self, observation: Observation) -> Observation:
        """Return the observation with truncated fields resolved; the same observation where none is."""
        self._media = self._media or Media(self._client)
        return await self._media.resolve(observation)

    def _walk(self, fields: str, params: Mapping[str, str]) -> AsyncGenerator[Page, None]:
        ahead = fields != METADATA_ONLY  # metadata-only walks may end before their last page
        return walk_ahead(lambda cursor: self._page(fields, params, cursor), self._client.clock.check, ahead=ahead)

    async def _page(self, fields: str, params: Mapping[str, str], cursor: str | None) -> tuple[Page, str | None]:
        """Fetch one page, as large as the server bears; Stopped may be raised between tries."""
        size = self._sizes[fields]

        async def fetch(limit: int) -> tuple[Page, str | None]:
            page, after = await self._fetch(fields, params, cursor, limit)
            size.record_success(limit, page.size)
            self._remember(fields, page)
            return page, after

        async def alone(_: TransientError) -> tuple[Page, str | None]:
            return await self._alone(fields, params, cursor)

        return await fetch_fitting(self._client, size, fetch, alone)

    async def _fetch(
        self, fields: str, params: Mapping[str, str], cursor: str | None, limit: int
    ) -> tuple[Page, str | None]:
        asked = {"fields": fields, "limit": str(limit), **params}
        if cursor is not None:
            asked["cursor"] = cursor
        answer = await self._client.attempt(PATH, asked)
        body = answer.body
        data, meta = (body.get("data"), body.get("meta")) if isinstance(body, Mapping) else (None, None)
        if not isinstance(data, list) or not isinstance(meta, Mapping):
            raise TransientError(f"{PATH} answered 200 without `data` and `meta`: not Langfuse's API")
        after = meta.get("cursor")
        if after is not None and not isinstance(after, str):  # to end the walk here would lose what follows
            raise TransientError(f"{PATH} gave a page cursor that is no text ({type(after).__name__})")
        parse = parse_v2_metadata if fields == METADATA_ONLY else parse_v2_observation
        observations, unreadable = parse_all(data, parse, is_valid=answer.is_valid)
        return Page(observations, unreadable, answer.size), after or None

    async def _alone(self, fields: str, params: Mapping[str, str], cursor: str | None) -> tuple[Page, str | None]:
        """Handle an observation not served even alone: list it metadata-only, as a dead letter, and step over it.

        It is only to blame when the server does list it, fails on it once more, and serves the content of another
        observation then: else the server is at error, which is waited out.
        """
        trial = Trial()

        async def attempt() -> tuple[Page, str | None, TransientError | None]:
            listed, after = await self._fetch(METADATA_ONLY, params, cursor, 1)
            served = await self._fetch_content(fields, params, cursor)
            if not isinstance(served, TransientError):
                return *served, None
            other = await self._serves_another(fields, listed)
            if not self._blame.record_failure(trial, serves_another=other):
                raise served
            return listed, after, served

        found, after, unserved = await self._client.backoff.retry(attempt)
        if unserved is None:
            self._remember(fields, found)
            return found, after
        observations = len(found.observations) + len(found.unreadable)
        if observations > 1:
            raise TransientError(
                f"{unserved}; and a page of one observation holds {observations}, so that none can be stepped over"
            )
        self._sizes[fields].reset()
        page = Page(unreadable=found.unreadable)
        for one in found.observations:
            log.warning("observation %s cannot be served: %s", one.id, unserved, extra={"action": "dead-letter"})
            reason = f"Langfuse cannot serve it: {unserved}"
            page.unreadable.append(Unreadable(reason, one.id, one.trace_id, start_ms=one.start_ms))
        return page, after

    async def _fetch_content(
        self, fields: str, params: Mapping[str, str], cursor: str | None
    ) -> tuple[Page, str | None] | TransientError:
        """Fetch one observation, or return the error that may lie in it."""
        try:
            return await self._fetch(fields, params, cursor, 1)
        except (PageTooHeavy, ServerError) as error:
            return error

    async def _serves_another(self, fields: str, than: Page) -> bool | None:
        """Whether an observation that was served before is served now; None where none is known, or it is gone."""
        other = self._served.get(fields)
        if other is None or any(observation.id == other.id for observation in than.observations):
            return None
        there = _bounds(Interval(other.start_ms, other.start_ms + 1)) | filtered(any_of("id", [other.id]))
        again = await self._fetch_content(fields, there, None)
        if isinstance(again, TransientError):
            return False
        if again[0].observations:
            return True
        self._served.pop(fields, None)
        return None

    def _remember(self, fields: str, page: Page) -> None:
        if page.observations:
            observation = page.observations[-1]
            self._served[fields] = Observation(
                observation.id, observation.trace_id, observation.project_id, observation.type, observation.start_ms
            )
            self._blame.record_served()


def _bounds(interval: Interval) -> dict[str, str]:
    return {"fromStartTime": iso_time(interval.start), "toStartTime": iso_time(interval.end)}
