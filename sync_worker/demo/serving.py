"""HTTP on the loopback address; requests are recorded, and a script can replace any response.

The script is called before a request is handled. It returns a `Reply` to send instead of the server's, or None to leave
the request to the server. So an error needs no patching: the client under test receives it on a real socket.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from sys import exc_info
from typing import Any, Generic, Self, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson


@dataclass
class Request:
    """A received request. Header names are in lower case."""

    method: str
    target: str  # path and query as sent
    headers: dict[str, str]
    body: bytes = b""
    status: int | None = None  # of the response; None while it is handled, and if the connection was dropped

    @property
    def path(self) -> str:
        """The path alone, decoded."""
        return unquote(urlsplit(self.target).path)

    @property
    def params(self) -> list[tuple[str, str]]:
        """The query in its order, with repeated names."""
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def query(self) -> dict[str, str]:
        """The query by name; of a repeated name the last value."""
        return dict(self.params)


@dataclass(frozen=True)
class Reply:
    """How to answer a request. Without `status` and `drop`, the server answers as usual."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0  # seconds before the response
    accept: bool = False  # let the server handle the request although its response is replaced or dropped
    drop: bool = False  # close the connection without a response


def json_reply(status: int, content: object, headers: Mapping[str, str] | None = None) -> Reply:
    """Return a reply with a JSON body."""
    return Reply(status, {"Content-Type": "application/json; charset=utf-8", **(headers or {})}, orjson.dumps(content))


R = TypeVar("R", bound=Request)


class Server(ABC, Generic[R]):
    """A server on 127.0.0.1 and a free port: `with Server() as server:` serves until the end of the block."""

    def __init__(self) -> None:
        self.script: Callable[[R], Reply | None] | None = None
        self.now: Callable[[], float] = time.time  # Unix seconds, for the Date header
        self.requests: list[R] = []
        self.in_flight = 0
        self.max_in_flight = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._http = _HttpServer(self)
        self._thread: threading.Thread | None = None
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    @abstractmethod
    def parse(self, request: Request) -> R:
        """Return the request in the form for scripts and `requests`."""

    @abstractmethod
    def answer(self, request: R, scripted: Reply | None) -> Reply:
        """Handle a request; `scripted` is the reply of the script, if any."""

    def start(self) -> Self:
        """Start serving in a daemon thread."""
        self._thread = threading.Thread(target=self._http.serve, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving and close every connection."""
        self._stopping.set()
        if self._thread is not None:
            self._http.stop_serving()
            self._thread.join()
            self._thread = None
        self._http.server_close()
        self._http.close_connections()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def respond(self, plain: Request) -> Reply | None:
        """Return the reply of script or server to a request; None means to drop the connection."""
        request = self.parse(plain)
        with self._lock:
            self.requests.append(request)
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            reply = self._reply(request)
            if reply is not None:
                request.status = reply.status
            return reply
        finally:
            with self._lock:
                self.in_flight -= 1

    def _reply(self, request: R) -> Reply | None:
        scripted = self.script(request) if self.script is not None else None
        if scripted is None:
            return self.answer(request, None)
        if scripted.delay:
            self._stopping.wait(scripted.delay)
        usual = self.answer(request, scripted) if scripted.accept or not _replaces(scripted) else None
        if scripted.drop:
            return None
        return scripted if scripted.status is not None else usual


def _replaces(reply: Reply) -> bool:
    return reply.drop or reply.status is not None


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    timeout = 0  # `handle_request` is called when a connection is there

    def __init__(self, owner: Server[Any]) -> None:
        self.owner = owner
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)
        self._stop, self._stopped = socket.socketpair()

    def serve(self) -> None:
        """Serve until `stop_serving`; the loop of the standard library asks every so often whether to stop."""
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            selector.register(self._stopped, selectors.EVENT_READ)
            while not any(key.fileobj is self._stopped for key, _ in selector.select()):
                self.handle_request()

    def stop_serving(self) -> None:
        """End `serve` at once."""
        self._stop.close()

    def server_close(self) -> None:
        super().server_close()
        self._stop.close()
        self._stopped.close()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        with self._open_lock:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Close the connections that clients keep alive; their threads end then."""
        with self._open_lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client closed it first

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect; print any other error, which is one of the server."""
        if not isinstance(exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _HttpServer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the time of the server's clock as an HTTP date."""
        return super().date_time_string(self.server.owner.now() if timestamp is None else timestamp)

    def _serve(self) -> None:
        length = self.headers.get("Content-Length")
        if length is None and self.headers.get("Transfer-Encoding"):
            self._send(Reply(411, {"Connection": "close"}))
            return
        body = self.rfile.read(int(length or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.owner.respond(Request(self.command, self.path, headers, body))
        if reply is None:
            self.close_connection = True
        else:
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status or 200)
        for name, value in reply.headers.items():
            self.send_header(name, value)  # a `Connection: close` here also ends the connection
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()

    do_GET = do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815
