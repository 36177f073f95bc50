"""A simulated Langfuse that has the v1 endpoints, with the faults of the real one.

It is a `RecordedLangfuse`, so it stands wherever one does, as the Langfuse of a `World` too:

    with LangfuseV1(traces, observations, mode="v3") as server: ...          # on a socket: server.url
    LangfuseClient(server.url, ..., transport=server.transport())            # without a socket, faster

`mode` says what server it is, and may be changed at any time by `server.become(mode)`:

    v3           3.225.4: v1 lists with `filter`, `fields`, `level`; v2 observations answer 404 as recorded
    v2           2.95.11: v1 lists without those, fewer keys, traces in no order unless `orderBy` is sent; no v2 at all
    dual         4.16.0 in dual mode: both generations; `server.rows` is what v2 shows
    events_only  4.16.0: v2 only; v1 answers 404 as recorded

Data: `server.traces` and `server.observations` (`add`, `replace`, `remove`, iteration), in the shape of the API; make
them with `tests.support.v1_items` (`whole_trace`, `trace_item`, `observation_item`). `server.add(traces, observations)`
also shows them under v2 while the mode is `dual`; what was written before an upgrade is shown under v1 alone.

What makes reading hard:

    ties         rows with equal start stand in another order in each answer (seeded), so pages by number lose rows
    duplicates   "merged" (default), "counted" (counts and pages count each version; a page shows the last one),
                 "shown" (each version is a row of its own, a page may be longer than its limit); `add` adds a version
    before       called with each request before it is answered: add, change or remove rows there
    script       as of every server of the demo (see `tests.support.faults`)
    unserved     ids of traces and observations; an answer that would hold one's content is `unserved_reply` instead
    max_rows, max_bytes   a page beyond is answered with 422
    filter_replaces       whether a column in `filter` makes the server pass over the parameter for the same column
"""

from __future__ import annotations

import math
import random
import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import httpx

from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.demo.query import QueryRejected
from sync_worker.demo.rowstore import to_ms
from sync_worker.demo.serving import Reply, Request, json_reply
from tests.support import v2_scores
from tests.support.clock import VirtualClock
from tests.support.faults import query_timed_out
from tests.support.v1_items import Item, as_2_95, v2_rows
from tests.support.v1_query import OBSERVATIONS, TRACES, Kind, Query, parse

Mode = Literal["v3", "v2", "dual", "events_only"]
Duplicates = Literal["merged", "counted", "shown"]

VERSIONS: dict[Mode, str] = {"v3": "3.225.4", "v2": "2.95.11", "dual": "4.16.0", "events_only": "4.16.0"}
NO_V2 = {
    "message": "The observations v2 API is only available in a Langfuse v4 write mode. "
    "Learn more at: https://langfuse.com/docs/v4",
    "error": "LangfuseNotFoundError",
}
HOUR_MS = 3_600_000

_V1_PATH = re.compile(r"/api/public/(traces|observations)(?:/([^/]+))?")
_V2_PATH = "/api/public/v2/observations"


class Stored(dict[str, Any]):
    """An item with its times in milliseconds too (`startTime ms`); `shown` is the item as it was written."""

    __slots__ = ("key", "shown")

    def __init__(self, item: Mapping[str, Any]) -> None:
        super().__init__(item)
        self.shown = dict(item)
        self.key = _key(item)
        for key in ("startTime", "endTime", "timestamp"):
            value = item.get(key)
            self[f"{key} ms"] = None if value is None else to_ms(value)


class Items:
    """Versions of traces or observations in the order in which they were written."""

    def __init__(self, kind: Kind, items: Iterable[Mapping[str, Any]] = ()) -> None:
        self.kind = kind
        self._lock = threading.Lock()
        self._items: list[Stored] = []  # a change makes a new list, so that readers need no lock
        self._merged: tuple[list[Stored], list[Stored]] = ([], [])  # of which list these are the last versions
        self._by_start: tuple[list[Stored], list[int], list[int]] = ([], [], [])  # of which, their starts, their places
        self._by_trace: tuple[list[Stored], dict[str | None, list[Stored]]] = ([], {})  # of which last versions
        self.extend(items)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        """Iterate over all versions, oldest write first."""
        return (dict(item.shown) for item in self._items)

    def __getitem__(self, place: int) -> Item:
        """Return the version that was written after so many others."""
        return dict(self._items[place].shown)

    def add(self, *items: Mapping[str, Any]) -> None:
        """Write items; an id that is there already gets another version."""
        self.extend(items)

    def extend(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Write many items."""
        with self._lock:
            self._items = [*self._items, *map(Stored, items)]

    def replace(self, *items: Mapping[str, Any]) -> None:
        """Write items, and forget every older version of them."""
        which = {_key(item) for item in items}
        with self._lock:
            kept = [item for item in self._items if item.key not in which]
            self._items = [*kept, *map(Stored, items)]

    def remove(self, doomed: Callable[[Item], bool]) -> int:
        """Take out the items that `doomed` is true of; return how many versions."""
        with self._lock:
            before = len(self._items)
            self._items = [item for item in self._items if not doomed(item)]
            return before - len(self._items)

    def clear(self) -> None:
        """Take out everything."""
        self.remove(lambda _: True)

    def versions(self, *, merged: bool) -> list[Stored]:
        """Return all versions, or the last one of each."""
        items = self._items
        if not merged:
            return items
        of, last = self._merged
        if of is not items:
            last = list({item.key: item for item in items}.values())
            self._merged = items, last
        return last

    def starting(self, since: float, until: float, *, merged: bool) -> list[Stored]:
        """Return the versions that start within these bounds, in the order in which they were written."""
        items = self.versions(merged=merged)
        of, starts, places = self._by_start
        if of is not items:
            key = f"{self.kind.start} ms"
            places = sorted(range(len(items)), key=lambda place: items[place][key])
            starts = [items[place][key] for place in places]
            self._by_start = items, starts, places
        found = places[bisect_left(starts, since) : bisect_left(starts, until)]
        return [items[place] for place in sorted(found)]

    def of_trace(self, trace_id: str) -> list[Stored]:
        """Return the last versions of a trace's observations."""
        last = self.versions(merged=True)
        of, found = self._by_trace
        if of is not last:
            found = {}
            for item in last:
                found.setdefault(item.get("traceId"), []).append(item)
            self._by_trace = last, found
        return found.get(trace_id, [])


class LangfuseV1(RecordedLangfuse):
    """The server; see the head of the module."""

    def __init__(
        self,
        traces: Iterable[Mapping[str, Any]] = (),
        observations: Iterable[Mapping[str, Any]] = (),
        *,
        mode: Mode = "v3",
        seed: int = 0,
        duplicates: Duplicates = "merged",
        rows: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(rows)
        self.version = VERSIONS[mode]
        self.mode: Mode = mode
        self.random = random.Random(seed)
        self.duplicates: Duplicates = duplicates
        self.before: Callable[[Request], None] | None = None
        self.unserved: set[str] = set()
        self.unserved_reply: Reply = json_reply(500, {"message": "Internal Server Error", "error": "cannot read row"})
        self.max_rows: int | None = None
        self.max_bytes: int | None = None
        self.filter_replaces = True
        self.traces = Items(TRACES)
        self.observations = Items(OBSERVATIONS)
        self._turn = threading.Lock()
        self.add(traces, observations)

    def add(self, traces: Iterable[Mapping[str, Any]] = (), observations: Iterable[Mapping[str, Any]] = ()) -> None:
        """Write traces and observations; a server in dual mode shows them under v2 as well."""
        traces, observations = list(traces), list(observations)
        self.traces.extend(traces)
        self.observations.extend(observations)
        if self.mode == "dual":
            known = {item["id"]: item for item in self.traces}
            written = {item["id"] for item in traces}
            rows = v2_rows(known.values(), observations)
            self.rows.replace(*(row for row in rows if not _is_root_of_another(row, written)))

    def become(self, mode: Mode) -> None:
        """Become another server, with the same data."""
        self.mode = mode
        self.version = VERSIONS[mode]

    def transport(self, clock: VirtualClock | None = None, seconds: float | Callable[[Request], float] = 0.0) -> Direct:
        """Return a transport that asks this server without a socket; each answer takes so many virtual seconds."""
        return Direct(self, clock, seconds)

    def respond(self, plain: Request) -> Reply | None:
        """Take one request; a reply that says so drops the connection."""
        reply = super().respond(plain)
        return None if reply is not None and reply.drop else reply

    def answer(self, request: Request, scripted: Reply | None) -> Reply:
        """Answer as the server of the present mode does, one after the other, so that runs repeat exactly."""
        with self._turn:
            if self.before is not None:
                self.before(request)
            return self._answer_now(request, scripted)

    def _answer_now(self, request: Request, scripted: Reply | None) -> Reply:
        raw_path = urlsplit(request.target).path
        found = _V1_PATH.fullmatch(raw_path)
        if found is not None and self.mode != "events_only":
            return self._v1(request, found[1], found[2])
        if raw_path in v2_scores.PATHS[self.mode == "v2" :] and self.mode != "events_only":
            refused = self._check_key(request.headers.get("authorization"), raw_path)
            turn = f"{self.random.random()}"
            return refused or json_reply(200, v2_scores.listed_by_number(self.scores, dict(request.params), turn))
        if raw_path == _V2_PATH and self.mode == "v3":
            refused = self._check_key(request.headers.get("authorization"), raw_path)
            return refused or json_reply(404, NO_V2)
        if raw_path == _V2_PATH and self.mode == "v2":
            return super().answer(Request("GET", "/api/public/nope", request.headers), scripted)
        return super().answer(request, scripted)

    def _v1(self, request: Request, name: str, item_id: str | None) -> Reply:
        if request.method != "GET":
            return json_reply(405, {"message": "Method not allowed", "error": "MethodNotAllowedError"})
        refused = self._check_key(request.headers.get("authorization"), request.path)
        if refused is not None:
            return refused
        items = self.traces if name == "traces" else self.observations
        if item_id is not None:
            return self._one(items, unquote(item_id), request)
        try:
            query = parse(items.kind, request.params, old=self.mode == "v2", filter_replaces=self.filter_replaces)
        except QueryRejected as no:
            return json_reply(no.status, no.body)
        return self._page(items, query)

    def _page(self, items: Items, query: Query) -> Reply:
        within = items.starting(query.since, query.until, merged=self.duplicates == "merged")
        matching = query.matching(within)
        listed = matching
        if self.duplicates == "shown":
            listed = list({item.key: item for item in matching}.values())
        listed = self._ordered(items.kind, listed, query)
        page = listed[(query.page - 1) * query.limit : query.page * query.limit]
        if self.duplicates == "shown":
            keys = {item.key for item in page}
            page = self._ordered(items.kind, [item for item in matching if item.key in keys], query)
        elif self.duplicates == "counted":
            last = {item.key: item for item in items.versions(merged=True)}
            page = [last[key] for key in dict.fromkeys(item.key for item in page)]
        if self._holds_unserved(page, query):
            return self.unserved_reply
        meta = {
            "page": query.page,
            "limit": query.limit,
            "totalItems": len(matching),
            "totalPages": math.ceil(len(matching) / query.limit),
        }
        reply = json_reply(200, {"data": [self._wire(items.kind, item, query) for item in page], "meta": meta})
        too_long = self.max_rows is not None and len(page) > self.max_rows
        too_heavy = self.max_bytes is not None and len(reply.body) > self.max_bytes and len(page) > 1
        return query_timed_out() if too_long or too_heavy else reply

    def _ordered(self, kind: Kind, items: list[Stored], query: Query) -> list[Stored]:
        mixed = list(items)
        self.random.shuffle(mixed)
        if query.order is not None:
            key, way = query.order
            return sorted(mixed, key=lambda item: str(item.get(key) or ""), reverse=way == "desc")
        if kind is TRACES and self.mode == "v2":
            return mixed
        return sorted(mixed, key=itemgetter(f"{kind.start} ms"), reverse=True)

    def _holds_unserved(self, page: list[Stored], query: Query) -> bool:
        with_content = query.fields is None or "io" in query.fields
        return with_content and any(item["id"] in self.unserved for item in page)

    def _wire(self, kind: Kind, item: Stored, query: Query) -> Item:
        reported = item.shown
        if self.mode == "v2":
            reported = as_2_95(reported)
        if kind is OBSERVATIONS:
            return reported
        fields = query.fields
        if fields is not None and "io" not in fields:
            reported = reported | {"input": None, "output": None, "metadata": {}}
        ids: list[str] = []
        if fields is None or "observations" in fields:
            ids = [one["id"] for one in self.observations.of_trace(item["id"])]
        has_metrics = fields is None or "metrics" in fields
        metrics = {"totalCost": 0, "latency": 0} if has_metrics else {"totalCost": -1, "latency": -1}
        path = f"/project/{self.project_id}/traces/{item['id']}"
        return {**reported, "observations": ids, "scores": [], **metrics, "htmlPath": path}

    def _one(self, items: Items, item_id: str, request: Request) -> Reply:
        found = next((item for item in items.versions(merged=True) if item["id"] == item_id), None)
        if found is None:
            what = f"Trace {item_id} not found within authorized project"
            if items.kind is OBSERVATIONS:
                what = f"Observation with id {item_id} not found"
            return json_reply(404, {"message": what, "error": "LangfuseNotFoundError"})
        fields = request.query.get("fields") if self.mode != "v2" and items.kind is TRACES else None
        query = Query(fields=frozenset(fields.split(",")) if fields else None)
        if self._holds_unserved([found], query):
            return self.unserved_reply
        reported = self._wire(items.kind, found, query)
        if items.kind is TRACES:
            reported["observations"] = []
            if query.fields is None or "observations" in query.fields:
                reported["observations"] = [one.shown for one in self._of_trace(found)]
        return json_reply(200, reported)

    def _of_trace(self, trace: Stored) -> list[Stored]:
        """Return the observations that a trace's own page shows: not those of more than an hour before it."""
        since = trace["timestamp ms"] - HOUR_MS
        return [item for item in self.observations.of_trace(trace["id"]) if item["startTime ms"] >= since]


class Direct(httpx.AsyncBaseTransport):
    """Asks a server in this process, with time that passes at once."""

    def __init__(
        self, server: LangfuseV1, clock: VirtualClock | None, seconds: float | Callable[[Request], float]
    ) -> None:
        self.server = server
        self.clock = clock
        self.seconds = seconds

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; raises as a connection does that is closed without an answer."""
        headers = {name.decode().lower(): value.decode() for name, value in request.headers.raw}
        plain = Request(request.method, request.url.raw_path.decode(), headers, await request.aread())
        if self.clock is not None:
            self.clock.advance(self.seconds(plain) if callable(self.seconds) else self.seconds)
        reply = self.server.respond(plain)
        if reply is None:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request)
        return httpx.Response(reply.status or 200, headers=dict(reply.headers), content=reply.body, request=request)


def _key(item: Mapping[str, Any]) -> tuple[str | None, str]:
    return item.get("traceId"), item["id"]


def _is_root_of_another(row: Mapping[str, Any], written: set[str]) -> bool:
    return row["id"] == f"t-{row['traceId']}" and row["traceId"] not in written
