"""Spans that Kelet refuses for what they are.

Exactly those are dead-lettered, and never for an error of another kind.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sync_worker.demo.receiver import OtlpReceiver, ReceivedSpan, TraceRequest
from sync_worker.demo.serving import Reply
from sync_worker.errors import SourcePaused
from sync_worker.otlp.delivery import MAX_REJECTED_IN_A_ROW, Delivery
from sync_worker.otlp.target_client import Accepted, Rejected
from sync_worker.spans.span_model import EncodedSpan
from tests.otlp.conftest import Kept, Send, backoff, encoded, kelet_target, numbers, send_all, spans
from tests.support import faults
from tests.support.clock import VirtualClock

POISON = {
    "one": [37],
    "first": [0],
    "last": [63],
    "two": [5, 50],
    "both ends": [0, 63],
    "five in a row": [29, 30, 31, 32, 33],
    "ten in a row": list(range(20, 30)),
    "twenty at the end": list(range(44, 64)),
    "twenty at the beginning": list(range(20)),
    "in every part of what is left": [*range(9), 20, 40, 60],
    "every other": list(range(0, 64, 2)),
}


CASES = [(poison, 400, "none") for poison in POISON.values()]
CASES += [(POISON[name], *how) for name in ("two", "ten in a row") for how in ((400, "auto"), (422, "auto"))]


@pytest.mark.parametrize(("poison", "code", "compression"), CASES)
async def test_exactly_the_guilty(
    poison: list[int], code: int, compression: str, kelet: OtlpReceiver, send: Send
) -> None:
    """A poison span takes others with it, blocks them, or costs a request for each of them."""
    kelet.script = faults.refuse_span("poison", code)
    made = send(compression=compression)
    await send_all(made.delivery, [spans(64, poison)])
    made.delivery.finish()
    assert sorted(numbers(made.kept.rejected)) == poison
    assert sorted(numbers(made.kept.accepted)) == [n for n in range(64) if n not in poison]
    assert len(kelet.spans) == 64 - len(poison)
    assert made.kept.statuses == {code}
    tries = 2 * len(poison) * (math.log2(64) + 1) + 1
    assert len(kelet.requests) <= min(tries, 300) * (2 if compression == "auto" and code == 400 else 1)


async def test_poison_beside_other_batches(kelet: OtlpReceiver, send: Send) -> None:
    """A batch of nothing but poison pauses the source although all others arrive."""
    refuse = faults.refuse_span("poison")
    kelet.script = faults.first_of(refuse, faults.always(faults.slow(0.1)))
    made = send()
    await send_all(made.delivery, [spans(12, range(12)), spans(5, trace=2), spans(5, trace=3)])
    made.delivery.finish()
    assert len(made.kept.accepted) == 10
    assert len(made.kept.rejected) == 12


@pytest.mark.parametrize("count", [8, 9, 64, 500])
async def test_all_rejected_is_no_poison(count: int, kelet: OtlpReceiver, send: Send) -> None:
    """When Kelet refuses everything, all there is to send is dead-lettered, span by span."""
    kelet.script = faults.always(faults.status(400))
    made = send()
    with pytest.raises(SourcePaused, match="accepted none in between"):
        await send_all(made.delivery, [spans(count)])
    made.delivery.finish()
    assert made.kept.results == []
    assert len(kelet.requests) < 70
    assert made.delivery.rejected_in_a_row == 0


async def test_all_batches_rejected(kelet: OtlpReceiver, send: Send) -> None:
    """Batches in flight together each wait for the others to be accepted, or find each other guilty."""
    kelet.script = faults.always(faults.status(400))
    made = send()
    with pytest.raises(SourcePaused):
        await asyncio.wait_for(send_all(made.delivery, [spans(20, trace=t) for t in range(1, 30)]), 60)
    made.delivery.finish()
    assert made.kept.results == []


@pytest.mark.parametrize("count", [1, 7])
async def test_few_alone_are_believed(count: int, kelet: OtlpReceiver, send: Send) -> None:
    """A poison trace in a quiet hour pauses the source, or is marked before the interval is done."""
    kelet.script = faults.always(faults.status(400))
    made = send()
    await send_all(made.delivery, [spans(count)])
    assert made.kept.results == []
    assert made.delivery.rejected_in_a_row == count
    made.delivery.finish()
    assert len(made.kept.rejected) == count
    assert made.delivery.rejected_in_a_row == count
    made.delivery.finish()
    assert len(made.kept.results) == 1


async def test_streak_goes_on_in_the_next_run(kelet: OtlpReceiver, send: Send) -> None:
    """A setting that is wrong sets a few spans aside in each run, for ever."""
    kelet.script = faults.always(faults.status(400))
    refused = 0
    for run in (1, 2):
        made = send(rejected_before=refused)
        await send_all(made.delivery, [spans(3, trace=run)])
        made.delivery.finish()
        refused = made.delivery.rejected_in_a_row
    assert refused == 6
    made = send(rejected_before=refused)
    with pytest.raises(SourcePaused):
        await send_all(made.delivery, [spans(3, trace=3)])
    made.delivery.finish()
    assert (made.kept.results, made.delivery.rejected_in_a_row) == ([], 6)


async def test_acceptance_ends_the_streak(kelet: OtlpReceiver, send: Send) -> None:
    """Refusals of last week count although Kelet has taken everything since."""
    kelet.script = faults.refuse_span("poison")
    made = send(rejected_before=7)
    await send_all(made.delivery, [spans(1, trace=1)])
    assert made.delivery.rejected_in_a_row == 0
    await send_all(made.delivery, [spans(3, range(3), trace=2)])
    assert made.delivery.rejected_in_a_row == 3


async def test_last_of_a_streak_is_decided_by_what_is_left(kelet: OtlpReceiver, send: Send) -> None:
    """A poison span right after earlier ones pauses the source although its neighbours are taken."""
    kelet.script = faults.refuse_span("poison")
    made = send(rejected_before=7)
    await send_all(made.delivery, [spans(16, [0])])
    assert numbers(made.kept.rejected) == [0]
    assert len(made.kept.accepted) == 15


@pytest.mark.parametrize("limit", [600, 2_000, 20_000])
async def test_too_large_is_halved(limit: int, kelet: OtlpReceiver, send: Send) -> None:
    """A receiver that takes less than the worker's limit takes nothing, or spans are cut though they fit alone."""
    kelet.script = faults.too_large(limit)
    made = send()
    batch = spans(200)
    await send_all(made.delivery, [batch])
    assert sorted(numbers(made.kept.accepted)) == list(range(200))
    assert made.kept.accepted == sorted(batch, key=lambda one: int(one.key.observation))
    assert {request.decoded_size <= limit for request in kelet.requests if request.status == 200} == {True}


def _texts(received: ReceivedSpan) -> str:
    return str(received.attributes["text"])


@pytest.mark.parametrize(("limit", "kept"), [(100_000, 60_000), (20_000, 8_000), (3_000, 1_000)])
async def test_too_large_alone_is_cut(limit: int, kept: int, kelet: OtlpReceiver, send: Send) -> None:
    """A span that is too large even alone is lost, cut more than needed, or cut without a mark."""
    kelet.script = faults.too_large(limit)
    made = send()
    batch = [encoded(number=1), encoded(number=2, attributes={"text": "x" * 500_000}), encoded(number=3)]
    await send_all(made.delivery, [batch])
    assert sorted(numbers(made.kept.accepted)) == [0, 1, 2]
    assert made.kept.rejected == []
    (large,) = [one for one in kelet.spans if "text" in one.attributes]
    assert kept <= len(_texts(large)) < limit
    assert "cut by the sync worker: 500000 bytes in all" in _texts(large)


async def test_text_is_cut_to_the_first_size_that_shortens_it(kelet: OtlpReceiver, send: Send) -> None:
    """A span whose text is no longer than the largest cut is dead-lettered although a shorter cut would have passed."""
    kelet.script = faults.too_large(12_000)
    made = send()
    await send_all(made.delivery, [[encoded(number=1, attributes={"text": "x" * 20_000})]])
    assert numbers(made.kept.accepted) == [0]
    assert 8_000 <= len(_texts(kelet.spans[0])) < 12_000


async def test_shorter_text_is_tried_where_the_longer_one_fails(kelet: OtlpReceiver, send: Send) -> None:
    """A gateway fails at a span that was cut to the size that its server takes, and no shorter cut is tried."""

    def is_large(request: TraceRequest) -> bool:
        return request.decoded_size > 20_000

    kelet.script = faults.first_of(faults.too_large(100_000), faults.when(is_large, faults.status(500)))
    made = send()
    await send_all(made.delivery, [[encoded(number=1, attributes={"text": "x" * 500_000})]])
    made.delivery.finish()
    assert (numbers(made.kept.accepted), made.kept.rejected) == ([0], [])


async def test_too_large_even_cut(kelet: OtlpReceiver, send: Send) -> None:
    """A span that cannot be made small enough is sent for ever, or takes others with it."""
    kelet.script = faults.too_large(3_000)
    made = send()
    hopeless = encoded(number=2, attributes={f"number{n}": n for n in range(1000)})
    await send_all(made.delivery, [[encoded(number=1), hopeless, encoded(number=3)]])
    made.delivery.finish()
    assert sorted(numbers(made.kept.accepted)) == [0, 2]
    assert (made.kept.rejected, made.kept.statuses) == ([hopeless], {413})


async def test_too_small_a_door_is_not_caused_by_the_spans(kelet: OtlpReceiver, send: Send) -> None:
    """A proxy that lets nothing through has all there is to send dead-lettered, span by span."""
    kelet.script = faults.always(faults.status(413))
    made = send()
    with pytest.raises(SourcePaused):
        await send_all(made.delivery, [spans(100)])
    made.delivery.finish()
    assert made.kept.results == []


async def test_outage_while_halving(kelet: OtlpReceiver, send: Send) -> None:
    """An error that passes, in the midst of the search, is held against a span."""
    calls: list[int] = []

    def script(request: TraceRequest) -> Reply | None:
        calls.append(1)
        if len(calls) % 3 == 0:
            return faults.status(503)
        return faults.refuse_span("poison")(request)

    kelet.script = script
    made = send()
    await send_all(made.delivery, [spans(64, [3, 40])])
    made.delivery.finish()
    assert sorted(numbers(made.kept.rejected)) == [3, 40]
    assert len(made.kept.accepted) == 62


class InMemory:
    """What a delivery asks of a client, without HTTP: refuses what holds poison."""

    target = kelet_target("http://kelet.invalid")

    def __init__(self) -> None:
        self.requests = 0
        self.taken: list[int] = []

    async def post(self, batch: Sequence[EncodedSpan]) -> Accepted:
        self.requests += 1
        await asyncio.sleep(0)
        if any(Span.FromString(one.span).name == "poison" for one in batch):
            raise Rejected(400, "a span is not acceptable")
        self.taken += numbers(batch)
        return Accepted()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 24).flatmap(lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1)))))
@example((12, set(range(8))))
@example((24, set(range(23))))
@example((24, set(range(1, 24))))
@example((24, set(range(24)) - {13}))
def test_any_poison_beside_any_good_span(case: tuple[int, set[int]]) -> None:
    """Some pattern of poison loses, doubles or blocks a good span, or is itself sent for ever."""
    count, poison = case

    async def run() -> None:
        client, kept, clock = InMemory(), Kept(), VirtualClock()
        delivery = Delivery(client, kept, backoff(clock), clock)  # type: ignore[arg-type]
        batches = [spans(count, sorted(poison))]
        if len(poison) == count >= MAX_REJECTED_IN_A_ROW:
            with pytest.raises(SourcePaused):
                await send_all(delivery, batches)
            delivery.finish()
            assert kept.results == []
            return
        await send_all(delivery, batches)
        delivery.finish()
        assert sorted(numbers(kept.rejected)) == sorted(poison)
        good = [n for n in range(count) if n not in poison]
        assert sorted(numbers(kept.accepted)) == sorted(client.taken) == good
        assert client.requests <= 4 * count + 40

    asyncio.run(run())
