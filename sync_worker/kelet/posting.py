"""Sends a request until it is answered, waiting between tries; several at once, one at a time while none passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager

from sync_worker.backoff import Backoff
from sync_worker.clock import Clock, Stopped
from sync_worker.errors import TransientError
from sync_worker.kelet.client import Accepted, Failed, KeletClient, Refused
from sync_worker.kelet.request_size import RequestSize, size_of
from sync_worker.spans.model import EncodedSpan

MAX_IN_FLIGHT = 4  # requests
#: So often may a request fail before it is halved, or held.
_TRIES = 2
#: How long a request in flight may go on when the run is asked to stop.
GRACE = 10.0  # seconds
_TOO_LARGE = 413


class Overtaxed(Exception):
    """A request failed twice. `after`: how many requests had been accepted before it first did."""

    def __init__(self, fault: Failed, after: int) -> None:
        super().__init__(str(fault))
        self.status = fault.status
        self.after = after


class TooLargeNow(Exception):
    """A request waited for its turn, and was found too large meanwhile."""


class Poster:
    """Sends requests of one source. `accepted` counts those that were, `in_flight` those that wait for their answer.

    `remember` is called when something was found of a size that does not pass, `guard` before each request: it raises
    where the answer could not be kept.
    """

    def __init__(
        self,
        client: KeletClient,
        backoff: Backoff,
        clock: Clock,
        size: RequestSize,
        remember: Callable[[], None],
        guard: Callable[[], None],
        grace: float,
    ) -> None:
        self.size = size
        self.accepted = 0
        self.in_flight = 0
        self._client = client
        self._backoff = backoff
        self._clock = clock
        self._remember = remember
        self._guard = guard
        self._grace = grace
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._answer = asyncio.Event()  # set at the next answer, which makes a new one
        self._probe = asyncio.Lock()  # held by the one request of a search in which nothing passes
        self._searching = False

    async def answer(self) -> None:
        """Wait for the next answer to anyone."""
        await self._answer.wait()

    async def post(self, piece: Sequence[EncodedSpan], ending: asyncio.Event) -> Accepted:
        """Send a piece until it is answered; `ending` ends the waits.

        Raises Refused, Overtaxed when it failed twice, TooLargeNow, and as `KeletClient.post`.
        """
        failures, after = 0, 0
        while True:
            async with self._turn(ending):
                if not failures and len(self.size.head(piece)) < len(piece):
                    raise TooLargeNow
                try:
                    accepted = await self._in_a_slot(piece, ending)
                except Failed as fault:
                    after = after if failures else self.accepted
                    failures = _TRIES if self.size.struck(size_of(piece)) else failures + 1
                    self._failed(piece, failures)  # before the wait, which may end the run
                    await self._pace(fault, ending)
                    if failures >= _TRIES:
                        raise Overtaxed(fault, after) from fault
                except TransientError as fault:
                    await self._pace(fault, ending)
                except Refused as refusal:
                    self._answered(piece, fits=refusal.status != _TOO_LARGE)
                    raise
                else:
                    self.accepted += 1
                    self._answered(piece, fits=True)
                    return accepted

    def _failed(self, piece: Sequence[EncodedSpan], failures: int) -> None:
        """Note that a piece failed for so many times."""
        if failures < _TRIES:
            self.size.strike(size_of(piece))
        elif len(piece) > 1:
            self._searching = True
            self.size.failed(size_of(piece))
        else:
            self.size.strike(None)
        self._remember()

    def _answered(self, piece: Sequence[EncodedSpan], *, fits: bool) -> None:
        """Note that the other side is there and spoke of what is in a request, or of its size."""
        self._backoff.success()
        self._searching = False
        if fits:
            self.size.passed(size_of(piece))

    @asynccontextmanager
    async def _turn(self, ending: asyncio.Event) -> AsyncIterator[None]:
        """Wait for the one place that requests have, waits included, during a search in which nothing passes."""
        if not self._searching:
            yield
            return
        async with self._probe:
            if ending.is_set():
                raise TransientError("a request waited for its turn, and the run ends")
            yield

    async def _in_a_slot(self, piece: Sequence[EncodedSpan], ending: asyncio.Event) -> Accepted:
        async with self._slots:
            await _unless(ending, self._backoff.ready(), TransientError("Kelet asked to wait, and the run ends"))
            return await self._once(piece)

    async def _pace(self, fault: TransientError, ending: asyncio.Event) -> None:
        """Wait before the next request. Raises the fault where the run ends, Stopped where it is asked to."""
        self._clock.check()
        if ending.is_set():
            raise fault
        await _unless(ending, self._backoff.wait(fault), fault)

    async def _once(self, piece: Sequence[EncodedSpan]) -> Accepted:
        """Send a request once; when the run is asked to stop meanwhile it has some seconds left."""
        self._clock.check()
        self._guard()
        self.in_flight += 1
        try:
            return await until_stopped(self._client.post(piece), self._clock, self._grace)
        finally:
            self.in_flight -= 1
            self._answer.set()
            self._answer = asyncio.Event()


async def until_stopped(post: Coroutine[None, None, Accepted], clock: Clock, grace: float) -> Accepted:
    """Await a request; once the run is asked to stop, for at most so many seconds more. Raises Stopped then."""
    posting, stopped = asyncio.ensure_future(post), asyncio.ensure_future(clock.stopped())
    try:
        await asyncio.wait({posting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not posting.done():
            await asyncio.wait({posting}, timeout=grace)
        if not posting.done():
            raise Stopped(f"asked to stop, and Kelet did not answer within {grace:.0f} s")
        return posting.result()
    finally:
        stopped.cancel()
        posting.cancel()
        await asyncio.gather(posting, stopped, return_exceptions=True)


async def _unless(ending: asyncio.Event, wait: Coroutine[None, None, None], fault: TransientError) -> None:
    """Wait, but raise the fault as soon as the run ends."""
    waiting, end = asyncio.ensure_future(wait), asyncio.ensure_future(ending.wait())
    try:
        await asyncio.wait({waiting, end}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise fault
        waiting.result()
    finally:
        waiting.cancel()
        end.cancel()
