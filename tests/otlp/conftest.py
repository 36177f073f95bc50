"""A client of Kelet and a delivery, connected to a receiver on the loopback address, in time that passes at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from sync_worker.backoff import Backoff
from sync_worker.clock import Clock
from sync_worker.demo.receiver import OtlpReceiver
from sync_worker.otlp.delivery import Delivery, Result
from sync_worker.otlp.target_client import Accepted, TargetClient
from sync_worker.spans.span_model import EncodedSpan, ObservationKey
from sync_worker.targets import PRESETS, Target, endpoint, key_headers
from tests.support import otlp
from tests.support.clock import VirtualClock

KEY = "sk-kelet-very-secret"
PROJECT = "proj"


def kelet_target(url: str) -> Target:
    """Return Kelet at an address, with the test's key."""
    preset = PRESETS["kelet"]
    return Target("kelet", endpoint(url, preset), preset, key_headers(KEY, preset))


async def send_all(delivery: Delivery, batches: Iterable[Sequence[EncodedSpan]]) -> set[ObservationKey]:
    """Send batches; return what is left undelivered."""
    async with delivery.sending() as sending:
        for batch in batches:
            await sending.submit(batch)
    return sending.undelivered


def encoded(
    name: str = "good",
    number: int = 1,
    *,
    trace: int = 1,
    project: str = PROJECT,
    resource: str = "svc",
    scope: str = "scope",
    attributes: Mapping[str, Any] | None = None,
) -> EncodedSpan:
    """Return a span as it goes out; its row is called by its trace and number."""
    made = otlp.span(name, id=number, trace=trace, **(attributes or {}))
    return EncodedSpan(
        key=ObservationKey(str(trace), str(number)),
        project=project,
        trace_id=made.trace_id.hex(),
        resource=Resource(attributes=otlp.pairs({"service.name": resource})).SerializeToString(),
        scope=InstrumentationScope(name=scope).SerializeToString(),
        span=made.SerializeToString(),
        start_ms=1,
        updated_ms=2,
        fingerprint=b"f",
    )


def spans(count: int, poison: Sequence[int] = (), *, trace: int = 1) -> list[EncodedSpan]:
    """Return a trace of so many spans, some of them called poison."""
    return [encoded("poison" if n in poison else "good", n + 1, trace=trace) for n in range(count)]


def numbers(of: Sequence[EncodedSpan]) -> list[int]:
    """Return where spans stood in `spans`."""
    return [int(one.key.observation) - 1 for one in of]


@dataclass
class Kept:
    """A sink that keeps results and refuses a second one of a span."""

    results: list[Result] = field(default_factory=list)
    keys: set[ObservationKey] = field(default_factory=set)
    remembered: str | None = None

    def remember(self, text: str) -> None:
        self.remembered = text

    def check(self) -> None:
        """Keep a result."""

    def commit(self, result: Result) -> None:
        keys = [one.key for one in result.accepted] + [one.span.key for one in result.rejected]
        assert len(set(keys)) == len(keys)
        assert self.keys.isdisjoint(keys)
        self.keys.update(keys)
        self.results.append(result)

    @property
    def accepted(self) -> list[EncodedSpan]:
        """Spans that were accepted, in order."""
        return [one for result in self.results for one in result.accepted]

    @property
    def rejected(self) -> list[EncodedSpan]:
        """Spans that were dead-lettered, in order."""
        return [one.span for result in self.results for one in result.rejected]

    @property
    def statuses(self) -> set[int | None]:
        """With which answers spans were dead-lettered."""
        return {one.status for result in self.results for one in result.rejected}


@dataclass
class Sending:
    """A delivery and all that belongs to it."""

    delivery: Delivery
    client: TargetClient
    kept: Kept
    clock: VirtualClock


class Direct:
    """What a delivery asks of a client, without HTTP: `answer` returns where it takes a request, and raises else."""

    target = kelet_target("http://kelet.invalid")

    def __init__(self, answer: Callable[[Sequence[EncodedSpan]], Awaitable[None]]) -> None:
        self.requests: list[list[EncodedSpan]] = []
        self._answer = answer

    async def post(self, batch: Sequence[EncodedSpan]) -> Accepted:
        self.requests.append(list(batch))
        await asyncio.sleep(0)
        await self._answer(batch)
        return Accepted()


def direct(client: Direct, clock: Clock, patience: float | None = 300.0) -> tuple[Delivery, Kept]:
    """Return a delivery by such a client, and what it settles."""
    kept = Kept()
    return Delivery(client, kept, backoff(clock, patience), clock), kept  # type: ignore[arg-type]


MakeClient = Callable[..., TargetClient]
Send = Callable[..., Sending]


@pytest.fixture
def kelet() -> Iterator[OtlpReceiver]:
    """A receiver of the test's own."""
    with OtlpReceiver(api_key=KEY) as server:
        yield server


@pytest.fixture
async def make_client(kelet: OtlpReceiver) -> AsyncIterator[MakeClient]:
    """Connect to the receiver, or to another address; all connections are closed after the test."""
    async with AsyncExitStack() as stack:

        def make(url: str | None = None, *, timeout: float = 5.0, **options: Any) -> TargetClient:
            transport = httpx.AsyncHTTPTransport(verify=False)  # reading certificates takes longer than most tests
            client = TargetClient(kelet_target(url or kelet.url), transport=transport, **options)
            client._http.timeout = httpx.Timeout(timeout)
            stack.push_async_callback(client.close)
            return client

        yield make


@pytest.fixture
def client(make_client: MakeClient) -> TargetClient:
    """A client that does not compress."""
    return make_client(compression="none")


@pytest.fixture
def send(make_client: MakeClient) -> Send:
    """Make a delivery to the receiver."""

    def make(
        *,
        patience: float | None = 300.0,
        rejected_before: int = 0,
        clock: VirtualClock | None = None,
        compression: str = "none",
        timeout: float = 5.0,
        **options: Any,
    ) -> Sending:
        clock = clock or VirtualClock()
        kept = Kept()
        client = make_client(compression=compression, timeout=timeout)
        delivery = Delivery(client, kept, backoff(clock, patience), clock, rejected_before=rejected_before, **options)
        return Sending(delivery, client, kept, clock)

    return make


def backoff(clock: Clock, patience: float | None = 300.0) -> Backoff:
    """Return a back-off against Kelet."""
    return Backoff("Kelet", clock, patience)
