"""Requests at which Kelet, or a gateway before it, fails: they become smaller, and one span blocks no other."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence

import pytest

from sync_worker.clock import Stopped
from sync_worker.demo.receiver import OtlpReceiver, TraceRequest
from sync_worker.demo.serving import Reply
from sync_worker.errors import PausedByOperator, SourcePaused, TransientError
from sync_worker.otlp.delivery import MAX_FAILING_IN_A_ROW
from sync_worker.otlp.target_client import ProjectUnknown, RequestFailed
from sync_worker.spans.span_model import EncodedSpan
from tests.otlp.conftest import Direct, Send, Sending, direct, encoded, numbers, send_all, spans
from tests.support import faults
from tests.support.clock import VirtualClock
from tests.support.faults import Script

ALWAYS = 1e9  # seconds of patience


def gateway(limit: int, reply: Reply) -> Script[TraceRequest]:
    """Return a script of a gateway that fails, in one way or another, at bodies over its limit."""
    return faults.when(lambda request: request.decoded_size > limit, reply)


def large(count: int, trace: int = 1) -> list[EncodedSpan]:
    """Return spans of some 1,000 bytes each."""
    return [encoded(number=n + 1, trace=trace, attributes={"text": "x" * 900}) for n in range(count)]


def sizes(kelet: OtlpReceiver) -> list[int]:
    """Return how large the requests were, in order of arrival."""
    return [request.decoded_size for request in kelet.requests]


def arrived_once(kelet: OtlpReceiver, made: Sending) -> bool:
    """Whether what counts as accepted is what arrived, each span once."""
    here = sorted((one.trace_id, one.span_id) for one in kelet.spans)
    reported = sorted((one.trace_id, f"{int(one.key.observation):016x}") for one in made.kept.accepted)
    return here == reported and len(set(here)) == len(here)


BY_SIZE = {
    "504": faults.status(504),
    "500": faults.status(500),
    "502": faults.status(502),
    "524": faults.status(524),
    "408": faults.status(408),
    "dropped": faults.drop(),
}


@pytest.mark.parametrize("reply", BY_SIZE.values(), ids=BY_SIZE.keys())
@pytest.mark.parametrize("limit", [150_000, 20_000, 3_000])
async def test_gateway_with_a_limit(limit: int, reply: Reply, kelet: OtlpReceiver, send: Send) -> None:
    """A gateway that fails at large bodies lets nothing through for ever, or spans are lost or doubled on the way."""
    kelet.script = gateway(limit, reply)
    made = send(patience=ALWAYS)
    assert await send_all(made.delivery, [large(200, trace) for trace in (1, 2, 3)]) == set()
    assert len(made.kept.accepted) == 600
    assert arrived_once(kelet, made)
    assert made.kept.rejected == []


async def test_gateway_that_hangs(kelet: OtlpReceiver, send: Send) -> None:
    """A gateway that never answers to large bodies lets nothing through."""
    kelet.script = gateway(20_000, faults.slow(0.5, faults.status(500)))
    made = send(patience=ALWAYS, timeout=0.1)
    await send_all(made.delivery, [large(60)])
    assert len(made.kept.accepted) == 60


async def test_only_the_piece_that_failed_twice_is_halved(kelet: OtlpReceiver, send: Send) -> None:
    """One failure halves a request, or other requests become smaller with it."""
    kelet.script = faults.in_turn(faults.status(504), None)
    made = send()
    await send_all(made.delivery, [large(40)])
    assert len({*sizes(kelet)}) == 1
    kelet.clear()
    kelet.script = faults.when(faults.has_span("poison"), faults.status(500))
    await send_all(made.delivery, [spans(64, [20], trace=2), *(large(64, trace) for trace in range(3, 12))])
    assert [size for size in sizes(kelet) if size > 50_000] == [max(sizes(kelet))] * 9


OVERLOAD = {
    "503": faults.status(503),
    "429": faults.status(429),
    "529": faults.status(529),
    "500 with a wait": faults.status(500, retry_after=1),
    "504 with a wait": faults.status(504, retry_after=0),
}


@pytest.mark.parametrize("reply", OVERLOAD.values(), ids=OVERLOAD.keys())
async def test_overload_halves_nothing(reply: Reply, kelet: OtlpReceiver, send: Send) -> None:
    """A server that is overloaded is sent more and smaller requests."""
    kelet.script = faults.in_turn(*[reply] * 9)
    made = send(patience=ALWAYS)
    await send_all(made.delivery, [large(40)])
    assert len(set(sizes(kelet))) == 1
    assert len(made.kept.accepted) == 40


async def test_refused_connections_halve_nothing(kelet: OtlpReceiver, send: Send) -> None:
    """While nobody listens, the search for a size that passes goes down to single spans."""
    made = send(patience=400.0)
    made.client.url = "http://127.0.0.1:1/api/traces"
    with pytest.raises(TransientError, match="cannot be reached"):
        await send_all(made.delivery, [large(40)])
    made.client.url = kelet.url + "/api/traces"
    again = send(stored=made.delivery.delivery_state)
    await send_all(again.delivery, [large(40)])
    assert len(kelet.requests) == 1


async def test_search_goes_on_in_the_next_run(kelet: OtlpReceiver, send: Send) -> None:
    """`once` from cron, whose patience ends before a size is found, begins the search anew each time."""
    kelet.script = gateway(8_000, faults.status(504))
    remembered, todo = None, large(400)
    for _ in range(20):
        made = send(patience=20.0, stored=remembered)
        try:
            await send_all(made.delivery, [todo])
            break
        except TransientError:
            remembered = made.kept.remembered
            done = {one.key for one in made.kept.accepted}
            todo = [one for one in todo if one.key not in done]
    else:
        pytest.fail("the search does not come to its end")
    assert remembered is not None
    assert len(kelet.spans) == 400
    kelet.clear()
    last = send(stored=made.delivery.delivery_state)
    await send_all(last.delivery, [large(20, trace=2)])
    assert max(sizes(kelet)) <= 8_000


async def test_patience_for_one_try_finds_a_size_too(kelet: OtlpReceiver, send: Send) -> None:
    """Where each run's patience ends with the first time-out, nothing is ever halved."""
    kelet.script = gateway(8_000, faults.status(504))
    remembered, todo = None, large(60)
    for _ in range(40):
        made = send(patience=0.1, stored=remembered)
        try:
            await send_all(made.delivery, [todo])
            break
        except TransientError:
            remembered = made.kept.remembered
            done = {one.key for one in made.kept.accepted}
            todo = [one for one in todo if one.key not in done]
    assert len(kelet.spans) == 60


async def test_limit_seen_once_is_not_for_ever(kelet: OtlpReceiver, send: Send) -> None:
    """After a gateway was mended, or an outage, requests stay small; or a limit that stands is tried all the time."""
    kelet.script = gateway(20_000, faults.status(504))
    made = send(patience=ALWAYS)
    await send_all(made.delivery, [large(200, trace) for trace in range(1, 11)])
    kelet.clear()
    await send_all(made.delivery, [large(200, trace) for trace in range(11, 31)])
    assert len([size for size in sizes(kelet) if size > 20_000]) <= len(sizes(kelet)) / 10
    kelet.script = None
    kelet.clear()
    again = send(stored=made.delivery.delivery_state)
    await send_all(again.delivery, [large(200, trace) for trace in range(1, 31)])
    assert sizes(kelet)[-1] > 180_000


@pytest.mark.parametrize("at", [0, 31, 40, 62])
async def test_span_that_always_fails_is_dead_lettered(at: int, kelet: OtlpReceiver, send: Send) -> None:
    """A span at which Kelet fails for ever blocks what is behind it, or takes others with it."""
    kelet.script = faults.when(faults.has_span("poison"), faults.status(500))
    made = send()
    await send_all(made.delivery, [spans(64, [at]), spans(64, trace=2)])
    assert len(made.kept.accepted) == 127
    assert arrived_once(kelet, made)
    await send_all(made.delivery, [[one for one in spans(64, [at]) if numbers([one]) == [at]], spans(4, trace=3)])
    assert numbers(made.kept.rejected) == [at]
    assert made.kept.statuses == {500}


async def test_no_proof_no_dead_letter(kelet: OtlpReceiver, send: Send) -> None:
    """A span is dead-lettered though nothing shows that Kelet takes any other."""
    kelet.script = faults.when(faults.has_span("poison"), faults.status(500))
    made = send(patience=ALWAYS)
    remembered = None
    for _ in range(5):
        made = send(stored=remembered)
        assert len(await send_all(made.delivery, [[encoded("poison", 1)]])) == 1
        assert made.kept.results == []
        with pytest.raises(TransientError, match="1 span"):
            made.delivery.check()
        remembered = made.delivery.delivery_state


async def test_proof_over_several_runs(kelet: OtlpReceiver, send: Send) -> None:
    """A lone span that fails is tried for ever, since each run alone proves nothing."""
    kelet.script = faults.when(faults.has_span("poison"), faults.status(500))
    remembered, poison = None, encoded("poison", 1)
    refused: list[list[EncodedSpan]] = []
    for run in range(4):
        made = send(stored=remembered)
        await send_all(made.delivery, [[poison]])
        await send_all(made.delivery, [spans(2, trace=run + 2)])
        refused.append(made.kept.rejected)
        remembered = made.delivery.delivery_state
        if refused[-1]:
            break
    assert refused == [[], [poison]]


async def test_span_that_passes_after_all_is_no_suspect(kelet: OtlpReceiver, send: Send) -> None:
    """A span that failed for a while is dead-lettered although it was taken, or its trace waits on."""
    kelet.script = faults.in_turn(faults.status(500), faults.status(500))
    made = send()
    assert len(await send_all(made.delivery, [spans(1)])) == 1
    assert await send_all(made.delivery, [spans(1), spans(3, trace=2)]) == set()
    made.delivery.check()
    assert len(made.kept.accepted) == 4
    assert made.kept.rejected == []


async def test_outage_is_probed_one_request_at_a_time(kelet: OtlpReceiver, send: Send) -> None:
    """While Kelet answers 500 to everything, the search floods it, or sets spans aside, or gives all of them up."""
    active, most, lock, count = 0, [0], threading.Lock(), [0]

    def script(_: TraceRequest) -> Reply:
        nonlocal active
        with lock:
            active += 1
            count[0] += 1
            if count[0] > 4 * 3:
                most.append(active)
        time.sleep(0.01)
        with lock:
            active -= 1
        return faults.status(500)

    kelet.script = script
    made = send(patience=7_200.0)
    with pytest.raises(TransientError, match="gave up after"):
        await send_all(made.delivery, [large(50, trace) for trace in range(1, 9)])
    assert made.kept.results == []
    assert max(most) == 1
    assert len(kelet.requests) < 150  # at most one a minute but for the first ones
    kelet.script = None
    kelet.clear()
    again = send(stored=made.kept.remembered)
    await send_all(again.delivery, [large(50, trace) for trace in range(1, 9)])
    assert len(again.kept.accepted) == 400
    assert len(kelet.requests) < 40


async def test_outage_gives_up_few(kelet: OtlpReceiver, send: Send) -> None:
    """In an outage span after span is given up for later, until all wait in the state file."""
    kelet.script = faults.always(faults.status(500))
    made = send(patience=10 * 3600.0)
    with pytest.raises(TransientError):
        await send_all(made.delivery, [spans(40)])
    assert len(made.delivery._failing) <= MAX_FAILING_IN_A_ROW
    assert made.kept.results == []


@pytest.mark.parametrize("accepted", [0, 1])
async def test_spans_given_up_in_a_row_count_from_the_last_acceptance(
    accepted: int, kelet: OtlpReceiver, send: Send
) -> None:
    """Fewer spans than it takes are held to be an outage, or more are put off in one."""
    kelet.script = faults.when(faults.has_span("poison"), faults.status(500))
    made = send(patience=10 * 3600.0)
    await send_all(made.delivery, [[encoded("good", 1, trace=2)]] * accepted)
    with pytest.raises(TransientError):
        await send_all(made.delivery, [[encoded("poison", number)] for number in range(1, 13)])
    assert len(made.delivery._failing) == MAX_FAILING_IN_A_ROW


async def test_others_that_pass_between_two_failures_are_half_of_the_proof() -> None:
    """A span at which Kelet fails while it takes others needs more failures than that to be dead-lettered."""
    taken = asyncio.Event()

    async def answer(batch: Sequence[EncodedSpan]) -> None:
        if numbers(batch) != [0]:
            taken.set()
            return
        if sum(numbers(request) == [0] for request in client.requests) > 1:
            await taken.wait()
        raise RequestFailed("it fails", 500)

    client = Direct(answer)
    delivery, kept = direct(client, VirtualClock())
    async with delivery.sending() as sending:
        await sending.submit([encoded(number=1)])
        await sending.submit([encoded(number=2)])
        await sending.drain()
        assert kept.rejected == []
        await sending.submit([encoded(number=3)])
    assert (numbers(kept.rejected), sending.undelivered) == ([0], set())
    delivery.check()


async def test_proof_begins_again_once_a_span_was_taken() -> None:
    """A span that failed last week and was taken since is dead-lettered in the first outage that meets it."""
    fails = [True]

    async def answer(batch: Sequence[EncodedSpan]) -> None:
        if fails[0] and numbers(batch) == [0]:
            raise RequestFailed("it fails", 500)

    delivery, kept = direct(Direct(answer), VirtualClock())
    assert len(await send_all(delivery, [spans(1)])) == 1
    fails[0] = False
    assert await send_all(delivery, [spans(1)]) == set()
    fails[0] = True
    kept.keys.clear()
    assert len(await send_all(delivery, [spans(1)])) == 1
    await send_all(delivery, [[encoded(number=2)]])
    assert kept.rejected == []


async def test_limit_is_found_by_two_spans_too() -> None:
    """Each trace of two spans is tried whole, and waits twice, at a gateway that lets only one through."""

    async def answer(batch: Sequence[EncodedSpan]) -> None:
        if len(batch) > 1:
            raise RequestFailed("it is too large", 504)

    client = Direct(answer)
    delivery, kept = direct(client, VirtualClock())
    await send_all(delivery, [large(2)])
    assert [len(batch) for batch in client.requests] == [2, 2, 1, 1]
    await send_all(delivery, [large(2, trace=2)])
    assert [len(batch) for batch in client.requests[4:]] == [1, 1]
    assert len(kept.accepted) == 4


async def test_what_waited_while_the_limit_fell_is_sent_in_smaller_requests() -> None:
    """A batch that waits for its turn in a search is lost when the limit falls below its size."""

    async def answer(batch: Sequence[EncodedSpan]) -> None:
        if len(batch) > 2:
            raise RequestFailed("it is too large", 504)

    client, clock, waits = Direct(answer), VirtualClock(), [asyncio.Event() for _ in range(100)]
    delivery, kept = direct(client, clock, ALWAYS)
    delivery.backoff.on_wait = lambda *_: waits[len(clock.waits)].set()
    async with delivery.sending() as sending:
        await sending.submit(large(16))
        await waits[2].wait()  # half of it has failed for the first time
        await sending.submit(large(16, trace=2))
        await waits[3].wait()  # ... and waits for its turn behind the second batch
        await sending.submit(large(16, trace=3))
    assert len(kept.accepted) == 48
    assert max(len(batch) for batch in client.requests if batch[0].key.trace == "3") == 4


async def test_stop_while_kelet_hangs(kelet: OtlpReceiver, send: Send) -> None:
    """A stop waits for a server that does not answer, or begins another try, or marks what was not answered."""
    made = send(grace=0.2, timeout=30.0)

    def script(_: TraceRequest) -> Reply:
        loop.call_soon_threadsafe(made.clock.stop)
        return faults.slow(60.0)

    loop = asyncio.get_running_loop()
    kelet.script = script
    began = time.monotonic()
    with pytest.raises(Stopped):
        await send_all(made.delivery, [spans(3, trace=trace) for trace in range(1, 20)])
    assert time.monotonic() - began < 30.0
    assert made.kept.results == []


async def test_stop_ends_a_search(kelet: OtlpReceiver, send: Send) -> None:
    """A run that is asked to stop goes on halving."""
    made = send()
    seen: list[int] = []

    def script(_: TraceRequest) -> Reply:
        seen.append(1)
        if len(seen) == 3:
            asyncio.run_coroutine_threadsafe(_stop(), loop)
        return faults.slow(0.05, faults.status(400))

    async def _stop() -> None:
        made.clock.stop()

    loop = asyncio.get_running_loop()
    kelet.script = script
    with pytest.raises(Stopped):
        await send_all(made.delivery, [spans(64)])
    assert len(seen) <= 4
    assert made.kept.results == []


LANES = {"projects": {"one", "two"}}


async def test_unknown_project_pauses_its_lane_alone(
    kelet: OtlpReceiver, send: Send, caplog: pytest.LogCaptureFixture
) -> None:
    """A project that Kelet does not know keeps others from being sent, or is asked for with each request."""
    kelet.script = faults.when(lambda request: request.project == "one", faults.no_such_project())
    made = send(**LANES)
    batches = [[encoded(number=n, project="one" if n % 2 else "two")] for n in range(1, 61)]
    left = await send_all(made.delivery, batches)
    assert sorted(int(key.observation) for key in left) == list(range(1, 61, 2))
    assert len(made.kept.accepted) == 30
    assert len([request for request in kelet.requests if request.project == "one"]) <= 4
    with pytest.raises(SourcePaused, match="'one'"):
        made.delivery.check()
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert ["does not know the project 'one'" in message for message in warned] == [True]


async def test_project_that_is_given_up_pauses_nothing(kelet: OtlpReceiver, send: Send) -> None:
    """A project that no setting names any more keeps its source paused, or is asked for again."""
    kelet.script = faults.when(lambda request: request.project == "one", faults.no_such_project())
    made = send(**LANES)
    await send_all(made.delivery, [[encoded(number=1, project="one")]])
    made.delivery.abandon("one")
    made.delivery.check()
    assert len(await send_all(made.delivery, [[encoded(number=1, project="one")]])) == 1
    assert len(kelet.requests) == 1


async def test_pause_of_an_operator_is_reported_unless_more_is_wrong(kelet: OtlpReceiver, send: Send) -> None:
    """A run in which a paused project waits ends as if all were sent, or hides a project that Kelet does not know."""
    pauses = {"one": PausedByOperator("paused: 'one'")}
    kelet.script = faults.when(lambda request: request.project == "two", faults.no_such_project())
    made = send(projects={"one", "two", "three"}, read_pauses=lambda: pauses)
    assert len(await send_all(made.delivery, [[encoded(number=1, project="one")]])) == 1
    assert kelet.requests == []
    with pytest.raises(PausedByOperator):
        made.delivery.check()
    await send_all(made.delivery, [[encoded(number=2, project="two")]])
    with pytest.raises(ProjectUnknown, match="'two'"):
        made.delivery.check()


async def test_no_known_project_pauses_the_source(kelet: OtlpReceiver, send: Send) -> None:
    """A wrong address, which knows no project, has all there is to send read and put off."""
    kelet.script = faults.always(faults.no_such_project())
    made = send(**LANES)
    with pytest.raises(SourcePaused):
        await send_all(made.delivery, [[encoded(number=n, project="one" if n % 2 else "two")] for n in range(1, 61)])
    assert made.kept.results == []
    assert len(kelet.requests) <= 8


async def test_line_that_breaks_twice_proves_nothing(kelet: OtlpReceiver, send: Send) -> None:
    """A span is dead-lettered because the line broke twice under it by chance, while others passed."""
    broken = faults.in_turn(faults.drop(), faults.drop(), None)
    kelet.script = faults.when(faults.has_span("unlucky"), broken)
    made = send(patience=ALWAYS)
    batches = [[encoded("good", 1, trace=1)], [encoded("unlucky", 1, trace=2)]]
    left = await send_all(made.delivery, [*batches, *([encoded("good", 1, trace=number)] for number in range(3, 9))])
    assert not any(result.rejected for result in made.kept.results)
    assert len(left) == 1
    assert await send_all(made.delivery, [batches[1]]) == set()
