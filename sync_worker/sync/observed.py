"""Counts the requests of a source on their way, whoever sends them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

import httpx

from sync_worker.connections import ProxyTransport
from sync_worker.measurements import (
    DELIVERY_SECONDS,
    LANGFUSE_REQUESTS,
    RECEIVED_BYTES,
    SENT_BYTES,
    TARGET_REQUESTS,
    Measurements,
)
from sync_worker.targets import Target

#: What the label `code` says of a request without an answer.
NO_ANSWER = "none"
#: Endpoints of Langfuse that are counted by name, whatever stands around them in a path; others, as of scores, are one.
_ENDPOINTS = (
    "/api/public/v2/observations",
    "/api/public/v2/metrics",
    "/api/public/observations",
    "/api/public/traces",
    "/api/public/sessions",
    "/api/public/projects",
    "/api/public/media",
    "/api/public/ready",
)

_Observe = Callable[[httpx.Request, str, float], None]


def langfuse_transport(inner: httpx.AsyncBaseTransport | None, source: str, made: Measurements) -> ObservedTransport:
    """Return a transport to Langfuse that counts; None for the network."""

    def observe(request: httpx.Request, code: str, _: float) -> None:
        made.count(LANGFUSE_REQUESTS, source, endpoint_of(request.url.path), code)

    return ObservedTransport(inner, observe, lambda length: made.count(RECEIVED_BYTES, source, by=length))


def target_transport(
    inner: httpx.AsyncBaseTransport | None, source: str, target: Target, project: str, made: Measurements
) -> ObservedTransport:
    """Return a transport to the target that counts. `project` is what requests are for that name none."""

    def observe(request: httpx.Request, code: str, seconds: float) -> None:
        if request.method == "POST":
            path, header = request.url.path, target.preset.project_header or ""
            addressed = path.split("/")[-2] if path.endswith("/signal") else request.headers.get(header)
            endpoint = "traces" if path.endswith("/traces") else "signals"
            made.count(TARGET_REQUESTS, source, addressed or project, endpoint, code)
            made.count(SENT_BYTES, source, by=int(request.headers.get("Content-Length", "0")))
            if code != NO_ANSWER and endpoint == "traces":
                made.observe(DELIVERY_SECONDS, seconds, source)

    return ObservedTransport(inner, observe, None)


def endpoint_of(path: str) -> str:
    """Return the endpoint of a path, without a prefix that a proxy adds and without ids."""
    return next((one for one in _ENDPOINTS if one in path), "other")


class ObservedTransport(httpx.AsyncBaseTransport):
    """Reports each request with its status, or `none`, and the seconds until it came; and the bytes of answers."""

    def __init__(
        self, inner: httpx.AsyncBaseTransport | None, observe: _Observe, received: Callable[[int], None] | None
    ) -> None:
        self._inner = inner or ProxyTransport()
        self._observe = observe
        self._received = received

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises as the transport below."""
        began = time.monotonic()
        try:
            response = await self._inner.handle_async_request(request)
        except BaseException:
            self._observe(request, NO_ANSWER, time.monotonic() - began)
            raise
        self._observe(request, str(response.status_code), time.monotonic() - began)
        if self._received is not None and isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = _Counted(response.stream, self._received)
        return response

    async def aclose(self) -> None:
        """Close the transport below."""
        await self._inner.aclose()


class _Counted(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, received: Callable[[int], None]) -> None:
        self._inner = inner
        self._received = received

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            self._received(len(part))
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()
