"""A Langfuse that serves pages faster than they are read: `python -m bench.langfuse_server SHAPE|FLOW`."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl

from bench.flow import Flow
from bench.flow_store import FlowStore
from bench.serving import CONTROL, Reply, Request, json_reply, serve
from bench.shape import Shape, unix_ms
from bench.store import Store

OBSERVATIONS = "/api/public/v2/observations"
_READ_BEFORE_MS = 420_000  # an interval that ended so long ago, and is read whole, has been read before
_PROJECT = {
    "id": "bench-project",
    "name": "Benchmark",
    "organization": {"id": "bench-org", "name": "Benchmark"},
    "metadata": {},
}


class Langfuse:
    """Answers as Langfuse v4 does, as far as the worker and the SDK ask; counts requests by kind."""

    def __init__(self, store: Store | FlowStore) -> None:
        self._store = store
        self._counts: Counter[str] = Counter()
        self._first: float | None = None  # on the clock that all processes share
        self._cpu = time.process_time()

    def answer(self, request: Request) -> Reply:
        """Answer a request."""
        if request.path.startswith(CONTROL):
            return self._control(request.path.removeprefix(CONTROL))
        if self._first is None:
            self._first = time.monotonic()
        self._counts["requests"] += 1
        if "authorization" not in request.headers:
            return json_reply({"message": "No authorization header"}, 401)
        if request.path == OBSERVATIONS:
            return self._observations(request)
        self._counts[request.path.rpartition("/")[2]] += 1
        if request.path == "/api/public/projects":
            return json_reply({"data": [_PROJECT]})
        if request.path == "/api/public/health":
            return json_reply({"status": "OK", "version": "4.16.0"})
        return json_reply({"message": "Not found", "error": "LangfuseNotFoundError"}, 404)

    def _control(self, what: str) -> Reply:
        cpu = time.process_time()
        reported = {"counts": dict(self._counts), "first": self._first, "cpu": cpu - self._cpu}
        if what == "reset":
            self._cpu = cpu
            self._counts.clear()
            self._first = None
        return json_reply(reported)

    def _observations(self, request: Request) -> Reply:
        asked = dict(parse_qsl(request.target.partition("?")[2]))
        conditions = {item["column"]: item["value"] for item in json.loads(asked.get("filter", "[]"))}
        limit = int(asked.get("limit", 50))
        matching = self._matching(asked, conditions)
        positions = matching[:limit]
        cursor = positions[-1] + 1 if len(matching) > limit else None
        fields = asked.get("fields", "core,basic")
        kind = _kind(fields, conditions)
        if kind == "pages" and self._is_old(asked):
            kind = "second reads"
        self._counts[kind] += 1
        self._counts[f"{kind}: rows"] += len(positions)
        self._counts["rows"] += len(positions)
        body = self._store.page(fields, positions, cursor, zipped=request.takes_gzip)
        self._counts["bytes"] += len(body)
        return Reply(body, zipped=request.takes_gzip)

    def _is_old(self, asked: dict[str, str]) -> bool:
        """Whether an interval of a flow is listed that has been read before, since it ended a while ago."""
        if not isinstance(self._store, FlowStore) or "toStartTime" not in asked:
            return False
        return self._store.now_ms() - unix_ms(asked["toStartTime"]) > _READ_BEFORE_MS

    def _matching(self, asked: dict[str, str], conditions: dict[str, Any]) -> Sequence[int]:
        """Return positions from the cursor on, at least one more than a page holds if there are so many."""
        store = self._store
        start = store.position(unix_ms(asked["toStartTime"])) if "toStartTime" in asked else 0
        end = store.position(unix_ms(asked["fromStartTime"])) if "fromStartTime" in asked else store.rows
        start = max(start, int(asked.get("cursor", 0)))
        if "endTime" in conditions:
            limit = int(asked.get("limit", 50))
            return list(islice(store.ended_since(unix_ms(conditions["endTime"]), start, end), limit + 1))
        if "traceId" in conditions:
            found = store.of_traces(conditions["traceId"], roots=bool(conditions.get("isRootObservation")))
        elif "id" in conditions:
            found = store.of_ids(conditions["id"])
        else:
            return store.listed(start, end, int(asked.get("limit", 50)) + 1)
        return [position for position in found if start <= position < end]


def _kind(fields: str, conditions: dict[str, Any]) -> str:
    """Name what a listing is for."""
    if "isRootObservation" in conditions:
        return "roots"
    whole = "io" in fields.split(",")
    if "id" in conditions:
        return "rows by id" if whole else "light rows by id"
    if conditions:
        return {"endTime": "ended lately", "traceId": "traces"}.get(next(iter(conditions)), "other")
    return "pages" if whole else "light pages"


if __name__ == "__main__":
    text = sys.argv[1]
    is_flow = "rate" in json.loads(text)
    serve(Langfuse(FlowStore(Flow.from_text(text)) if is_flow else Store(Shape.from_text(text))).answer)
