"""A Langfuse that lists the history as it stands at the moment, when it answers at all."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from email.utils import format_datetime
from typing import Any

import httpx
import orjson

from sync_worker.demo import langfuse_server, query
from sync_worker.demo.rowstore import to_ms
from sync_worker.langfuse import metrics_api, score_reader
from tests.simulation.history import QUIET, History, Listed, Version, iso, moment
from tests.simulation.keys import Keys
from tests.simulation.langfuse_v1 import OlderLangfuse
from tests.simulation.moments import DAY, MINUTE, Moments
from tests.simulation.plan import Plan
from tests.simulation.scores import ScoreStory, listed
from tests.simulation.weather import Weather
from tests.support.v2_scores import listed_by_number

URL = "http://127.0.0.1:1"
_FAR = 4_000_000_000_000
_Shape = tuple[frozenset[str], bool]


class Langfuse:
    """The server, seen by all processes."""

    def __init__(
        self,
        plan: Plan,
        history: History,
        weather: Weather,
        keys: Keys,
        moments: Moments,
        stories: Sequence[ScoreStory] = (),
    ) -> None:
        self._stories = stories
        self._plan = plan
        self._history = history
        self._weather = weather
        self._keys = keys
        self._moments = moments
        self._wire: dict[tuple[int, int, _Shape], bytes] = {}
        self._cursors = 0
        self._counted: dict[str, tuple[int, int]] = {}  # by bucket, when its time began and requests since
        self._older = [OlderLangfuse(plan, history, number) for number in range(plan.sources if plan.has("v1") else 0)]
        self.requests = 0
        self.walks: dict[tuple[int, int, int], int] = {}  # when a whole walk of an interval began last: source, bounds

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return the way of one process to the server."""
        return _Way(self)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer a request, or do not."""
        self._weather.point("before a request to Langfuse")
        self.requests += 1
        await asyncio.sleep(self._weather.chance.uniform(0.01, 0.3))
        self._weather.alive()
        self._keys.write()
        response = self._answered(request)
        response.headers["Date"] = format_datetime(moment(self._moments.true_ms()), usegmt=True)
        self._weather.point("before an answer of Langfuse")
        await asyncio.sleep(self._weather.chance.uniform(0.01, 0.3))
        self._weather.alive()
        return response

    def _answered(self, request: httpx.Request) -> httpx.Response:
        fault = self._fault(request)
        if fault is not None:
            self._moments.note(f"Langfuse {request.url.path[-12:]}: {fault.status_code}")
            return fault
        number = self._source(request)
        if number is None:
            return _json(401, {"message": "Invalid credentials"})
        if request.url.path == "/api/public/projects":
            return _json(200, {"data": [project(number)]})
        limited = self._limited(request.url.path)
        if limited is not None:
            return limited
        params = list(request.url.params.multi_items())
        if request.url.path == score_reader.V3_PATH:  # 3.225.4 has it too
            return self._list_scores(params, number)
        if self._older and request.url.path == score_reader.V2_PATH:
            return self._number_scores(dict(request.url.params), number)
        if self._older and request.url.path.startswith(score_reader.CONFIG_PATH):
            return _json(404, {"message": "Score config not found within authorized project"})
        if self._older:
            response = self._older[number].answer(request, self._moments.true_ms())
            self._moments.note(f"Langfuse says {response.status_code} to {request.url.path[-30:]}{request.url.query!r}")
            return response
        if request.url.path == metrics_api.PATH:
            return self._count(orjson.loads(dict(params)["query"]), number)
        if request.url.path.startswith(score_reader.CONFIG_PATH):
            return _json(404, {"message": "Score config not found within authorized project"})
        return self._list(params, number)

    def _list_scores(self, params: list[tuple[str, str]], number: int) -> httpx.Response:
        store = listed(self._stories, number, self._moments.true_ms())
        try:
            found = store.listed(params)
        except query.QueryRejected as no:
            return _json(no.status, no.body)
        if len(found["data"]) > self._plan.page_limit:
            return _json(422, {"message": "too much"})
        names = [score["comment"] for score in found["data"]]
        self._moments.note(f"Langfuse lists scores {dict(params).get('fromTimestamp')}: {names}")
        return _json(200, found)

    def _number_scores(self, params: dict[str, str], number: int) -> httpx.Response:
        store = listed(self._stories, number, self._moments.true_ms())
        found = listed_by_number(store, params, f"{self._plan.seed} {self.requests}")
        if len(found["data"]) > self._plan.page_limit:
            return _json(422, {"message": "too much"})
        names = [score["comment"] for score in found["data"]]
        self._moments.note(f"Langfuse lists scores {params}: {names}")
        return _json(200, found)

    def _source(self, request: httpx.Request) -> int | None:
        """Return which source's keys a request has."""
        word = request.headers.get("Authorization", "").partition(" ")[2]
        public, _, secret = base64.b64decode(word).decode().partition(":")
        number = int(public.rpartition("-")[2])
        return number if self._keys.accepts(f"langfuse-{number}", secret) else None

    def _limited(self, path: str) -> httpx.Response | None:
        """Count a request, and refuse it if it is one too many."""
        if self._plan.rate_limit is None:
            return None
        bucket, limit, length = "public-api", self._plan.rate_limit, MINUTE
        if path == metrics_api.PATH:
            bucket, limit, length = "public-api-v2-metrics", 2, DAY
        now = self._moments.true_ms()
        began, count = self._counted.get(bucket, (now, 0))
        if now - began >= length:
            began, count = now, 0
        self._counted[bucket] = began, count + 1
        if count < limit:
            return None
        left = -((now - began - length) // 1000)
        self._moments.note(f"Langfuse's limit of {bucket} is reached, for {left} s")
        reported = {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": "0", "Retry-After": str(left)}
        return httpx.Response(429, json={"message": "Rate limit exceeded", "code": "rate_limited"}, headers=reported)

    def _count(self, asked: dict[str, str], number: int) -> httpx.Response:
        now = self._moments.true_ms()
        start, end = to_ms(asked["fromTimestamp"]), to_ms(asked["toTimestamp"])
        count = sum(
            1 for item in self._history.listed
            if item.version.story.trace.source == number and start <= item.entry.key[0] < end and item.seen(now)
        )  # fmt: skip
        return _json(200, {"data": [{"count_count": str(count)}]})

    def _fault(self, request: httpx.Request) -> httpx.Response | None:
        hits, spell = self._weather.hits, self._weather.spell
        if spell("langfuse unreachable") or hits("langfuse unreachable"):
            self._moments.note("Langfuse cannot be reached")
            raise httpx.ConnectError("refused")
        if hits("langfuse timeout"):
            self._moments.note("Langfuse does not answer")
            raise httpx.ReadTimeout("slow")
        if hits("langfuse dropped"):
            self._moments.note("Langfuse drops the line")
            raise httpx.RemoteProtocolError("dropped")
        if spell("langfuse 401"):
            return _json(401, {"message": "no"})
        if spell("projects 500") and request.url.path == "/api/public/projects":
            return _json(500, {"message": "no"})
        if spell("langfuse 503") or hits("langfuse 500"):
            return _json(503, {"message": "no"})
        if hits("langfuse 524"):
            return httpx.Response(524, text="<html>slow</html>")
        if hits("langfuse 429"):
            headers = {"Retry-After": str(self._weather.chance.choice([0, 1, 20, 59]))}
            if self._weather.chance.random() < 0.5 and not self._older:  # a server of one's own tells no limit
                headers |= {"X-RateLimit-Limit": "30", "X-RateLimit-Remaining": "0"}
            return httpx.Response(429, json={"message": "no"}, headers=headers)
        if hits("langfuse no json"):
            return httpx.Response(200, text="<html>", headers={"Content-Type": "text/html"})
        return None

    def _list(self, params: list[tuple[str, str]], number: int) -> httpx.Response:
        try:
            asked = query.parse(params)
        except query.QueryRejected as no:
            return _json(no.status, no.body)
        names = dict(params)
        if asked.limit > self._plan.page_limit:
            return _json(422, {"message": "too much"})
        is_whole = "filter" not in names or f'["{QUIET}"]' in names["filter"]
        if "io" in asked.groups and is_whole and "cursor" not in names:
            assert asked.from_ms is not None
            assert asked.to_ms is not None
            self.walks[number, asked.from_ms, asked.to_ms] = self._moments.true_ms()
        if self._weather.hits("same cursor") and "cursor" in names:
            return _json(200, {"data": [], "meta": {"cursor": names["cursor"]}})
        limit = asked.limit
        if self._weather.hits("short page"):
            limit = self._weather.chance.randint(1, limit)
        if self._weather.hits("empty page"):
            limit = 0
        page, more = self._page(asked, limit, number)
        if "io" in asked.groups and any(item.version.story.unservable for item in page):
            return _json(500, {"message": "cannot be served"})
        shape = asked.groups, asked.expand_metadata or "io" in asked.groups
        data = b",".join(self._written(item.version, self._content_of(item.version), shape) for item in page)
        meta = {"cursor": self._cursor(page, names, asked)} if more else {}
        self._moments.note(
            f"Langfuse lists {asked.from_ms}..{asked.to_ms} {'full' if 'io' in asked.groups else 'light'}"
            f"{' filtered' if 'filter' in names else ''}: {[item.version.name for item in page]}{' …' * more}"
        )
        body = b'{"data":[' + data + b'],"meta":' + orjson.dumps(meta) + b"}"
        return httpx.Response(200, content=body, headers={"Content-Type": "application/json"})

    def _page(self, asked: query.Query, limit: int, number: int) -> tuple[list[Listed], bool]:
        now = self._moments.true_ms()
        page: list[Listed] = []
        for item in self._history.listed:
            key = item.entry.key
            if asked.to_ms is not None and key[0] >= asked.to_ms:
                continue
            if asked.from_ms is not None and key[0] < asked.from_ms:
                break
            if asked.below is not None and key[:3] >= asked.below:
                continue
            if item.version.story.trace.source == number and item.seen(now) and asked.matches(item.entry):
                if len(page) == limit:
                    return page, True
                page.append(item)
        return page, False

    def _content_of(self, version: Version) -> Version:
        """Return the state whose input and output are shown: until the store has merged, that of either."""
        if not self._plan.has("unmerged"):
            return version
        now = self._moments.true_ms()
        return self._weather.chance.choice([state for state in version.story.versions if state.seen(now)] or [version])

    def _cursor(self, page: list[Listed], names: dict[str, str], asked: query.Query) -> str:
        """Return a cursor below the page; that of an empty page says the same place in other words."""
        self._cursors += 1
        if page:
            last = page[-1]
            place: dict[str, Any] = {"lastStartTimeTo": iso(last.entry.key[0]), "lastId": last.version.story.id,
                                     "lastTraceId": last.version.row["traceId"] or ""}  # fmt: skip
        elif "cursor" in names:
            place = orjson.loads(base64.b64decode(names["cursor"]))
        else:
            top = _FAR if asked.to_ms is None else asked.to_ms
            place = {"lastStartTimeTo": top, "lastTraceId": "", "lastId": ""}
        return base64.b64encode(json.dumps(place | {"n": self._cursors}).encode()).decode()

    def _written(self, version: Version, content: Version, shape: _Shape) -> bytes:
        key = id(version), id(content), shape
        if key not in self._wire:
            row = version.row | {name: content.row[name] for name in ("input", "output")}
            shown = langfuse_server._wire(row, shape[0], full_metadata=shape[1])
            self._wire[key] = dump(shown)
        return self._wire[key]


class _Way(httpx.AsyncBaseTransport):
    def __init__(self, server: Langfuse) -> None:
        self._server = server

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._server.answer(request)


def project(number: int) -> dict[str, Any]:
    """Return a source's project, as the server names it."""
    organization = {"id": "o", "name": "O"}
    return {"id": f"h1-proj-{number}", "name": f"P{number}", "organization": organization, "metadata": {}}


def dump(value: object) -> bytes:
    """Return JSON text, also of what no encoder of repute writes."""
    try:
        return orjson.dumps(value)
    except TypeError:  # half a surrogate pair, or nested too deep
        return json.dumps(value).encode()


def _json(status: int, body: object) -> httpx.Response:
    return httpx.Response(status, json=body)
