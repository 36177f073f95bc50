"""Reads scores: `GET v3/scores` of Langfuse Cloud and v4, `GET v2/scores` of self-hosted v3, `GET scores` of v2.

All list newest first by the time of the score, which may be any: scores are back-dated, given days later, and edited
without a new time. None can be asked for what changed. v3 pages by a cursor that is complete over ties; the others by
number, without an order among scores of one time, so only their first pages are trusted. (Langfuse v4.16.0, v3.225.4.)
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

from sync_worker.choices import Api
from sync_worker.errors import CredentialsRejected, RecordRejected, SourcePaused, TransientError
from sync_worker.intervals import Interval
from sync_worker.langfuse.langfuse_client import (
    Answer,
    EndpointMissing,
    LangfuseClient,
    PageTooHeavy,
    RequestRejected,
    ServerError,
)
from sync_worker.langfuse.page_size import PageSize
from sync_worker.langfuse.score_records import parse_config, parse_scores, parse_v2, parse_v3
from sync_worker.langfuse.shrinking import fetch_fitting
from sync_worker.records import Score, ScoreConfig, langfuse_id
from sync_worker.times import iso_time

V3_PATH = "/api/public/v3/scores"
V2_PATH = "/api/public/v2/scores"
V1_PATH = "/api/public/scores"
CONFIG_PATH = "/api/public/score-configs/"

#: Scores a page; the servers refuse more.
MAX_SCORES = 100
_FIELDS = "core,details,subject,annotation"
#: Sizes of pages by which a millisecond is read that holds more than a page of scores: pages of one size alone leave
#: some out.
_SIZES = (100, 97, 89)  # percent of what the server bears
#: Small pages leave out more: walks over them until all was seen.
_TRIES_OF_SMALL_PAGES = 24
#: Failures of the server at one config before the scores that name it are left for later.
_CONFIG_TRIES = 3
#: The end of an interval that has none, Unix ms.
OPEN_END = 2**53
_EVER = Interval(0, OPEN_END)

log = logging.getLogger(__name__)


class ConfigNotServed(Exception):
    """The server fails at the config of a score, and may serve all else."""


@dataclass(slots=True)
class ScorePage:
    """Scores of one request; all that are dated at or after `down_to_ms` are out with it."""

    scores: list[Score] = field(default_factory=list)
    unreadable: int = 0
    down_to_ms: int = 0


class ScoreReader(Protocol):
    """Reads scores by one API. Raises as the client does; transient errors only when the retry deadline passes."""

    def interval(self, interval: Interval) -> AsyncGenerator[ScorePage, None]:
        """Walk the scores of an interval, newest first; scores may repeat."""

    def by_id(self, ids: Sequence[str]) -> AsyncGenerator[ScorePage, None]:
        """Walk the scores with these ids, whenever they are dated."""

    def of_trace(self, trace_id: str) -> AsyncGenerator[ScorePage, None]:
        """Walk the scores of a trace and of its observations."""


def score_reader(client: LangfuseClient, api: Api) -> ScoreReader:
    """Return the reader of scores that goes with a generation of the API."""
    return V2Scores(client) if api == "v1" else V3Scores(client)


class V3Scores:
    """Walks `v3/scores`."""

    def __init__(self, client: LangfuseClient) -> None:
        self._client = client
        self._size = PageSize(MAX_SCORES, MAX_SCORES)

    def interval(self, interval: Interval) -> AsyncGenerator[ScorePage, None]:
        """Walk the scores of an interval, newest first."""
        return self._walk(_bounds(interval), interval)

    async def by_id(self, ids: Sequence[str]) -> AsyncGenerator[ScorePage, None]:
        """Walk the scores with these ids."""
        for part in _lists(ids, self._client.filter_bytes):
            async for page in self._walk({"id": part}, _EVER):
                yield page

    def of_trace(self, trace_id: str) -> AsyncGenerator[ScorePage, None]:
        """Walk the scores of a trace and of its observations."""
        return self._walk({"traceId": langfuse_id(trace_id)}, _EVER)

    async def _walk(self, params: Mapping[str, str], interval: Interval) -> AsyncGenerator[ScorePage, None]:
        cursor: str | None = None
        low = interval.end
        seen: set[str] = set()
        while True:
            self._client.clock.check()
            page, cursor = await self._page(params, cursor)
            low = interval.start if cursor is None else max(interval.start, min(low, page.down_to_ms))
            page.down_to_ms = low
            if cursor in seen:
                raise TransientError(
                    f"{V3_PATH} returned a page cursor twice: the walk would never end. Try: run again; if it stays, "
                    "report the server's version"
                )
            yield page
            if cursor is None:
                return
            seen.add(cursor)

    async def _page(self, params: Mapping[str, str], cursor: str | None) -> tuple[ScorePage, str | None]:
        async def fetch(limit: int) -> tuple[ScorePage, str | None]:
            asked = {"fields": _FIELDS, "limit": str(limit), **params}
            if cursor is not None:
                asked["cursor"] = cursor
            answer = await _attempt(self._client, V3_PATH, asked)
            data, meta = _list(V3_PATH, answer.body)
            after = meta.get("cursor")
            if after is not None and not isinstance(after, str):
                raise TransientError(f"{V3_PATH} gave a page cursor that is no text ({type(after).__name__})")
            self._size.record_success(limit, answer.size)
            return _page_of(data, parse_v3), after or None

        return await fetch_fitting(self._client, self._size, fetch, _none_alone)


class V2Scores:
    """Walks `v2/scores`, or `scores` where the server does not have that yet."""

    def __init__(self, client: LangfuseClient) -> None:
        self._client = client
        self._path = V2_PATH
        self._size = PageSize(MAX_SCORES, MAX_SCORES)

    async def interval(self, interval: Interval) -> AsyncGenerator[ScorePage, None]:
        """Walk the scores of an interval, newest first, by first pages alone: the next one ends behind the last."""
        end = interval.end
        while end > interval.start:
            self._client.clock.check()
            here = Interval(interval.start, end)
            page, total = await self._first(_bounds(here))
            if total <= len(page.scores) + page.unreadable or not page.scores:
                page.down_to_ms = interval.start
                yield page
                return
            oldest = min(score.timestamp_ms for score in page.scores)
            if oldest + 1 < end:
                page.down_to_ms, end = oldest + 1, oldest + 1
                yield page
                continue
            async for part in self._numbered(_bounds(Interval(oldest, end)), oldest):
                yield part
            end = oldest

    async def by_id(self, ids: Sequence[str]) -> AsyncGenerator[ScorePage, None]:
        """Walk the scores with these ids; a server that does not know the parameter is asked score by score."""
        wanted = set(ids)
        for part in _lists(ids, self._client.filter_bytes, MAX_SCORES):
            page, _ = await self._first({"scoreIds": part})
            if any(score.id not in wanted for score in page.scores):
                page = await self._one_by_one(ids)
                yield page
                return
            yield page

    async def of_trace(self, trace_id: str) -> AsyncGenerator[ScorePage, None]:
        """Walk the scores of a trace and of its observations; a server may ignore the parameter."""
        async for page in self._numbered({"traceId": langfuse_id(trace_id)}, 0):
            if any(score.trace_id != trace_id for score in page.scores):
                return
            yield page

    async def _one_by_one(self, ids: Iterable[str]) -> ScorePage:
        page = ScorePage()
        for score_id in ids:
            self._client.clock.check()
            path = f"{self._path}/{quote(langfuse_id(score_id), safe='')}"
            try:
                answer = await self._client.backoff.retry(lambda path=path: _attempt(self._client, path, {}))  # type: ignore[misc]
            except EndpointMissing:
                continue
            scores, unreadable = parse_scores([answer.body], parse_v2)
            page.scores += scores
            page.unreadable += unreadable
        return page

    async def _numbered(self, params: Mapping[str, str], start_ms: int) -> AsyncGenerator[ScorePage, None]:
        """Walk a list by the numbers of its pages, in pages of several sizes until all that it counts were seen."""
        seen: set[str] = set()
        total: int | None = None
        tries = 0
        while True:
            limit = self._size.limit
            sizes = [max(1, limit * share // 100) for share in _SIZES]
            if tries >= (len(sizes) if limit >= MAX_SCORES else _TRIES_OF_SMALL_PAGES):
                break
            size, number = sizes[tries % len(sizes)], 1
            tries += 1
            while True:
                self._client.clock.check()
                try:
                    page, total = await self._numbered_page(params, size, number)
                except PageTooHeavy:
                    if size == 1:
                        raise
                    self._size.record_failure(size, 2)
                    break
                read = len(page.scores) + page.unreadable
                page.scores = [score for score in page.scores if score.id not in seen]
                seen |= {score.id for score in page.scores}
                is_last = read < size or number * size >= total
                page.down_to_ms = start_ms if is_last else start_ms + 1
                yield page
                if is_last:
                    break
                number += 1
            if total is not None and len(seen) >= total:
                return
        log.warning("%s scores are counted for one list, %d were read", total, len(seen), extra={"action": "scores"})

    async def _first(self, params: Mapping[str, str]) -> tuple[ScorePage, int]:
        return await fetch_fitting(self._client, self._size, lambda limit: self._fetch(params, limit, 1), _none_alone)

    async def _numbered_page(self, params: Mapping[str, str], limit: int, number: int) -> tuple[ScorePage, int]:
        while True:
            await self._client.backoff.ready()
            try:
                found = await self._fetch(params, limit, number)
            except PageTooHeavy:
                raise
            except TransientError as error:
                await self._client.backoff.wait(error)
            else:
                self._client.backoff.success()
                return found

    async def _fetch(self, params: Mapping[str, str], limit: int, number: int) -> tuple[ScorePage, int]:
        asked = {**params, "limit": str(limit), "page": str(number)}
        try:
            answer = await _attempt(self._client, self._path, asked)
        except EndpointMissing:
            if self._path == V1_PATH:
                raise
            answer = await _attempt(self._client, V1_PATH, asked)
            self._path = V1_PATH
        data, meta = _list(self._path, answer.body)
        total = meta.get("totalItems")
        if not isinstance(total, int) or isinstance(total, bool):
            raise TransientError(f"{self._path} answered 200 without `meta.totalItems`: not Langfuse's API")
        self._size.record_success(limit, answer.size)
        return _page_of(data, parse_v2), total


async def _attempt(client: LangfuseClient, path: str, params: Mapping[str, str]) -> Answer:
    """Ask for scores once. Raises as the client does; keys that may not read scores only pause the source.

    Where the keys themselves are rejected the spans say so, which are read before.
    """
    try:
        return await client.attempt(path, params)
    except EndpointMissing as missing:
        raise EndpointMissing(
            f"scores cannot be read, spans are still sent: {missing}. Try: SYNC_SCORES=false"
        ) from missing
    except CredentialsRejected as rejected:
        raise SourcePaused(
            f"scores cannot be read, spans are still sent: {rejected}, or SYNC_SCORES=false"
        ) from rejected


async def fetch_config(client: LangfuseClient, config_id: str) -> ScoreConfig | None:
    """Return a config; None where there is none of that id, or none that can be understood.

    Raises ConfigNotServed where the server fails at it, and as the client does.
    """
    path = CONFIG_PATH + quote(langfuse_id(config_id), safe="")
    failures = 0
    while True:
        client.clock.check()
        await client.backoff.ready()
        try:
            answer = await _attempt(client, path, {})
        except (EndpointMissing, RequestRejected):
            return None
        except (ServerError, PageTooHeavy) as error:
            failures += 1
            if failures >= _CONFIG_TRIES:
                raise ConfigNotServed(str(error)) from error
            await client.backoff.wait(error)
        except TransientError as error:
            await client.backoff.wait(error)
        else:
            client.backoff.success()
            try:
                return parse_config(answer.body)
            except RecordRejected:
                return None


async def traces_of_session(client: LangfuseClient, api: Api, session_id: str, now_ms: int) -> list[str]:
    """Return ids of traces of a session, newest first.

    A server that does not know the parameter returns what is of other sessions: that is passed over.
    """
    wanted = langfuse_id(session_id)
    bounds = {"sessionId": wanted}
    if api == "v1":
        path, key = "/api/public/traces", "id"
        asked = {**bounds, "page": "1", "fields": "core", "orderBy": "timestamp.desc"}
        asked |= {"fromTimestamp": iso_time(0), "toTimestamp": iso_time(now_ms)}
    else:
        path, key = "/api/public/v2/observations", "traceId"
        asked = {**bounds, "fields": "core,basic", "fromStartTime": iso_time(0), "toStartTime": iso_time(now_ms)}

    async def fetch(limit: int) -> list[Any]:
        answer = await client.attempt(path, {**asked, "limit": str(limit)})
        return _list(path, answer.body)[0]

    data = await fetch_fitting(client, PageSize(MAX_SCORES, MAX_SCORES), fetch, _none_alone)
    traces = [one.get(key) for one in data if isinstance(one, Mapping) and one.get("sessionId") == wanted]
    return list(dict.fromkeys(trace for trace in traces if isinstance(trace, str)))


async def _none_alone(error: TransientError) -> Any:
    """Give up a score that is not served even alone: a list without it would hide what is behind it."""
    raise error


def _bounds(interval: Interval) -> dict[str, str]:
    """Return the parameters for an interval; one without an end has the scores that are dated in the future too."""
    bounds = {"fromTimestamp": iso_time(interval.start)}
    return bounds if interval.end >= OPEN_END else {**bounds, "toTimestamp": iso_time(interval.end)}


def _list(path: str, body: Any) -> tuple[list[Any], Mapping[str, Any]]:
    data, meta = (body.get("data"), body.get("meta")) if isinstance(body, Mapping) else (None, None)
    if not isinstance(data, list) or not isinstance(meta, Mapping):
        raise TransientError(f"{path} answered 200 without `data` and `meta`: not Langfuse's API")
    return data, meta


def _page_of(data: list[Any], parse: Callable[[Any], Score]) -> ScorePage:
    scores, unreadable = parse_scores(data, parse)
    return ScorePage(scores, unreadable, 1 + min((score.timestamp_ms for score in scores), default=OPEN_END))


def _lists(ids: Sequence[str], most_bytes: int, most: int = 4 * MAX_SCORES) -> Iterable[str]:
    """Yield ids with commas between them, as many as fit an address; one that has a comma goes alone."""
    part: list[str] = []
    used = 0
    for score_id in map(langfuse_id, ids):
        cost = len(quote(score_id, safe="")) + 3
        if part and (used + cost > most_bytes or len(part) >= most):
            yield ",".join(part)
            part, used = [], 0
        part.append(score_id)
        used += cost
    if part:
        yield ",".join(part)
