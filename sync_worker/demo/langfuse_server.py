"""A Langfuse 4.16.0 server with recorded observations: the endpoints that the worker reads, and their errors.

The responses were recorded from a real server of that version in its default mode, `events_only`, including the bodies
of errors, the order of observations and the format of a cursor.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hmac
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import orjson

from sync_worker.demo import query as queries
from sync_worker.demo.rowstore import Row, RowStore
from sync_worker.demo.score_server import ScoreStore
from sync_worker.demo.serving import Reply, Request, Server, json_reply

MAX_TARGET_BYTES = 17_000  # of the request line; a server without a proxy accepted 16.2 KB and rejected 17.7 KB
MIN_GZIP_BYTES = 1024
MAX_METADATA_CHARS = 200  # of a metadata value in a metadata-only listing

_WRONG_HOST = "Confirm that you've configured the correct host."
_REMOVED = (
    "This endpoint is not available on deployments running in Langfuse v4 events_only mode."
    " Learn more about Langfuse v4 at: https://langfuse.com/docs/v4"
)
_REMOVED_PATHS = re.compile(r"/api/public/(traces|observations|sessions|scores|v2/scores|metrics/daily)(/.*)?")
_READ_PATHS = ("/api/public/projects", "/api/public/v2/observations", "/api/public/v3/scores")
_CONFIG_PATH = "/api/public/score-configs/"
_WRITE_ONLY_PATHS = ("/api/public/spans", "/api/public/generations", "/api/public/events")

#: The keys of an observation in the order of a response, with the field group that each belongs to.
_GROUPS_OF_KEYS = (
    ("core", "id traceId startTime endTime projectId parentObservationId type"),
    ("basic", "name level statusMessage version environment"),
    ("time", "completionStartTime createdAt updatedAt"),
    ("io", "input output"),
    ("metadata", "metadata"),
    ("model", "model internalModelId modelParameters"),
    ("usage", "usageDetails inputUsage outputUsage totalUsage costDetails inputCost outputCost totalCost"),
    ("prompt", "promptId promptName promptVersion"),
    ("usage", "usagePricingTierId usagePricingTierName"),
    ("core", "latency timeToFirstToken"),
    ("basic", "userId sessionId isRootObservation"),
    ("trace_context", "traceName release tags"),
    ("basic", "bookmarked public"),
    ("core", "modelId inputPrice outputPrice totalPrice"),
)


class RecordedLangfuse(Server[Request]):
    """Serves observations and scores as a Langfuse server does; `rows` and `scores` may be changed while it runs."""

    project_name = "H1 Project A"
    public_key = "pk-lf-demo"
    secret_key = "sk-lf-demo"  # noqa: S105
    version = "4.16.0"

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]] = (),
        *,
        project_id: str = "h1-proj-a",
        organization_id: str = "h1-org",
        scores: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__()
        self.rows = RowStore(rows)
        self.scores = ScoreStore(scores)
        self.project_id = project_id
        self.organization_id = organization_id

    def parse(self, request: Request) -> Request:
        """Return the request as it is."""
        return request

    def answer(self, request: Request, scripted: Reply | None) -> Reply:
        """Answer as the real server: it checks for removed endpoints first, then the method, then the key."""
        if len(request.target) > MAX_TARGET_BYTES:
            return Reply(431, {"Connection": "close"})
        path = re.sub(r"/+", "/", request.path).rstrip("/")
        if path in ("/api/public/health", "/api/public/ready"):
            return json_reply(200, {"status": "OK", "version": self.version})
        if _REMOVED_PATHS.fullmatch(path):
            return json_reply(404, {"message": _REMOVED})
        is_config = path.startswith(_CONFIG_PATH)
        if path not in (*_READ_PATHS, *_WRITE_ONLY_PATHS) and not is_config:
            return Reply(404, {"Content-Type": "text/html; charset=utf-8"}, _NOT_FOUND_PAGE)
        if request.method != "GET" or path in _WRITE_ONLY_PATHS:
            return json_reply(405, {"message": "Method not allowed", "error": "MethodNotAllowedError"})
        rejection = self._check_key(request.headers.get("authorization"), path)
        if rejection is not None:
            return rejection
        if path == "/api/public/projects":
            return self._projects()
        if is_config:
            return self._config(path.removeprefix(_CONFIG_PATH))
        try:
            if path == "/api/public/v3/scores":
                reply = json_reply(200, self.scores.listed(request.params))
            else:
                reply = self._observations(queries.parse(request.params))
        except queries.QueryRejected as rejected:
            return json_reply(rejected.status, rejected.body)
        return _compress(reply) if "gzip" in request.headers.get("accept-encoding", "") else reply

    def _check_key(self, header: str | None, path: str) -> Reply | None:
        if header is None:
            return json_reply(401, {"message": "No authorization header"})
        scheme, _, content = header.partition(" ")
        if scheme.lower() == "bearer":
            if content != self.public_key:
                return json_reply(401, {"message": f"Invalid public key. {_WRONG_HOST}"})
            if path == "/api/public/projects":
                return json_reply(403, {"message": "Invalid API key. Are you using an organization key?"})
            return json_reply(403, {"message": "Access denied - insufficient permissions for this endpoint"})
        try:
            pair = base64.b64decode(content, validate=True)
        except binascii.Error:
            return json_reply(401, {"message": f"Invalid character. {_WRONG_HOST}"})
        # The real server checks the secret key alone: it accepts a wrong public key with it.
        if not hmac.compare_digest(pair.partition(b":")[2], self.secret_key.encode()):
            return json_reply(401, {"message": f"Invalid credentials. {_WRONG_HOST}"})
        return None

    def _projects(self) -> Reply:
        organization = {"id": self.organization_id, "name": "H1 Org"}
        project = {"id": self.project_id, "name": self.project_name, "organization": organization, "metadata": {}}
        return json_reply(200, {"data": [project]})

    def _config(self, config_id: str) -> Reply:
        config = self.scores.configs.get(config_id)
        if config is None:
            message = "Score config not found within authorized project"
            return json_reply(404, {"message": message, "error": "LangfuseNotFoundError"})
        return json_reply(200, config)

    def _observations(self, query: queries.Query) -> Reply:
        page: list[Row] = []
        more = False
        if query.limit:
            for entry in self.rows.newest_first(from_ms=query.from_ms, to_ms=query.to_ms, below=query.below):
                if query.matches(entry):
                    more = len(page) == query.limit
                    if more:
                        break
                    page.append(self.rows.listed(entry))
        meta = {"cursor": queries.cursor_after(page[-1])} if more else {}
        full_metadata = query.expand_metadata or "io" in query.groups
        data = [_wire(row, query.groups, full_metadata=full_metadata) for row in page]
        return json_reply(200, {"data": data, "meta": meta})


@lru_cache(maxsize=128)
def _keys(groups: frozenset[str]) -> tuple[str, ...]:
    return tuple(key for group, keys in _GROUPS_OF_KEYS if group in groups for key in keys.split())


def _wire(row: Row, groups: frozenset[str], *, full_metadata: bool) -> Row:
    """Return a row as an observation of a response, with the fields of these groups."""
    shown = {key: row.get(key) for key in _keys(groups)}
    if "metrics" in groups:
        shown["latency"] = shown["latency"] or None
    elif shown["latency"] is None and row.get("endTime") is not None:
        shown["latency"] = 0
    if "metrics" not in groups:
        measured = row.get("timeToFirstToken") or (None if row.get("completionStartTime") is None else 0)
        shown["timeToFirstToken"] = measured if "time" in groups else None
    if "model" not in groups:
        shown.update(modelId=None, inputPrice=None, outputPrice=None, totalPrice=None)
    if "metadata" in groups and not full_metadata:
        shown["metadata"] = {key: _truncate(value) for key, value in (row.get("metadata") or {}).items()}
    return shown


def _truncate(value: object) -> object:
    """Truncate a metadata value as the server does without `expandMetadata`: if it is no text, its JSON text."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return value if len(text) <= MAX_METADATA_CHARS else text[:MAX_METADATA_CHARS]


def _compress(reply: Reply) -> Reply:
    if len(reply.body) <= MIN_GZIP_BYTES:
        return reply
    headers = {**reply.headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Reply(reply.status, headers, gzip.compress(reply.body, compresslevel=1, mtime=0))


_NOT_FOUND_PAGE = (
    b'<!DOCTYPE html><html lang="en"><head><meta charSet="utf-8"/>'
    b"<title>404: This page could not be found</title></head><body></body></html>"
)
