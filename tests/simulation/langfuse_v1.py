"""The history as a server of the first generation shows it: traces and observations, as two lists."""

from __future__ import annotations

import base64
from typing import Any

import httpx

from sync_worker.demo.serving import Request
from tests.simulation.history import History, Version
from tests.simulation.plan import Plan
from tests.support import v1_items
from tests.support.langfuse_v1 import LangfuseV1, Stored

_SAME = ("name", "input", "output", "createdAt", "updatedAt", "projectId", "environment", "bookmarked")


class OlderLangfuse:
    """Answers in the place of the newer API, for the traces of one source."""

    def __init__(self, plan: Plan, history: History, source: int) -> None:
        self._versions = [version for row in history.rows if row.trace.source == source for version in row.versions]
        self._items: dict[int, Stored] = {}
        self._server = LangfuseV1(mode="v3", seed=plan.seed)
        self._server.stop()  # it is asked without a socket
        self._server.max_rows = min(plan.page_limit, 100)
        self._server.unserved = {row.id for row in history.rows if row.unservable}

    def answer(self, request: httpx.Request, now: int) -> httpx.Response:
        """Answer a request for one of the lists, or for what is not there."""
        self._show(now)
        keys = f"{self._server.public_key}:{self._server.secret_key}".encode()
        headers = {"authorization": "Basic " + base64.b64encode(keys).decode()}
        reply = self._server.respond(Request(request.method, request.url.raw_path.decode(), headers))
        if reply is None:
            raise httpx.RemoteProtocolError("dropped")
        return httpx.Response(reply.status or 200, headers=dict(reply.headers), content=reply.body)

    def count_of(self, response: httpx.Response) -> list[str]:
        """Return the names of what a list showed."""
        body = response.json()
        return [item["name"] for item in body.get("data", [])] if isinstance(body, dict) else []

    def _show(self, now: int) -> None:
        """Let the lists hold what can be seen now, of each row its newest state."""
        newest = {version.story.key: version for version in self._versions if version.seen(now)}
        traces = [version for version in newest.values() if version.story.is_trace]
        observations = [version for version in newest.values() if not version.story.is_trace]
        self._server.traces._items = [self._item(version) for version in traces]
        self._server.observations._items = [self._item(version) for version in observations]

    def _item(self, version: Version) -> Stored:
        if id(version) not in self._items:
            row = version.row
            same: dict[str, Any] = {key: row[key] for key in _SAME if key in row}
            if version.story.is_trace:
                session = row["sessionId"] or None
                made = v1_items.trace_item(row["traceId"], start=row["startTime"], sessionId=session, **same)
            else:
                same.pop("bookmarked")
                made = v1_items.observation_item(
                    row["traceId"], id=row["id"], start=row["startTime"], seconds=None, type=row["type"],
                    endTime=row["endTime"], parent=row["parentObservationId"], **same,
                )  # fmt: skip
            self._items[id(version)] = Stored(made)
        return self._items[id(version)]
