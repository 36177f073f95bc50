"""Delivers batches until each of their spans is accepted or set aside, and tells at once what each answer settled.

    2xx                      accepted; what a partial success rejected is one note, since which spans is not known
    408, 429, 5xx, network   tried again, after what Retry-After says or a growing pause
    400, 422                 the batch is halved until the guilty span stands alone: it is set aside
    413                      the batch is halved; a span alone has its texts cut, then is set aside
    401, 403, 404, 3xx, …    nothing is settled: the source pauses

Eight single spans refused one after the other, with nothing accepted in between, are no eight poison spans: something
is wrong with all of them. What is left of the batch is tried before that is believed; then the source pauses, and none
of the eight is marked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
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
        self._giving_up = False

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
        self._giving_up = False
        while tasks or not (exhausted or error):
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
                    tasks.add(asyncio.create_task(self._deliver(batch)))
            if not tasks:
                break
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = error or task.exception()
            self._giving_up = error is not None
        if error is not None:
            raise error

    def finish(self) -> None:
        """Set aside single spans that were refused, where they were too few to doubt."""
        if self._streak.pending:
            pending, self._streak.pending = self._streak.pending, []
            self._streak.before += len(pending)
            self._sink.settle(Settled(refused=pending))

    async def _deliver(self, batch: Sequence[EncodedSpan]) -> None:
        pieces = [list(batch)]
        while pieces:
            piece = pieces.pop()
            try:
                answer = await self._post(piece)
            except Refused as refusal:
                await self._refused(piece, refusal, pieces)
            else:
                self._accepted(piece, answer)

    async def _refused(self, piece: list[EncodedSpan], refusal: Refused, pieces: list[list[EncodedSpan]]) -> None:
        if len(piece) > 1:
            middle = len(piece) // 2
            pieces += [piece[middle:], piece[:middle]]
        elif refusal.status == 413:
            await self._cut(piece[0], refusal)
        else:
            self._streak.pending.append(RefusedSpan(piece[0], refusal.status, str(refusal)))
            if self._streak.length >= MAX_REFUSED_IN_A_ROW:
                await self._doubt(refusal, pieces)

    async def _doubt(self, refusal: Refused, pieces: list[list[EncodedSpan]]) -> None:
        """Look among what is left of the batch for a piece that is accepted; pause the source when there is none."""
        left, tried = sorted(pieces, key=len), list[list[EncodedSpan]]()
        while left:
            piece = left.pop()
            try:
                answer = await self._post(piece)
            except Refused:
                tried.append(piece)
            else:
                self._accepted(piece, answer)
                pieces[:] = [*left, *tried]
                return
        self._streak.pending.clear()
        raise SourcePaused(
            f"Kelet refused {MAX_REFUSED_IN_A_ROW} spans one by one and accepted none between, so it is not the spans: "
            f"{refusal}. Try: KELET_API_URL and KELET_PROJECT; SYNC_COMPRESSION=none. Nothing was marked"
        )

    async def _cut(self, span: EncodedSpan, refusal: Refused) -> None:
        for limit in _CUTS:
            shorter = shrink(span, limit)
            if len(shorter.span) >= len(span.span):
                continue
            try:
                answer = await self._post([shorter])
            except Refused as again:
                refusal = again
            else:
                self._accepted([shorter], answer)
                return
        self._sink.settle(Settled(refused=[RefusedSpan(span, refusal.status, str(refusal))]))

    def _accepted(self, piece: Sequence[EncodedSpan], answer: Accepted) -> None:
        refused, self._streak = self._streak.pending, _Streak()
        self._sink.settle(Settled(piece, refused, answer.rejected, answer.message))

    async def _post(self, piece: Sequence[EncodedSpan]) -> Accepted:
        while True:
            await self._backoff.ready()
            try:
                async with self._slots:
                    answer = await self._client.post(piece)
            except TransientError as fault:
                if self._giving_up:  # another batch met an error that ends the run: do not wait out this one
                    raise
                await self._backoff.wait(fault)
            except Refused:
                self._backoff.success()
                raise
            else:
                self._backoff.success()
                return answer
