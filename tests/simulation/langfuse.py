"""A Langfuse that lists the history as it stands at the moment, when it answers at all."""

from __future__ import annotations

import asyncio
import base64
from email.utils import format_datetime
from typing import Any

import httpx
import orjson

from sync_worker.demo import langfuse_server, query
from sync_worker.demo.rowstore import Entry
from tests.simulation.history import History, Version, moment
from tests.simulation.moments import Moments
from tests.simulation.plan import Plan
from tests.simulation.weather import Weather

URL = "http://127.0.0.1:1"
_PROJECT = {"id": "h1-proj-a", "name": "A", "organization": {"id": "o", "name": "O"}, "metadata": {}}
_FAR = 4_000_000_000_000
_Shape = tuple[frozenset[str], bool]


class Langfuse:
    """The server, seen by all processes."""

    def __init__(self, plan: Plan, history: History, weather: Weather, moments: Moments) -> None:
        self._plan = plan
        self._history = history
        self._weather = weather
        self._moments = moments
        self._wire: dict[tuple[int, _Shape], bytes] = {}
        self._cursors = 0
        self.requests = 0
        self.walks: dict[tuple[int, int], int] = {}  # when a whole walk of a window began last, by its bounds

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return the way of one process to the server."""
        return _Way(self)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer a request, or do not."""
        self._weather.point("before a request to Langfuse")
        self.requests += 1
        await asyncio.sleep(self._weather.chance.uniform(0.01, 0.3))
        self._weather.alive()
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
        if request.url.path == "/api/public/projects":
            return _json(200, {"data": [_PROJECT]})
        return self._list(list(request.url.params.multi_items()))

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
            if self._weather.chance.random() < 0.5:
                headers |= {"X-RateLimit-Limit": "30", "X-RateLimit-Remaining": "0"}
            return httpx.Response(429, json={"message": "no"}, headers=headers)
        if hits("langfuse no json"):
            return httpx.Response(200, text="<html>", headers={"Content-Type": "text/html"})
        return None

    def _list(self, params: list[tuple[str, str]]) -> httpx.Response:
        try:
            asked = query.parse(params)
        except query.Refused as no:
            return _json(no.status, no.body)
        names = dict(params)
        if asked.limit > self._plan.page_limit:
            return _json(422, {"message": "too much"})
        if "io" in asked.groups and "filter" not in names and "cursor" not in names:
            assert asked.from_ms is not None
            assert asked.to_ms is not None
            self.walks[asked.from_ms, asked.to_ms] = self._moments.true_ms()
        if self._weather.hits("same cursor") and "cursor" in names:
            return _json(200, {"data": [], "meta": {"cursor": names["cursor"]}})
        limit = asked.limit
        if self._weather.hits("short page"):
            limit = self._weather.chance.randint(1, limit)
        if self._weather.hits("empty page"):
            limit = 0
        page, more = self._page(asked, limit)
        if "io" in asked.groups and any(version.story.unservable for _, version in page):
            return _json(500, {"message": "cannot be served"})
        shape = asked.groups, asked.expand_metadata or "io" in asked.groups
        data = b",".join(self._written(version, shape) for _, version in page)
        meta = {"cursor": self._cursor(page, names, asked)} if more else {}
        self._moments.note(
            f"Langfuse lists {asked.from_ms}..{asked.to_ms} {'full' if 'io' in asked.groups else 'light'}"
            f"{' filtered' if 'filter' in names else ''}: {[version.name for _, version in page]}{' …' * more}"
        )
        body = b'{"data":[' + data + b'],"meta":' + orjson.dumps(meta) + b"}"
        return httpx.Response(200, content=body, headers={"Content-Type": "application/json"})

    def _page(self, asked: query.Query, limit: int) -> tuple[list[tuple[Entry, Version]], bool]:
        now = self._moments.true_ms()
        page: list[tuple[Entry, Version]] = []
        for entry, version in self._history.listed:
            start = entry.key[0]
            if asked.to_ms is not None and start >= asked.to_ms:
                continue
            if asked.from_ms is not None and start < asked.from_ms:
                break
            if asked.below is not None and entry.key[:3] >= asked.below:
                continue
            if version.seen(now) and asked.matches(entry):
                if len(page) == limit:
                    return page, True
                page.append((entry, version))
        return page, False

    def _cursor(self, page: list[tuple[Entry, Version]], names: dict[str, str], asked: query.Query) -> str:
        """Return a cursor below the page; that of an empty page says the same place in other words."""
        self._cursors += 1
        if page:
            row = page[-1][1].row
            place: dict[str, Any] = {"lastStartTimeTo": row["startTime"], "lastTraceId": row["traceId"] or "",
                                     "lastId": row["id"]}  # fmt: skip
        elif "cursor" in names:
            place = orjson.loads(base64.b64decode(names["cursor"]))
        else:
            top = _FAR if asked.to_ms is None else asked.to_ms
            place = {"lastStartTimeTo": top, "lastTraceId": "", "lastId": ""}
        return base64.b64encode(orjson.dumps(place | {"n": self._cursors})).decode()

    def _written(self, version: Version, shape: _Shape) -> bytes:
        key = id(version), shape
        if key not in self._wire:
            shown = langfuse_server._wire(version.row, shape[0], full_metadata=shape[1])
            self._wire[key] = orjson.dumps(shown)
        return self._wire[key]


class _Way(httpx.AsyncBaseTransport):
    def __init__(self, server: Langfuse) -> None:
        self._server = server

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._server.answer(request)


def _json(status: int, body: object) -> httpx.Response:
    return httpx.Response(status, json=body)
