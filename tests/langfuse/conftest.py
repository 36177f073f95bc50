"""A reader of Langfuse, connected to a server on the loopback address, in time that passes at once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import httpx
import pytest

from sync_worker.backoff import Backoff
from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.demo.serving import Request
from sync_worker.intervals import Interval
from sync_worker.langfuse.buckets import Buckets
from sync_worker.langfuse.concurrency import ConcurrencyLimit
from sync_worker.langfuse.langfuse_client import LangfuseClient
from sync_worker.langfuse.listing import OBSERVATIONS, TRACES
from sync_worker.langfuse.page_size import PageSize
from sync_worker.langfuse.rate_limiter import Quota
from sync_worker.langfuse.reader import Page
from sync_worker.langfuse.v1 import V1Reader
from sync_worker.langfuse.v2 import V2Reader
from sync_worker.times import unix_ms
from tests.support.clock import VirtualClock
from tests.support.langfuse_v1 import LangfuseV1
from tests.support.rows import Row, at, row

PUBLIC_KEY = "pk-lf-demo"
SECRET_KEY = "sk-lf-demo"
PATIENCE = 300.0

#: An interval of time that holds every row, made up or recorded.
ALWAYS = Interval(unix_ms("2024-01-01T00:00:00Z") or 0, unix_ms("2027-01-01T00:00:00Z") or 0)


@dataclass
class Connected:
    """A client and all that belongs to it."""

    client: LangfuseClient
    reader: V2Reader
    clock: VirtualClock
    sent: list[httpx.URL]

    @property
    def limits(self) -> list[int]:
        """How many rows each request asked for."""
        return [int(url.params["limit"]) for url in self.sent if "limit" in url.params]


Connect = Callable[..., Connected]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connect to an address; all connections are closed after the test."""
    async with AsyncExitStack() as stack:

        def make(url: str, *, patience: float | None = PATIENCE, timeout: float = 5.0, **options: Any) -> Connected:
            clock = VirtualClock()
            client = LangfuseClient(
                url,
                PUBLIC_KEY,
                SECRET_KEY,
                rate_limits=Buckets(clock, Quota(None, Fraction(4, 5))),
                backoff=Backoff("Langfuse", clock, patience),
                clock=clock,
                transport=httpx.AsyncHTTPTransport(verify=False),  # reading certificates takes longer than most tests
                **options,
            )
            stack.push_async_callback(client.close)
            sent: list[httpx.URL] = []

            async def note(request: httpx.Request) -> None:
                sent.append(request.url)

            client.http.event_hooks = {"request": [note]}
            client.http.timeout = httpx.Timeout(timeout)
            return Connected(client, V2Reader(client), clock, sent)

        yield make


@pytest.fixture(scope="session")
def one_server() -> Iterator[RecordedLangfuse]:
    """The server that all tests use, one after the other."""
    with RecordedLangfuse() as made:
        yield made


@pytest.fixture
def server(one_server: RecordedLangfuse) -> RecordedLangfuse:
    """A server without rows, that remembers nothing of the tests before, nor hears of them any more."""
    until = time.monotonic() + 5.0
    while one_server._http._open and time.monotonic() < until:
        time.sleep(0.001)  # a request that its sender gave up may still be on its way
    one_server.script = None
    one_server.rows.clear()
    one_server.requests = []
    return one_server


@pytest.fixture
def langfuse(server: RecordedLangfuse, connect: Connect) -> Connected:
    """A connection to that server."""
    return connect(server.url)


def some_rows(count: int) -> list[Row]:
    """Return rows that start one second apart."""
    return [row(start=float(number), input="in", output="out", name=f"row {number}") for number in range(count)]


async def walk(pages: AsyncIterator[Page], into: list[Page] | None = None) -> list[Page]:
    """Return all pages of a walk, or put them into a list that outlives an error."""
    kept: list[Page] = [] if into is None else into
    async for page in pages:
        kept.append(page)
    return kept


def ids(pages: list[Page]) -> list[str]:
    """Return the ids of all rows in the order of arrival."""
    return [item.id for page in pages for item in page.observations]


def unreadable_ids(pages: list[Page]) -> list[str | None]:
    """Return the ids of all rows that were dead-lettered."""
    return [item.observation_id for page in pages for item in page.unreadable]


def newest_first(rows: list[Row]) -> list[str]:
    """Return the ids of rows that start at different times, as Langfuse lists them."""
    return [item["id"] for item in sorted(rows, key=lambda item: str(item["startTime"]), reverse=True)]


def moment(seconds: float) -> int:
    """Return a time after noon in Unix milliseconds."""
    return unix_ms(at(seconds)) or 0


@dataclass
class ConnectedV1:
    """A client of a simulated v1 server and all that belongs to it."""

    client: LangfuseClient
    reader: V1Reader
    clock: VirtualClock
    server: LangfuseV1

    @property
    def asked(self) -> int:
        """How many requests the server was asked."""
        return len(self.server.requests)


ConnectV1 = Callable[..., ConnectedV1]


@pytest.fixture
async def connect_v1() -> AsyncIterator[ConnectV1]:
    """Connect to a simulated v1 server without a socket; rows a page may be bounded by `limit`."""
    async with AsyncExitStack() as stack:

        def make(
            server: LangfuseV1,
            *,
            limit: int | None = None,
            patience: float | None = PATIENCE,
            concurrency: bool = False,
            seconds: float | Callable[[Request], float] = 0.0,
        ) -> ConnectedV1:
            clock = VirtualClock()
            client = LangfuseClient(
                "http://langfuse.test",
                PUBLIC_KEY,
                SECRET_KEY,
                rate_limits=Buckets(clock, Quota(None, Fraction(4, 5))),
                backoff=Backoff("Langfuse", clock, patience),
                clock=clock,
                concurrency=ConcurrencyLimit(clock) if concurrency else None,
                transport=server.transport(clock, seconds),
            )
            stack.push_async_callback(client.close)
            stack.callback(server.stop)
            server.now = lambda: clock.now_ms() / 1000
            limits = {} if limit is None else {OBSERVATIONS.path: limit, TRACES.path: limit}
            reader = V1Reader(client, limits, server.version)
            for walk_of in () if limit is None else (reader._observations, reader._traces):
                walk_of.paging.size = PageSize(limit or 1, limit or 1)
            return ConnectedV1(client, reader, clock, server)

        yield make
