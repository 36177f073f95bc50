"""How hard a self-hosted server is pressed."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from sync_worker.clock import Stopped
from sync_worker.demo.serving import Reply, Request
from sync_worker.errors import TransientError
from sync_worker.langfuse.concurrency import MOST_AT_ONCE, ConcurrencyLimit, ConcurrencyLimits
from sync_worker.langfuse.langfuse_client import LangfuseClient
from tests.langfuse.conftest import ALWAYS, ConnectV1, walk
from tests.langfuse.v1_worlds import keys, keys_of, steady, unreadable
from tests.support import faults
from tests.support.clock import VirtualClock
from tests.support.langfuse_v1 import LangfuseV1


class Server:
    """Stands for a server: how many requests are under way, and how long each takes by the virtual clock."""

    def __init__(self, concurrency: ConcurrencyLimit, clock: VirtualClock, seconds: float = 0.1) -> None:
        self.concurrency, self.clock, self.seconds = concurrency, clock, seconds
        self.under_way = self.most = 0

    async def request(self, *, failed: bool = False, seconds: float | None = None) -> None:
        await self.concurrency.acquire()
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        took = self.seconds if seconds is None else seconds
        self.clock.advance(took)
        self.under_way -= 1
        self.concurrency.release(took, failed=failed)


async def many(server: Server, count: int) -> None:
    await asyncio.gather(*(server.request() for _ in range(count)))


async def test_no_more_at_once_than_may_be() -> None:
    """Many sources on one server press it together."""
    clock = VirtualClock()
    server = Server(ConcurrencyLimit(clock), clock)
    await many(server, 40)
    assert server.most == MOST_AT_ONCE == 2


async def test_cloud_is_not_held_back() -> None:
    """Langfuse Cloud, which has limits of its own, is read by two requests at a time."""
    clock = VirtualClock()
    server = Server(ConcurrencyLimit(clock, None), clock)
    await many(server, 40)
    assert server.most == 40


async def test_slow_answer_makes_it_one_at_a_time() -> None:
    """A server that gets slow is pressed as before."""
    clock = VirtualClock()
    concurrency = ConcurrencyLimit(clock)
    server = Server(concurrency, clock, 0.5)
    await many(server, 10)
    await server.request(seconds=6.0)
    server.most = 0
    began = clock.monotonic()
    await many(server, 4)
    assert server.most == 1
    assert clock.monotonic() - began >= 3.0 + 4 * 0.5  # a rest of half of what the slow answer took
    await many(server, 40)
    assert server.most == MOST_AT_ONCE


async def test_each_slow_answer_is_rested_from_until_sixteen_at_the_usual_speed() -> None:
    """A short rest is left out, one slow answer makes all that follow usual, or a server is pressed again too soon."""
    clock = VirtualClock()
    concurrency = ConcurrencyLimit(clock)
    server = Server(concurrency, clock, 0.2)
    await many(server, 10)
    for _ in range(2):
        await server.request(seconds=1.2)
    for _ in range(15):
        await server.request()
    assert clock.waits == pytest.approx([0.6, 0.6])
    assert concurrency.at_once == 1
    await server.request()
    assert concurrency.at_once == MOST_AT_ONCE


async def test_server_that_gets_slower_and_slower_is_seen() -> None:
    """What is usual follows a server that breaks down by and by, so that nothing ever is slow."""
    clock = VirtualClock()
    concurrency = ConcurrencyLimit(clock)
    server = Server(concurrency, clock)
    for turn in range(60):
        await server.request(seconds=0.5 * 1.08**turn)
    assert concurrency.at_once == 1
    assert sum(clock.waits) > 20


async def test_quick_answers_are_never_slow() -> None:
    """An answer of a tenth of a second, after some of a hundredth, makes the worker rest."""
    clock = VirtualClock()
    concurrency = ConcurrencyLimit(clock)
    server = Server(concurrency, clock, 0.01)
    await many(server, 20)
    for _ in range(20):
        await server.request(seconds=0.9)
    assert concurrency.at_once == MOST_AT_ONCE
    assert clock.waits == []


async def test_circuit_opens_tries_one_by_one_and_closes() -> None:
    """A server that is down gets as many requests as one that is well."""
    clock = VirtualClock()
    concurrency = ConcurrencyLimit(clock)
    server = Server(concurrency, clock, 0.0)
    for _ in range(9):
        await server.request(failed=True)
    assert clock.waits == []
    for _ in range(8):
        await server.request(failed=True)
    assert concurrency.is_open
    assert clock.waits == [15.0, 30.0, 60.0, 120.0, 240.0, 240.0, 240.0]
    server.most = 0
    began = clock.monotonic()
    await server.request()
    assert clock.monotonic() - began == 240.0
    await many(server, 10)
    assert clock.monotonic() - began == 240.0
    assert server.most == MOST_AT_ONCE
    for _ in range(10):
        await server.request(failed=True)
    await server.request(failed=True)
    assert clock.waits[-1] == 15.0


async def test_open_circuit_lets_one_through() -> None:
    """While it is tried whether a server is back, all that wait rush in together."""
    clock = VirtualClock()
    concurrency = ConcurrencyLimit(clock)
    server = Server(concurrency, clock)
    for _ in range(10):
        await server.request(failed=True)
    server.most = 0
    await asyncio.gather(*(server.request(failed=True) for _ in range(5)))
    assert server.most == 1


async def test_one_good_answer_forgets_faults() -> None:
    """Single faults on a long day add up to an outage."""
    clock = VirtualClock()
    concurrency = ConcurrencyLimit(clock)
    server = Server(concurrency, clock)
    for _ in range(50):
        await server.request(failed=True)
        await server.request()
    assert (concurrency.is_open, clock.waits) == (False, [])


async def test_stop_ends_a_rest() -> None:
    """A run that is asked to stop sits out the rest of a server."""
    clock = VirtualClock()
    concurrency = ConcurrencyLimit(clock)
    server = Server(concurrency, clock)
    for _ in range(10):
        await server.request(failed=True)
    clock.stop()
    with pytest.raises(Stopped):
        await concurrency.acquire()


def test_one_pace_a_server() -> None:
    """Each source of a server presses it as if it were alone, or all of Cloud is one server that is held back."""
    paces = ConcurrencyLimits(VirtualClock())
    assert paces.of("https://langfuse.example.com") is paces.of("https://langfuse.example.com")
    assert paces.of("https://langfuse.example.com") is not paces.of("https://other.example.com")
    assert paces.of("http://127.0.0.1:3000").at_once == MOST_AT_ONCE
    for cloud in ("https://cloud.langfuse.com", "https://us.cloud.langfuse.com", "https://langfuse.com"):
        assert paces.of(cloud).at_once == 0
    assert paces.of("https://langfuse.com.example.org").at_once == MOST_AT_ONCE
    assert paces.of("https://mylangfuse.com").at_once == MOST_AT_ONCE


async def _ask(client: LangfuseClient) -> None:
    await client.attempt("/api/public/health", {})


async def test_client_reports_what_failed(connect_v1: ConnectV1) -> None:
    """A refusal opens the circuit as if the server were down, or a dropped connection does not."""
    made = connect_v1(LangfuseV1(), concurrency=True)
    concurrency = made.client._concurrency
    assert isinstance(concurrency, ConcurrencyLimit)
    for reply in (faults.status(404), faults.status(401), faults.rate_limited(), faults.query_timed_out()):
        made.server.script = faults.always(reply)
        for _ in range(12):
            with pytest.raises(Exception, match=str(reply.status) if reply.status != 429 else "limit"):
                await _ask(made.client)
            made.clock.advance(100)
        assert not concurrency.is_open, reply.status
    for reply in (faults.status(500), faults.status(503), faults.drop()):
        made.server.script = faults.always(reply)
        for _ in range(10):
            with pytest.raises(TransientError):
                await _ask(made.client)
        assert concurrency.is_open, reply
        made.server.script = None
        await _ask(made.client)
        assert not concurrency.is_open


async def test_requests_of_a_client_keep_to_the_limit(connect_v1: ConnectV1) -> None:
    """A server of one's own is asked for as much at once as there are readers."""
    made, active = connect_v1(LangfuseV1(), concurrency=True), [0, 0]

    async def answer(_: httpx.Request) -> httpx.Response:
        active[0] += 1
        active[1] = max(active)  # the most so far
        await asyncio.sleep(0.001)
        active[0] -= 1
        return httpx.Response(200, json={})

    made.client.http._transport = httpx.MockTransport(answer)
    await asyncio.gather(*(made.client.attempt("/api/public/health", {}) for _ in range(3 * MOST_AT_ONCE)))
    assert active == [0, MOST_AT_ONCE]


async def test_walk_slows_down_with_the_server(connect_v1: ConnectV1) -> None:
    """A walk over a server that is overloaded keeps it overloaded, or never ends."""
    traces, observations = steady(2000)
    server = LangfuseV1(traces, observations)
    turns = iter(range(1000))
    made = connect_v1(server, concurrency=True, seconds=lambda _: 8.0 if next(turns) % 12 == 5 else 0.2)
    assert set(keys(await walk(made.reader.interval(ALWAYS)))) == keys_of(traces, observations)
    assert sum(made.clock.waits) >= 4.0


async def test_walk_outlives_an_open_circuit(connect_v1: ConnectV1) -> None:
    """An outage of some minutes, with the circuit open, loses rows or sets them aside."""
    traces, observations = steady(1500)
    server = LangfuseV1(traces, observations)
    made = connect_v1(server, concurrency=True, patience=None, seconds=0.2)
    began = made.clock.monotonic()

    def script(_: Request) -> Reply | None:
        return faults.status(502) if 1.0 < made.clock.monotonic() - began < 900.0 else None

    server.script = script
    pages = await walk(made.reader.interval(ALWAYS))
    assert set(keys(pages)) == keys_of(traces, observations)
    assert unreadable(pages) == []
    assert made.asked < 100
