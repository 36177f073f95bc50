"""Delivers batches until each of their spans is accepted or set aside, and tells at once what each answer settled.

    2xx                      accepted; what a partial success rejected is one note, since which spans is not known
    408, 429, 5xx, network   tried again, after what Retry-After says or a growing pause
    400, 422                 the batch is halved until the guilty span stands alone: it is set aside
    413                      the batch is halved; a span alone has its texts cut, then is set aside
    401, 403, 404, 3xx, …    nothing is settled: the source pauses

Eight single spans refused one after the other, with nothing accepted in between, may be no eight poison spans:
something may be wrong with all of them. So what is left of the batch is tried here and there, and what else is in
flight is awaited. When nothing was accepted since the batch was first refused, the source pauses, and none of the
eight is marked; else they are what they seem.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sync_worker.backoff import Backoff
from sync_worker.clock import Clock
from sync_worker.errors import SourcePaused, TransientError
from sync_worker.kelet.client import Accepted, KeletClient, Refused
from sync_worker.spans.encode import shrink
from sync_worker.spans.model import EncodedSpan

MAX_IN_FLIGHT = 4  # requests
MAX_REFUSED_IN_A_ROW = 8  # single spans, with nothing accepted in between

#: Of what is left of a batch, so many single spans are tried before all of Kelet's refusals are doubted.
_PROBES = 24

#: To how many bytes the texts of a span are cut that is too large even alone, one after the other.
_CUTS = (65_536, 8_192, 1_024)


@dataclass(frozen=True, slots=True)
class RefusedSpan:
    """A span that Kelet refused for what it is."""

    span: EncodedSpan
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What an answer settled."""

    accepted: Sequence[EncodedSpan] = ()
    refused: Sequence[RefusedSpan] = ()
    rejected: int = 0  # spans among the accepted that a partial success rejected
    rejected_reason: str = ""


class Sink(Protocol):
    """Hears what is settled; it must be durable when `settle` returns."""

    def check(self) -> None:
        """Raise where what is settled next could not be kept: nothing is sent then."""

    def settle(self, settled: Settled) -> None:
        """Keep what an answer settled."""


@dataclass(slots=True)
class _Streak:
    """Single refusals since the last acceptance, not yet settled."""

    before: int = 0  # from earlier runs
    pending: list[RefusedSpan] = field(default_factory=list)

    @property
    def length(self) -> int:
        return self.before + len(self.pending)


@dataclass(slots=True)
class _Batch:
    """A batch under way: what of it is still to be sent, last piece first."""

    pieces: list[list[EncodedSpan]]
    ending: asyncio.Event  # set when the run ends with an error: waits end, and nothing is tried again
    accepted_before: int | None = None  # how many requests were accepted by anyone before this batch was first refused


class Delivery:
    """Sends the batches of one source; several at once, each until it is settled."""

    def __init__(
        self, client: KeletClient, sink: Sink, backoff: Backoff, clock: Clock, *, refused_before: int = 0
    ) -> None:
        self._client = client
        self._sink = sink
        self._backoff = backoff
        self._clock = clock
        self._streak = _Streak(refused_before)
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._in_flight = 0
        self._accepted_requests = 0
        self._answer = asyncio.Event()  # set at the next answer, which makes a new one

    @property
    def refused_in_a_row(self) -> int:
        """Single refusals since the last acceptance, to be remembered for the next run."""
        return self._streak.length

    async def send_all(self, batches: Iterable[Sequence[EncodedSpan]]) -> None:
        """Send batches, at most four at once, and return when all are settled.

        Batches are taken from the iterable only when one may go out. On an error, and when the run is asked to stop,
        what is in flight is finished first. Raises Stopped, SourcePaused, CredentialsRefused or TransientError.
        """
        tasks: set[asyncio.Task[None]] = set()
        error: BaseException | None = None
        source = iter(batches)
        exhausted = False
        ending = asyncio.Event()
        try:
            while True:
                while error is None and not exhausted and len(tasks) < MAX_IN_FLIGHT:
                    try:
                        self._clock.check()
                        batch = next(source, None)
                    except BaseException as fault:  # noqa: BLE001 - raised below, after what is in flight
                        error = fault
                        break
                    if batch is None:
                        exhausted = True
                    else:
                        tasks.add(asyncio.create_task(self._deliver(_Batch([list(batch)], ending))))
                if error is not None:
                    ending.set()
                if not tasks:
                    break
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                faults = [task.exception() for task in done]  # each is taken, or asyncio complains of it
                error = error or next((fault for fault in faults if fault is not None), None)
        finally:
            for task in tasks:  # only when this very call is cancelled
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if error is not None:
            raise error

    def finish(self) -> None:
        """Set aside single spans that were refused, where they were too few to doubt."""
        if self._streak.pending:
            pending, self._streak.pending = self._streak.pending, []
            self._streak.before += len(pending)
            self._sink.settle(Settled(refused=pending))

    async def _deliver(self, batch: _Batch) -> None:
        while batch.pieces:
            piece = batch.pieces.pop()
            try:
                answer = await self._post(piece, batch.ending)
            except Refused as refusal:
                if batch.accepted_before is None:
                    batch.accepted_before = self._accepted_requests
                await self._refused(piece, refusal, batch)
            else:
                self._accepted(piece, answer)

    async def _refused(self, piece: list[EncodedSpan], refusal: Refused, batch: _Batch) -> None:
        if len(piece) > 1:
            middle = len(piece) // 2
            batch.pieces += [piece[middle:], piece[:middle]]
            return
        last = await self._cut(piece[0], refusal, batch) if refusal.status == 413 else refusal
        if last is None:
            return
        self._streak.pending.append(RefusedSpan(piece[0], last.status, str(last)))
        if self._streak.length >= MAX_REFUSED_IN_A_ROW:
            await self._doubt(last, batch)

    async def _doubt(self, refusal: Refused, batch: _Batch) -> None:
        """Believe the refusals if anything was accepted since the batch was first refused, else pause the source."""
        for piece, left in _probes(batch.pieces):
            if self._accepted_requests != batch.accepted_before:
                break
            try:
                answer = await self._post(piece, batch.ending)
            except Refused:
                continue
            batch.pieces[:] = left
            self._accepted(piece, answer)
            break
        while self._in_flight and self._accepted_requests == batch.accepted_before:
            await self._answer.wait()
        if self._accepted_requests == batch.accepted_before:
            self._streak.pending.clear()
            raise SourcePaused(
                f"Kelet refused {MAX_REFUSED_IN_A_ROW} spans one by one and accepted none between, so it is not the "
                f"spans: {refusal}. Try: KELET_API_URL and KELET_PROJECT; SYNC_COMPRESSION=none. Nothing was marked"
            )
        believed, self._streak = self._streak.pending, _Streak()
        if believed:
            self._sink.settle(Settled(refused=believed))

    async def _cut(self, span: EncodedSpan, refusal: Refused, batch: _Batch) -> Refused | None:
        """Send a span that is too large with its texts cut; return the last refusal when no cut was enough."""
        for limit in _CUTS:
            shorter = shrink(span, limit)
            if len(shorter.span) >= len(span.span):
                continue
            try:
                answer = await self._post([shorter], batch.ending)
            except Refused as again:
                refusal = again
            else:
                self._accepted([shorter], answer)
                return None
        return refusal

    def _accepted(self, piece: Sequence[EncodedSpan], answer: Accepted) -> None:
        refused, self._streak = self._streak.pending, _Streak()
        self._accepted_requests += 1
        self._sink.settle(Settled(piece, refused, answer.rejected, answer.message))

    async def _post(self, piece: Sequence[EncodedSpan], ending: asyncio.Event) -> Accepted:
        while True:
            try:
                async with self._slots:
                    await _unless(
                        ending, self._backoff.ready(), TransientError("Kelet asked to wait, and the run ends")
                    )
                    answer = await self._once(piece)
            except TransientError as fault:
                if ending.is_set():
                    raise
                await _unless(ending, self._backoff.wait(fault), fault)
            except Refused:
                self._backoff.success()
                raise
            else:
                self._backoff.success()
                return answer

    async def _once(self, piece: Sequence[EncodedSpan]) -> Accepted:
        self._sink.check()
        self._in_flight += 1
        try:
            return await self._client.post(piece)
        finally:
            self._in_flight -= 1
            self._answer.set()
            self._answer = asyncio.Event()


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


def _probes(pieces: list[list[EncodedSpan]]) -> Iterator[tuple[list[EncodedSpan], list[list[EncodedSpan]]]]:
    """Yield what of the pieces to try, and what else is left: pieces, large ones first, then spans from all over."""
    for number in sorted(range(len(pieces)), key=lambda number: -len(pieces[number])):
        yield pieces[number], [*pieces[:number], *pieces[number + 1 :]]
    places = [(number, at) for number, piece in enumerate(pieces) if len(piece) > 1 for at in range(len(piece))]
    count = min(_PROBES, len(places))
    for probe in range(count):
        number, at = places[(2 * probe + 1) * len(places) // (2 * count)]
        piece = pieces[number]
        rest = [part for part in (piece[at + 1 :], piece[:at]) if part]
        yield [piece[at]], [*pieces[:number], *rest, *pieces[number + 1 :]]
