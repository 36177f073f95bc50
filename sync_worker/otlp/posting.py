"""Sends a request until it is answered, with backoff between retries; several at once, one while none passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import TypeVar, cast

from sync_worker.backoff import Backoff
from sync_worker.clock import Clock, Stopped, first_of
from sync_worker.errors import TransientError
from sync_worker.otlp.request_size import RequestSize, size_of
from sync_worker.otlp.target_client import Accepted, Rejected, RequestFailed, TargetClient
from sync_worker.spans.span_model import EncodedSpan

MAX_IN_FLIGHT = 4  # requests
#: Failures of a request before it is halved, or left pending.
_TRIES = 2
#: How long a request in flight may go on when the run is asked to stop.
STOP_GRACE = 10.0  # seconds
_TOO_LARGE = 413


_T = TypeVar("_T")


class FailedTwice(Exception):
    """A request failed twice. `after`: how many requests had been accepted before it first did."""

    def __init__(self, error: RequestFailed, after: int) -> None:
        super().__init__(str(error))
        self.status = error.status
        self.after = after


class LimitLowered(Exception):
    """The size limit fell below a request while it waited."""


class Poster:
    """Sends requests of one source. `accepted` counts those that were, `in_flight` those that wait for their answer.

    `remember` is called when the state of the size search has changed, `guard` before each request: it raises
    where the answer could not be kept.
    """

    def __init__(
        self,
        client: TargetClient,
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
        self._response = asyncio.Event()  # set at the next answer, which makes a new one
        self._probe = asyncio.Lock()  # held by the one request of a search in which nothing passes
        self._searching = False

    async def next_response(self) -> None:
        """Wait for the next answer to anyone."""
        await self._response.wait()

    async def post(self, part: Sequence[EncodedSpan], ending: asyncio.Event) -> Accepted:
        """Send a part until it is answered; `ending` ends the waits.

        Raises Rejected, FailedTwice when it failed twice, LimitLowered, and as `TargetClient.post`.
        """
        failures, after = 0, 0
        while True:
            async with self._probe_slot(ending) if self._searching else nullcontext():
                if not failures and len(self.size.first_fitting(part)) < len(part):
                    raise LimitLowered
                try:
                    accepted = await self._in_a_slot(part, ending)
                except RequestFailed as error:
                    after = after if failures else self.accepted
                    failures = _TRIES if self.size.failed_before(size_of(part)) else failures + 1
                    self._record_failure(part, failures)  # before the wait, which may end the run
                    await self._wait_for_retry(error, ending)
                    if failures >= _TRIES:
                        raise FailedTwice(error, after) from error
                except TransientError as error:
                    await self._wait_for_retry(error, ending)
                except Rejected as refusal:
                    self._record_response(part, fits=refusal.status != _TOO_LARGE)
                    raise
                else:
                    self.accepted += 1
                    self._record_response(part, fits=True)
                    return accepted

    def _record_failure(self, part: Sequence[EncodedSpan], failures: int) -> None:
        """Record a failure of a part: its first, or its last."""
        if failures < _TRIES:
            self.size.record_first_failure(size_of(part))
        elif len(part) > 1:
            self._searching = True
            self.size.record_failure(size_of(part))
        else:
            self.size.record_first_failure(None)
        self._remember()

    def _record_response(self, part: Sequence[EncodedSpan], *, fits: bool) -> None:
        """Record a response about a request itself: the server is up."""
        self._backoff.success()
        self._searching = False
        if fits:
            self.size.record_success(size_of(part))

    @asynccontextmanager
    async def _probe_slot(self, ending: asyncio.Event) -> AsyncIterator[None]:
        """Wait for the one place that requests have, waits included, during a search in which nothing passes."""
        async with self._probe:
            if ending.is_set():
                raise TransientError("a request waited for its turn, and the run ends")
            yield

    async def _in_a_slot(self, part: Sequence[EncodedSpan], ending: asyncio.Event) -> Accepted:
        """Send a request once, in its turn; a run that is asked to stop leaves it some seconds."""
        async with self._slots:
            if not self._backoff.is_ready:
                asked = TransientError(f"{self._client.target.title} asked to wait, and the run ends")
                await _wait_unless_ending(ending, self._backoff.ready(), asked)
            self._clock.check()
            self._guard()
            self.in_flight += 1
            post = self._client.post(part)
            try:
                return await until_stopped(post, self._clock, self._grace, self._client.target.title)
            finally:
                self.in_flight -= 1
                self._response.set()
                self._response = asyncio.Event()

    async def _wait_for_retry(self, error: TransientError, ending: asyncio.Event) -> None:
        """Wait before the next request. Raises the error where the run ends, Stopped where it is asked to."""
        self._clock.check()
        if ending.is_set():
            raise error
        await _wait_unless_ending(ending, self._backoff.wait(error), error)


async def until_stopped(post: Coroutine[None, None, _T], clock: Clock, grace: float, title: str) -> _T:
    """Await a request; once the run is asked to stop, for at most so many seconds more. Raises Stopped then."""
    async with first_of(post, clock.stopped()) as (posting, _):
        if not posting.done():
            await asyncio.wait({posting}, timeout=grace)
        if not posting.done():
            raise Stopped(f"asked to stop, and {title} did not answer within {grace:.0f} s")
        return cast("_T", posting.result())


async def _wait_unless_ending(ending: asyncio.Event, wait: Coroutine[None, None, None], error: TransientError) -> None:
    """Wait, but raise the error as soon as the run ends."""
    async with first_of(wait, ending.wait()) as (waiting, _):
        if not waiting.done():
            raise error
        waiting.result()
