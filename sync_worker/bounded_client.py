"""An HTTP client with limits on its responses: decompressed size, time, and a stop of the run.

The other end may be a gateway, a login page or a broken proxy. So a response is decompressed chunk by chunk and never
beyond a limit, and its deadline is extended only by bytes received: a slow line passes, a trickle does not.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar, cast

import httpx

from sync_worker.clock import Clock, Stopped
from sync_worker.compression import NotGzip, unpacker
from sync_worker.wording import counted

CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 60.0  # seconds; Langfuse allows its store 30 s, and a CDN in front of it up to 100 s
#: Default limit of one response, in decompressed bytes.
MAX_BYTES = 64 * 1024 * 1024

#: Seconds within which the headers must arrive; the minimum applies however close the retry deadline is.
_HEAD, _LEAST_HEAD = CONNECT_TIMEOUT + READ_TIMEOUT, 30.0
#: Seconds that a body may take however few bytes arrive; the minimum applies however close the retry deadline is.
_BODY, _LEAST_BODY = 30.0, 10.0
#: Bytes a second on the wire, in either direction, by which a deadline is extended: a bad telephone line passes.
_LEAST_RATE = 16 * 1024
#: Of an error response only the beginning is read, and not for long.
_ERROR_BYTES, _ERROR_SECONDS = 64 * 1024, 5.0
_PIECE = 256 * 1024  # bytes decompressed at once

_NO_STREAM = httpx.ByteStream(b"")

_Result = TypeVar("_Result")


class BadAnswer(httpx.HTTPError):
    """A response that cannot be used; the message says why."""


class TooLarge(BadAnswer):
    """A response exceeds the size limit."""


class TooSlow(BadAnswer):
    """A response was not complete in time, though some of it arrived."""


class NotUnpacked(BadAnswer):
    """A response cannot be decompressed, or has a content encoding that was not requested."""


class BrokenOff(NotUnpacked):
    """A response ended before its gzip stream did; the rest may have been valid."""


class BoundedClient(httpx.AsyncClient):
    """An `httpx.AsyncClient` whose responses are read completely, decompressed, within limits.

    `max_bytes` limits a decompressed response. `clock` cancels requests in flight when the run is asked to stop; None
    lets them finish. `left` returns the seconds until the retry deadline, None for no limit: timeouts end no later than
    that.
    """

    def __init__(
        self,
        *,
        max_bytes: int = MAX_BYTES,
        clock: Clock | None = None,
        left: Callable[[], float | None] = lambda: None,
        **options: Any,
    ) -> None:
        timeout = httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT)
        limits = httpx.Limits(max_connections=8, max_keepalive_connections=4)
        super().__init__(timeout=timeout, limits=limits, follow_redirects=False, **options)
        self.headers["Accept-Encoding"] = "gzip"  # the only encoding that is decoded here
        self._cookies = _Cookies()
        self._max_bytes = max_bytes
        self._clock = clock
        self._left = left

    async def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
        """Send a request, and return its response with the body decompressed.

        Raises Stopped, BadAnswer, `httpx.ReadTimeout` when nothing arrived in time, and what `httpx.AsyncClient`
        raises.
        """
        if self._clock is None:
            return await self._answer(request, options)
        return await unless_stopped(self._clock, self._answer(request, options))

    async def _answer(self, request: httpx.Request, options: dict[str, Any]) -> httpx.Response:
        head = self._within(_HEAD, _LEAST_HEAD) + len(request.content) / _LEAST_RATE
        try:
            async with asyncio.timeout(head):
                response = await super().send(request, stream=True, **options)
        except TimeoutError:
            raise httpx.ReadTimeout(f"no response within {head:.0f} s", request=request) from None
        try:
            content = await (self._body(response) if response.is_success else self._beginning(response))
        finally:
            await response.aclose()
            response.stream = _NO_STREAM  # which holds the response, and with it what was sent
        as_it_came = {b"content-encoding", b"content-length", b"transfer-encoding"}
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in as_it_came]
        return httpx.Response(response.status_code, headers=headers, content=content, request=request)

    def _within(self, seconds: float, least: float) -> float:
        left = self._left()
        return seconds if left is None else min(seconds, max(least, left))

    async def _body(self, response: httpx.Response) -> bytes:
        body, base = _Body(response, self._max_bytes), self._within(_BODY, _LEAST_BODY)
        try:
            await body.read(base)
        except TimeoutError:
            read = counted(body.received, "byte")
            raise TooSlow(f"the response is too slow: {read} in {body.seconds:.0f} s") from None
        if body.is_over:
            body.drop()  # the error that follows may be kept for long, and with it this frame
            unpacked = " when decompressed" if body.is_packed else ""
            raise TooLarge(f"the response is larger than {self._max_bytes:,} bytes{unpacked} (SYNC_MAX_RESPONSE_BYTES)")
        return body.content

    async def _beginning(self, response: httpx.Response) -> bytes:
        """Return as much of the body as arrives: the status, which matters, is known."""
        try:
            body = _Body(response, min(_ERROR_BYTES, self._max_bytes))
        except NotUnpacked:
            return b""
        try:
            await body.read(_ERROR_SECONDS)
        except (TimeoutError, httpx.HTTPError):
            return b""
        return body.content


class _Cookies(httpx.Cookies):
    """The cookies of a client; httpx reads a response for some by building a request of `urllib` each time."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Keep what a response sets."""
        if "Set-Cookie" in response.headers:
            super().extract_cookies(response)


class _Body:
    """The body of a response, as it arrives. Raises NotUnpacked for a content encoding that was not requested."""

    def __init__(self, response: httpx.Response, most: int) -> None:
        named = [name.strip().lower() for name in response.headers.get("Content-Encoding", "").split(",")]
        packings = [name for name in named if name not in {"", "identity"}]
        if any(name not in {"gzip", "x-gzip"} for name in packings) or len(packings) > 1:
            raise NotUnpacked("the response has a content encoding that was not requested")
        self.is_packed = bool(packings)
        self.received = 0  # bytes on the wire
        self.seconds = 0.0
        self.is_over = False
        self._response = response
        self._stream = cast("httpx.AsyncByteStream", response.stream)  # as on the wire, still compressed
        self._most = most
        self._unpacker = unpacker() if packings else None
        self._kept = io.BytesIO()

    @property
    def content(self) -> bytes:
        """What was kept, decompressed."""
        return self._kept.getvalue()

    def drop(self) -> None:
        """Discard what was kept."""
        self._kept = io.BytesIO()

    async def read(self, base: float) -> None:
        """Read to the end, or to the limit. Raises TimeoutError, NotUnpacked and what httpx raises."""
        declared = self._response.headers.get("Content-Length", "")
        if declared.isascii() and declared.isdigit() and int(declared) > self._most and self._response.is_success:
            self.is_over = True
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(base) as deadline:
                async for chunk in self._stream:
                    self.received += len(chunk)
                    deadline.reschedule(began + base + self.received / _LEAST_RATE)
                    self._keep(chunk)
                    if self.is_over:
                        return
        finally:
            self.seconds = loop.time() - began
        if self._unpacker is not None and self.received and not self._unpacker.eof:
            raise BrokenOff("the response ended early: its gzip is incomplete")

    def _keep(self, chunk: bytes) -> None:
        for piece in self._unpacked(chunk):
            room = self._most - self._kept.tell()
            self._kept.write(piece[:room])
            if len(piece) > room:
                self.is_over = True
                return
        self.is_over = self.received > self._most  # a compressed stream may continue after its end

    def _unpacked(self, chunk: bytes) -> Iterator[bytes]:
        if self._unpacker is None:
            yield chunk
            return
        while not self._unpacker.eof:
            try:
                piece = self._unpacker.decompress(chunk, _PIECE)
            except NotGzip:
                raise NotUnpacked("the response is not the gzip that it claims to be") from None
            yield piece
            chunk = self._unpacker.unconsumed_tail
            if not chunk and len(piece) < _PIECE:
                return


async def unless_stopped(clock: Clock, work: Awaitable[_Result]) -> _Result:
    """Await work; if the run is asked to stop first, cancel it and raise Stopped."""
    task = cast("asyncio.Task[Any]", asyncio.current_task())
    others = task.cancelling()
    is_stopped = False

    def cancel(_: asyncio.Future[None]) -> None:
        nonlocal is_stopped
        is_stopped = True
        task.cancel()

    stop = asyncio.ensure_future(clock.stopped())
    stop.add_done_callback(cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if not is_stopped or task.cancelling() > others + 1:  # somebody else cancels the task
            raise
        stop.result()
        raise Stopped("asked to stop") from None
    except Exception as error:
        if not is_stopped:
            raise
        raise Stopped("asked to stop") from error  # what a library made of the cancellation
    finally:
        stop.remove_done_callback(cancel)
        stop.cancel()
        if is_stopped:
            task.uncancel()
