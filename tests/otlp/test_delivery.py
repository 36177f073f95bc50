"""Delivery to a receiver that has bad days: each span has one result, and what counts as accepted is what arrived."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from sync_worker.clock import Stopped
from sync_worker.demo.receiver import OtlpReceiver, TraceRequest
from sync_worker.demo.serving import Reply
from sync_worker.errors import CredentialsRejected, SourcePaused, StateError, TransientError
from sync_worker.otlp.delivery import Result
from sync_worker.otlp.posting import MAX_IN_FLIGHT
from sync_worker.spans.span_model import EncodedSpan
from tests.otlp.conftest import Direct, Kept, Send, direct, encoded, numbers, send_all, spans
from tests.support import faults
from tests.support.clock import VirtualClock

IN_TIME = 60.0  # seconds: what does not end in so many hangs


class Sleepless(VirtualClock):
    """A clock on which no wait ever ends by itself."""

    async def sleep(self, seconds: float) -> None:
        self.check()
        self.waits.append(seconds)
        await asyncio.Event().wait()


def traces(count: int, each: int = 3) -> list[list[EncodedSpan]]:
    """Return batches of one trace each."""
    return [spans(each, trace=number + 1) for number in range(count)]


def arrived(kelet: OtlpReceiver) -> Counter[tuple[str, str]]:
    """Return the spans that the receiver took, by trace and row."""
    return Counter((str(int(one.trace_id, 16)), str(int(one.span_id, 16))) for one in kelet.spans)


def keys(kept: Kept) -> Counter[tuple[str, str]]:
    """Return the spans that count as accepted."""
    return Counter((one.key.trace, one.key.observation) for one in kept.accepted)


async def test_all_is_well(kelet: OtlpReceiver, send: Send) -> None:
    """A span is left out, or counts as accepted without having arrived."""
    made = send()
    await send_all(made.delivery, traces(20))
    assert len(made.kept.accepted) == 60
    assert arrived(kelet) == keys(made.kept)
    assert (made.kept.rejected, made.delivery.rejected_in_a_row, made.clock.waits) == ([], 0, [])


async def test_nothing_to_send(kelet: OtlpReceiver, send: Send) -> None:
    """A cycle without rows asks Kelet, or waits for it."""
    await send_all(send().delivery, [])
    assert kelet.requests == []


PASSING = {
    "503": faults.status(503),
    "429 with a wait": faults.status(429, retry_after=17),
    "408": faults.status(408),
    "dropped": faults.drop(),
}


@pytest.mark.parametrize("reply", PASSING.values(), ids=PASSING.keys())
async def test_fault_that_passes(reply: Reply, kelet: OtlpReceiver, send: Send) -> None:
    """After an error that passes spans are missing, twice there, or dead-lettered."""
    kelet.script = faults.in_turn(None, reply, reply, reply)
    made = send()
    await send_all(made.delivery, traces(8))
    assert arrived(kelet) == keys(made.kept)
    assert set(arrived(kelet).values()) == {1}
    assert len(made.kept.accepted) == 24
    assert made.clock.waits
    assert made.kept.rejected == []


async def test_wait_that_kelet_asks_for_holds_for_all(kelet: OtlpReceiver, send: Send) -> None:
    """While one request waits as it was asked to, others go on asking."""
    clock = VirtualClock()
    asked_at: list[float] = []

    def script(_: TraceRequest) -> Reply | None:
        asked_at.append(clock.seconds)
        return faults.status(429, retry_after=30) if len(asked_at) == 1 else None

    kelet.script = script
    made = send(clock=clock)
    await send_all(made.delivery, traces(30))
    assert 30.0 in clock.waits
    assert len([at for at in asked_at if at < asked_at[0] + 30]) <= MAX_IN_FLIGHT
    assert len(made.kept.accepted) == 90


class Held(VirtualClock):
    """A clock whose waits end when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep, self.gate = asyncio.Event(), asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.asleep.set()
        await self.gate.wait()
        await super().sleep(seconds)


async def test_request_that_comes_later_keeps_to_the_wait_too() -> None:
    """Kelet asks one request to wait, and the next batch goes out at once."""

    async def answer(batch: Sequence[EncodedSpan]) -> None:
        if len(client.requests) == 1:
            raise TransientError("too many", retry_after=30.0)

    clock, client = Held(), Direct(answer)
    delivery, kept = direct(client, clock)
    async with delivery.sending() as sending:
        await sending.submit([encoded(number=1)])
        await clock.asleep.wait()
        await sending.submit([encoded(number=2)])
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(client.requests) == 1
        clock.gate.set()
    assert sorted(numbers(kept.accepted)) == [0, 1]
    assert clock.waits[0] == 30.0


async def test_lost_answers(kelet: OtlpReceiver, send: Send) -> None:
    """When an answer is lost, its batch is given up, or more than that batch is sent again."""
    kelet.script = faults.of_new_bodies(None, faults.accept_then_drop(), None, faults.accept_then_drop())
    made = send()
    await send_all(made.delivery, traces(10))
    assert sorted(arrived(kelet).values()) == [1] * 24 + [2] * 6
    assert set(keys(made.kept).values()) == {1}
    assert len(made.kept.accepted) == 30


async def test_partial_success(kelet: OtlpReceiver, send: Send) -> None:
    """Spans that a partial success rejected are sent again, or not told."""
    kelet.script = faults.in_turn(faults.partial_success(2, "too old"))
    made = send()
    await send_all(made.delivery, traces(1))
    (result,) = made.kept.results
    assert (len(result.accepted), result.partial_rejections, result.rejected_reason) == (3, 2, "too old")
    assert len(kelet.requests) == 1


async def test_requests_in_flight(kelet: OtlpReceiver, send: Send) -> None:
    """Requests go out one by one, or more at once than Kelet should have to bear."""
    kelet.script = faults.always(faults.slow(0.02))
    made = send()
    await send_all(made.delivery, traces(20))
    assert kelet.max_in_flight == MAX_IN_FLIGHT
    assert len(made.kept.accepted) == 60


async def test_requests_in_flight_of_several_callers(kelet: OtlpReceiver, send: Send) -> None:
    """Intervals of a backfill, which share a delivery, each have requests of their own in flight."""
    kelet.script = faults.always(faults.slow(0.02))
    made = send()
    await asyncio.gather(*(send_all(made.delivery, [[one] for one in spans(8, trace=call)]) for call in (1, 2, 3)))
    assert 1 < kelet.max_in_flight <= MAX_IN_FLIGHT
    assert len(made.kept.accepted) == 24


async def test_batches_are_taken_as_they_go(kelet: OtlpReceiver, send: Send) -> None:
    """A backlog is put into batches, in memory, before the first answer came."""
    made = send()
    waiting: list[int] = []

    def source() -> Iterator[list[EncodedSpan]]:
        for number, batch in enumerate(traces(40)):
            waiting.append(number + 1 - len(made.kept.results))
            yield batch

    await send_all(made.delivery, source())
    assert max(waiting) <= MAX_IN_FLIGHT + 1  # one is made while the others are on their way


async def test_results_are_kept_before_it_returns(kelet: OtlpReceiver, send: Send) -> None:
    """An interval is noted as covered while an answer to one of its batches is not yet kept."""
    kelet.script = faults.in_turn(faults.slow(0.05), None, faults.slow(0.03))
    made = send()
    await send_all(made.delivery, traces(5))
    assert len(made.kept.results) == 5


LASTING: list[tuple[Reply, type[Exception]]] = [
    (faults.status(401), CredentialsRejected),
    (faults.status(403), CredentialsRejected),
    (faults.no_such_project(), SourcePaused),
    (faults.status(405), SourcePaused),
    (faults.redirect("/elsewhere"), SourcePaused),
]


@pytest.mark.parametrize(("reply", "kind"), LASTING, ids=[str(reply.status) for reply, _ in LASTING])
async def test_nothing_has_a_result_when_all_is_rejected(
    reply: Reply, kind: type[Exception], kelet: OtlpReceiver, send: Send
) -> None:
    """Spans pay for a wrong setting: they are marked as sent or dead-lettered."""
    kelet.script = faults.always(reply)
    made = send()
    with pytest.raises(kind):
        await send_all(made.delivery, traces(30))
    made.delivery.finish()
    assert made.kept.results == []
    assert len(kelet.requests) <= MAX_IN_FLIGHT
    assert made.delivery.rejected_in_a_row == 0


async def test_patience_ends(kelet: OtlpReceiver, send: Send) -> None:
    """`once` never ends while Kelet is down, or marks what was not answered."""
    kelet.script = faults.when(faults.has_span("poison"), faults.status(503))
    made = send(patience=20.0)
    with pytest.raises(TransientError, match="gave up after"):
        await send_all(made.delivery, [spans(3), [encoded("poison", 9)], spans(3, trace=2)])
    assert len(made.kept.accepted) == 6
    assert made.kept.rejected == []


async def test_error_waits_for_what_is_in_flight(kelet: OtlpReceiver, send: Send) -> None:
    """When one batch meets an error, others arrive without being marked, and are sent again."""
    kelet.script = faults.first_of(
        faults.when(faults.has_span("poison"), faults.status(401)),
        faults.always(faults.slow(0.05)),
    )
    made = send()
    with pytest.raises(CredentialsRejected):
        await send_all(made.delivery, [*traces(2), [encoded("poison", 9, trace=8)], *traces(20)[2:]])
    assert arrived(kelet) == keys(made.kept)
    assert 0 < len(made.kept.accepted) <= 3 * MAX_IN_FLIGHT


class Broken(Kept):
    """A sink that cannot write."""

    def commit(self, result: Result) -> None:
        raise StateError("the disk is full")


async def test_error_ends_the_waits_of_others(kelet: OtlpReceiver, send: Send) -> None:
    """One batch meets an error, and the run hangs in another's wait of an hour."""
    down = faults.when(faults.has_span("down"), faults.status(503, retry_after=3600))
    refused = faults.when(faults.has_span("poison"), faults.slow(0.1, faults.status(401)))
    kelet.script = faults.first_of(down, refused)
    made = send(patience=None, clock=Sleepless())
    batches = [[encoded("down", 1)], [encoded("poison", 2)], [encoded("down", 3)]]
    with pytest.raises(CredentialsRejected):
        await asyncio.wait_for(send_all(made.delivery, batches), IN_TIME)
    assert made.clock.waits
    assert made.kept.results == []


async def test_error_of_the_source_ends_waits(kelet: OtlpReceiver, send: Send) -> None:
    """The conversion or the state file fails, and the run hangs in the wait of a batch until Kelet is back."""
    kelet.script = faults.when(faults.has_span("down"), faults.status(503))
    made = send(patience=None, clock=Sleepless())

    def source() -> Iterator[list[EncodedSpan]]:
        yield [encoded("down", 1)]
        yield [encoded("good", 2)]
        raise StateError("the disk is full")

    with pytest.raises(StateError, match="disk"):
        await asyncio.wait_for(send_all(made.delivery, source()), IN_TIME)
    assert numbers(made.kept.accepted) == [1]


async def test_error_of_the_sink(kelet: OtlpReceiver, send: Send) -> None:
    """An answer that could not be kept is passed over, and the interval counted as covered."""
    made = send()
    made.delivery._sink = Broken()
    with pytest.raises(StateError, match="disk"):
        await send_all(made.delivery, traces(20))
    assert len(kelet.requests) <= MAX_IN_FLIGHT


async def test_error_of_one_caller_is_not_that_of_another(kelet: OtlpReceiver, send: Send) -> None:
    """One interval of a backfill fails, and another, whose batch only had to wait, fails with it."""
    seen: list[str] = []

    def script(request: TraceRequest) -> Reply | None:
        seen.extend(one.name for one in request.spans)
        if request.spans[0].name == "bad":
            return faults.status(404)
        return faults.status(503) if seen.count("slow") < 6 else None

    kelet.script = script
    made = send(patience=None)
    other = asyncio.create_task(send_all(made.delivery, [[encoded("slow", 1)]]))
    with pytest.raises(SourcePaused):
        await send_all(made.delivery, [[encoded("bad", 2)]])
    await asyncio.wait_for(other, IN_TIME)
    assert numbers(made.kept.accepted) == [0]


async def test_stop(kelet: OtlpReceiver, send: Send) -> None:
    """A run that is asked to stop begins new batches, or drops the answers of those in flight."""
    made = send()

    def script(_: TraceRequest) -> Reply:
        made.clock.stop()
        return faults.slow(0.05)

    kelet.script = script
    with pytest.raises(Stopped):
        await asyncio.wait_for(send_all(made.delivery, traces(30)), IN_TIME)
    assert arrived(kelet) == keys(made.kept)
    assert 3 <= len(made.kept.accepted) <= 3 * MAX_IN_FLIGHT


async def test_stop_ends_a_wait(kelet: OtlpReceiver, send: Send) -> None:
    """A run that is asked to stop sits out the pause between two tries."""
    kelet.script = faults.always(faults.status(503))
    made = send(patience=None)
    made.delivery._poster._backoff.on_wait = lambda *_: made.clock.stop()
    with pytest.raises(Stopped):
        await asyncio.wait_for(send_all(made.delivery, traces(30)), IN_TIME)
    assert made.kept.results == []


async def test_cancelled(kelet: OtlpReceiver, send: Send) -> None:
    """After a second Ctrl-C requests go on behind the back of the program."""
    kelet.script = faults.always(faults.slow(60.0))
    made = send()
    sending = asyncio.create_task(send_all(made.delivery, traces(30)))
    while not kelet.requests:
        await asyncio.sleep(0.01)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert len(asyncio.all_tasks()) == 1
    assert made.kept.results == []
