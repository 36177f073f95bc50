"""A small HTTP/1.1 server for one process: keeps connections, reads whole bodies, and does little else.

A server process prints its port as its first line, and ends when its standard input does: with whoever started it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Below this path a server answers questions of the benchmark itself, which count for nothing.
CONTROL = "/bench/"

_REASONS = {200: b"OK", 400: b"Bad Request", 401: b"Unauthorized", 404: b"Not Found", 405: b"Method Not Allowed"}
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """A request; header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def takes_gzip(self) -> bool:
        """Whether the answer may be compressed."""
        return "gzip" in self.headers.get("accept-encoding", "")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    body: bytes = b""
    status: int = 200
    content_type: bytes = b"application/json; charset=utf-8"
    zipped: bool = False

    def as_bytes(self) -> bytes:
        """Return the head of the answer."""
        encoding = b"Content-Encoding: gzip\r\n" if self.zipped else b""
        return b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n" % (
            self.status, _REASONS[self.status], self.content_type, len(self.body), encoding,
        )  # fmt: skip


def json_reply(content: Any, status: int = 200) -> Reply:
    """Return an answer in JSON."""
    return Reply(json.dumps(content).encode(), status)


Handler = Callable[[Request], Reply]


class _Connection(asyncio.Protocol):
    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._head: Request | None = None
        self._wanted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._next():
            pass

    def _next(self) -> bool:
        """Answer the next request if all of it is here."""
        if self._head is None:
            end = self._buffer.find(_HEAD_END)
            if end < 0:
                return False
            self._head = _head(self._buffer[:end].decode("latin-1"))
            self._wanted = int(self._head.headers.get("content-length", 0))
            del self._buffer[: end + len(_HEAD_END)]
        if len(self._buffer) < self._wanted or self._transport is None:
            return False
        request = Request(
            self._head.method, self._head.target, self._head.headers, bytes(memoryview(self._buffer)[: self._wanted])
        )
        del self._buffer[: self._wanted]
        self._head = None
        reply = self._handler(request)
        self._transport.writelines([reply.as_bytes(), reply.body])
        return True


def _head(text: str) -> Request:
    first, *lines = text.split("\r\n")
    method, target, _ = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    return Request(method, target, {name.lower(): value.strip() for name, _, value in pairs}, b"")


def serve(handler: Handler) -> None:
    """Serve on the loopback address until standard input ends."""
    asyncio.run(_serve(handler))


async def _serve(handler: Handler) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(handler), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()
