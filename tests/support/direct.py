"""Transports to servers of the demo in this process, without a socket, for tests that are about something else."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import httpx

from sync_worker.connections import ProxyTransport
from sync_worker.demo.serving import Request, Server


class Direct(httpx.AsyncBaseTransport):
    """Asks a server in this process; its script and all it keeps of requests are as on a socket."""

    def __init__(self, server: Server[Any]) -> None:
        self.server = server

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; raises as a connection does that is closed without an answer."""
        headers = {name.decode().lower(): value.decode() for name, value in request.headers.raw}
        reply = self.server.respond(
            Request(request.method, request.url.raw_path.decode(), headers, await request.aread())
        )
        if reply is None:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request)
        date = {"Date": formatdate(self.server.now(), usegmt=True)}
        return httpx.Response(reply.status or 200, headers=date | dict(reply.headers), content=reply.body)


class Network(httpx.AsyncBaseTransport):
    """Asks servers in this process without a socket, and all others over one."""

    def __init__(self, *servers: Server[Any]) -> None:
        self._near = {server.url.removeprefix("http://").encode(): Direct(server) for server in servers}
        self._far = ProxyTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        near = self._near.get(request.url.netloc) if request.url.scheme == "http" else None
        return await (near or self._far).handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections to the others."""
        await self._far.aclose()
