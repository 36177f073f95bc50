"""Answers end: in size, in time, and when the run is asked to stop; whatever is at the other end."""

from __future__ import annotations

import asyncio
import functools
import gc
import gzip
import time
import weakref
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from sync_worker import bounded_client
from sync_worker.bounded_client import BoundedClient, NotUnpacked, TooLarge, TooSlow, unless_stopped
from sync_worker.clock import Stopped, SystemClock

Write = Callable[[asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
MEBIBYTE = 1024 * 1024


@asynccontextmanager
async def _served(write: Write, **options: Any) -> AsyncIterator[tuple[BoundedClient, str]]:
    """A server that reads the head of each request and then writes what it likes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await write(writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    client = BoundedClient(transport=httpx.AsyncHTTPTransport(verify=False), **options)
    try:
        yield client, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        await client.aclose()
        server.close()


def _sends(*parts: bytes, again: bytes = b"", every: float = 0.0) -> Write:
    """Write the parts, then one thing over and over, if there is one."""

    async def write(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
        while again:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(every)

    return write


def _sized(body: bytes, *headers: bytes) -> bytes:
    return OK + b"".join(header + b"\r\n" for header in headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body


@functools.cache
def _bomb() -> bytes:
    """Return 128 MiB of spaces, packed into an eighth of a MiB."""
    packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return b"".join(packer.compress(b" " * MEBIBYTE) for _ in range(128)) + packer.flush()


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that a test can wait for."""
    for name in ("_HEAD", "_LEAST_HEAD", "_BODY", "_LEAST_BODY", "_ERROR_SECONDS"):
        monkeypatch.setattr(bounded_client, name, 0.3)


@pytest.mark.parametrize("packed", [True, False])
async def test_answer_comes_as_it_was(*, packed: bool) -> None:
    """What is written over the limit or not, an answer within it must come byte for byte."""
    body = b"x" * MEBIBYTE + b"end"
    sent = _sized(gzip.compress(body), b"Content-Encoding: gzip") if packed else _sized(body)
    async with _served(_sends(sent), max_bytes=len(body)) as (client, url):
        answer = await client.get(url)
    assert answer.content == body
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.slow
@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda: _sends(_sized(_bomb(), b"Content-Encoding: gzip")), id="packed"),
        pytest.param(lambda: _sends(OK + b"\r\n", again=b" " * 65536), id="endless"),
        pytest.param(lambda: _sends(OK + b"Content-Length: 99999999999\r\n\r\n"), id="declared"),
        pytest.param(
            lambda: _sends(OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"{}"), again=b" " * 65536),
            id="endless behind its end",
        ),
    ],
)
async def test_answer_beyond_the_limit(write: Callable[[], Write]) -> None:
    """Memory would fill up with what one answer unpacks to."""
    async with _served(write(), max_bytes=MEBIBYTE) as (client, url):
        with pytest.raises(TooLarge, match="SYNC_MAX_RESPONSE_BYTES"):
            await client.get(url)


@pytest.mark.slow
async def test_a_packed_answer_never_unfolds_in_memory() -> None:
    """The limit would be looked at when the machine is out of memory already."""
    async with _served(_sends(_sized(_bomb(), b"Content-Encoding: gzip"))) as (client, url):
        pieces: list[int] = []
        whole = bounded_client._Body._unpacked

        def noted(body: bounded_client._Body, chunk: bytes) -> object:
            for piece in whole(body, chunk):
                pieces.append(len(piece))
                yield piece

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(bounded_client._Body, "_unpacked", noted)
            with pytest.raises(TooLarge):
                await client.get(url)
    assert max(pieces) <= bounded_client._PIECE
    assert sum(pieces) <= bounded_client.MAX_BYTES + bounded_client._PIECE


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("packed", [b"", b"Content-Encoding: gzip\r\n"])
async def test_trickle_ends(packed: bytes) -> None:
    """One byte every now and then keeps every timeout of a read from running out, and the run would never end."""
    async with _served(_sends(OK + packed + b"\r\n", again=b"\x1f" if not packed else b"", every=0.05)) as (
        client,
        url,
    ):
        with pytest.raises(TooSlow, match=r"the response is too slow: [\d,]+ bytes"):
            await client.get(url)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("again", [b"y", b"HTTP/1.1 102 Processing\r\n\r\n"])
async def test_head_that_never_ends(again: bytes) -> None:
    """A head that comes byte by byte, or interim answers without end, would hold the run for ever."""
    begun = b"HTTP/1.1 200 OK\r\nX: " if again == b"y" else b""
    async with _served(_sends(begun, again=again, every=0.0005)) as (client, url):
        with pytest.raises(httpx.ReadTimeout):
            await client.get(url)


@pytest.mark.usefixtures("brief")
async def test_slow_line_passes() -> None:
    """An honest line that is slow would never bring a page over, although all of it comes."""
    body = b"x" * bounded_client._LEAST_RATE

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: %d\r\n\r\n" % (len(body) * 8))
        for _ in range(8):
            writer.write(body)
            await writer.drain()
            await asyncio.sleep(0.1)  # in all more than twice what is allowed where nothing comes

    async with _served(write) as (client, url):
        assert (await client.get(url)).content == body * 8


@pytest.mark.parametrize("left", [0.0, 1.0, -5.0])
async def test_deadline_within_patience(left: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """`once` would be held for longer than SYNC_PATIENCE says by one answer that trickles."""
    monkeypatch.setattr(bounded_client, "_LEAST_BODY", 0.2)
    async with _served(_sends(OK + b"\r\n", again=b" ", every=0.05), left=lambda: left) as (client, url):
        with pytest.raises(TooSlow):
            await asyncio.wait_for(client.get(url), 60.0)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(_sized(b"no gzip at all", b"Content-Encoding: gzip"), id="no gzip"),
        pytest.param(_sized(gzip.compress(b"x" * 1000)[:-9], b"Content-Encoding: gzip"), id="cut"),
        pytest.param(_sized(b"\x0b\x02", b"Content-Encoding: br"), id="brotli"),
        pytest.param(_sized(gzip.compress(gzip.compress(b"{}")), b"Content-Encoding: gzip, gzip"), id="twice"),
    ],
)
async def test_packing_that_is_none(sent: bytes) -> None:
    """Half an answer, or bytes of another kind, would be taken for all of it."""
    async with _served(_sends(sent)) as (client, url):
        with pytest.raises(NotUnpacked):
            await client.get(url)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("again", [b" " * 65536, b" "])
@pytest.mark.parametrize("packing", [b"", b"Content-Encoding: gzip\r\n", b"Content-Encoding: br\r\n"])
async def test_status_counts_where_the_body_of_a_fault_has_no_end(again: bytes, packing: bytes) -> None:
    """What the server said with its status would be lost with the page that its gateway puts behind it."""
    head = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\n" + packing + b"\r\n"
    async with _served(_sends(head, again=again, every=0.01)) as (client, url):
        answer = await client.get(url)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert len(answer.content) <= bounded_client._ERROR_BYTES


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(_sends(b"", again=b"", every=0.0), id="silent"),
        pytest.param(_sends(OK + b"\r\n", again=b" ", every=0.05), id="trickle"),
        pytest.param(_sends(OK + b"\r\n", again=b" " * 64, every=0.001), id="stream"),
        pytest.param(_sends(b"HTTP/1.1 200 OK\r\nX: ", again=b"y", every=0.05), id="head"),
    ],
)
async def test_stop_ends_a_request(write: Write) -> None:
    """SIGTERM would wait for an answer that is long in coming, and Kubernetes would kill the worker meanwhile."""
    clock = SystemClock()
    async with _served(write, clock=clock) as (client, url):
        asking = asyncio.create_task(client.get(url))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        clock.stop()
        with pytest.raises(Stopped):
            await asking
        assert time.monotonic() - began < 30.0  # no more than a machine under load takes, and less than any deadline


async def test_stop_leaves_the_task_as_it_was() -> None:
    """After a stop, a deadline around the request takes its own end for a cancellation by others, or the reverse."""
    clock = SystemClock()
    asyncio.get_running_loop().call_soon(clock.stop)
    with pytest.raises(Stopped):
        await unless_stopped(clock, asyncio.sleep(60))
    assert (_task().cancelling(), await unless_stopped(SystemClock(), _soon("done"))) == (0, "done")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await unless_stopped(SystemClock(), asyncio.sleep(60))


async def test_what_a_library_makes_of_the_stop_is_the_stop() -> None:
    """A stop in the middle of a request would be logged as an error of the server, and tried again."""
    clock = SystemClock()
    asyncio.get_running_loop().call_soon(clock.stop)
    with pytest.raises(Stopped):
        await unless_stopped(clock, _breaks_off())
    assert _task().cancelling() == 0


async def test_cancellation_is_no_stop() -> None:
    """A request that others cancel, as the end of the loop does, looks like the end of the run, or goes on."""
    for is_stopped_too in (False, True):
        clock = SystemClock()
        asking = asyncio.create_task(unless_stopped(clock, asyncio.sleep(60)))
        await _soon("begun")
        asking.cancel()
        if is_stopped_too:
            clock.stop()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_answer_that_comes_with_the_stop_counts() -> None:
    """What was sent and answered is asked for again by the next run."""
    clock = SystemClock()
    clock.stop()
    assert await unless_stopped(clock, _at_once("answer")) == "answer"


async def test_error_of_a_request_is_its_own() -> None:
    """An error is lost, or leaves a task behind that waits for the stop."""
    before = asyncio.all_tasks()
    with pytest.raises(httpx.ReadError):
        await unless_stopped(SystemClock(), _fails())
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


def _task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def _at_once(result: str) -> str:
    return result


async def _soon(result: str) -> str:
    await asyncio.sleep(0)
    return result


async def _fails() -> None:
    await asyncio.sleep(0)
    raise httpx.ReadError("broken off")


async def test_answer_leaves_nothing_behind() -> None:
    """What was sent would stay in memory until Python looks for garbage, which it seldom does."""
    async with _served(_sends(_sized(b"{}"))) as (client, url):
        gc.disable()
        try:
            answer = await client.post(url, content=b"x" * MEBIBYTE)
            sent = weakref.ref(answer.request)
            del answer
            assert sent() is None
        finally:
            gc.enable()


async def _breaks_off() -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise httpx.ReadError("broken off") from None
