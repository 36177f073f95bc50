"""A small HTTP server in a thread: it answers while the event loop works, waits or hangs. Reads only, GET and HEAD.

Nothing in it may end the worker, print a traceback, or take more than a bounded part of it: eight requests at a time,
five seconds of silence and fifteen in all for a connection.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from socket import AF_INET6, SHUT_RDWR
from socket import timeout as _TimedOut  # noqa: N812
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

from sync_worker.errors import ConfigError, SyncError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_AT_ONCE = 8  # requests
_SECONDS = 5.0  # for which a connection may be silent
_SECONDS_IN_ALL = 15.0  # of a connection, however much it says
_POLL_SECONDS = 0.1  # how soon it stops

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. `status` is written out: `200 OK`."""

    status: str
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What a page gets of a request: its header `Accept`, and the parameters of its address."""

    accept: str = ""
    query: str = ""


#: What makes the answer of a path. A SyncError becomes a 503 with its one line.
Page = Callable[[HttpRequest], Response]


def text(line: str, *, ok: bool = True) -> Response:
    """Return one line as an answer: 200, or 503 if not `ok`."""
    status = "200 OK" if ok else "503 Service Unavailable"
    return Response(status, "text/plain; charset=utf-8", f"{' '.join(line.split())}\n".encode("utf-8", "replace"))


class HttpServer:
    """Serves pages at an address from its making until `close`. Raises ConfigError where it cannot listen."""

    def __init__(self, host: str, port: int, pages: Mapping[str, Page]) -> None:
        self._stopping = False
        self._pages = pages
        try:
            self._server = _Server((host, port), _Handler, ipv6=":" in host)
        except (OSError, OverflowError, UnicodeError) as error:
            raise ConfigError(_cannot_listen(host, port, error)) from None
        self._server.set_app(self._answer)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="http", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """The address that it listens at."""
        host, port = self._server.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"http://{shown}:{port}"

    def stop(self) -> None:
        """Answer everything but `/healthz` with 503 from now on: the worker ends."""
        self._stopping = True

    def close(self) -> None:
        """Close the port."""
        self._stopping = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_SECONDS)

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        response = self._response(environ)
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *response.headers,
        ]
        start(response.status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [response.body]

    def _response(self, environ: WSGIEnvironment) -> Response:
        path = environ.get("PATH_INFO", "")
        page = self._pages.get(path)
        if page is None:
            known = ", ".join(self._pages)
            return Response("404 Not Found", "text/plain; charset=utf-8", f"not here; there are {known}\n".encode())
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            body = b"only GET and HEAD\n"
            return Response("405 Method Not Allowed", "text/plain", body, (("Allow", "GET, HEAD"),))
        if self._stopping and path != "/healthz":
            return text("the worker is stopping", ok=False)
        try:
            return page(HttpRequest(environ.get("HTTP_ACCEPT", ""), environ.get("QUERY_STRING", "")))
        except SyncError as error:
            return text(str(error), ok=False)
        except Exception as error:  # the response reports it, and the worker continues
            log.debug("%s failed", path, exc_info=error)
            return text(f"{path} failed: unexpected {type(error).__name__}", ok=False)


def _cannot_listen(host: str, port: int, error: Exception) -> str:
    where = f"SYNC_HTTP_LISTEN: {host}:{port}"
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return f"{where} is in use by another program. Try: another port, or stop that program"
    if number == errno.EACCES:
        return f"{where} may not be used by this user. Try: a port of 1024 or more, such as 9464"
    reason = getattr(error, "strerror", None) or str(error)
    return f"{where} cannot be listened at ({reason}). Try: an address of this machine, such as 127.0.0.1:9464"


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler], *, ipv6: bool) -> None:
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        self._since: dict[Any, float] = {}  # by connection, when it began
        if ipv6:
            self.address_family = AF_INET6
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind, without asking the name service what this machine is called, as the base class does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, unless there are too many: then the connection is closed."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._since[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._since.pop(request, None)
            self._free.release()
            raise

    def service_actions(self) -> None:
        """Break off connections that take too long: a client that sends a little all the time is never silent."""
        latest = time.monotonic() - _SECONDS_IN_ALL
        for connection in [connection for connection, since in list(self._since.items()) if since < latest]:
            self._since.pop(connection, None)
            with contextlib.suppress(OSError):
                connection.shutdown(SHUT_RDWR)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._since.pop(request, None)
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away."""
        log.debug("a request over HTTP broke off")


class _Handler(WSGIRequestHandler):
    timeout = _SECONDS
    server_version = "sync-worker"
    sys_version = ""

    def handle(self) -> None:
        """Answer one request. As the base class, but quiet about clients that say nothing or leave."""
        with contextlib.suppress(_TimedOut, ConnectionError):
            self.raw_requestline = self.rfile.readline(65_537)
            if len(self.raw_requestline) > 65_536:
                self.requestline = self.request_version = self.command = ""
                self.send_error(414)
                return
            if self.parse_request():
                reading: Any = self.rfile
                writing: Any = self.wfile
                handler = _Writer(reading, writing, self.get_stderr(), self.get_environ(), multithread=True)
                handler.request_handler = self  # type: ignore[attr-defined]  # which the base class sets too
                handler.run(_app_of(self.server))

    def log_message(self, *_: Any) -> None:
        """Log nothing: scrapes are no news."""


class _Writer(ServerHandler):
    server_software = _Handler.server_version  # not which Python this is

    def log_exception(self, exc_info: Any) -> None:
        """Print no traceback."""
        log.debug("a request over HTTP failed", exc_info=exc_info)

    def close(self) -> None:
        """End the answer, without a line in the log."""
        self.result = self.headers = self.status = self.environ = None
        self.bytes_sent, self.headers_sent = 0, False


def _app_of(server: Any) -> WSGIApplication:
    app: WSGIApplication = server.get_app()
    return app
