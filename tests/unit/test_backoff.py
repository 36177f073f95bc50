"""Waiting between tries."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_worker.backoff import Backoff, RetryDeadlineExceeded
from sync_worker.clock import Stopped, SystemClock
from sync_worker.errors import TransientError
from tests.support.clock import VirtualClock


def _fault(retry_after: float | None = None) -> TransientError:
    return TransientError("Kelet answered 503", retry_after=retry_after)


@pytest.fixture
def clock() -> VirtualClock:
    """Return a clock that the test owns."""
    return VirtualClock()


async def test_waits_double_up_to_a_minute(clock: VirtualClock) -> None:
    """A server that is down would be pressed, or found again too late."""
    backoff = Backoff("Kelet", clock, None)
    for _ in range(12):
        await backoff.wait(_fault())
    assert clock.waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0, 60.0]
    assert backoff.elapsed == 363.5


async def test_jitter_takes_up_to_half(clock: VirtualClock) -> None:
    """All workers would come back in the same moment."""
    backoff = Backoff("Kelet", clock, None)
    for clock.chance in (0.0, 0.5, 1.0, 0.0):
        await backoff.wait(_fault())
    assert clock.waits == [0.25, 0.75, 2.0, 2.0]


async def test_success_ends_the_outage(clock: VirtualClock) -> None:
    """Patience would run out over faults that are hours apart, and waits never grow short again."""
    backoff = Backoff("Kelet", clock, 10.0)
    for _ in range(20):
        await backoff.wait(_fault())
        await backoff.wait(_fault())
        backoff.success()
        assert backoff.elapsed == 0.0
    assert clock.waits == [0.5, 1.0] * 20


async def test_a_process_that_was_stopped_tries_again(clock: VirtualClock) -> None:
    """The time that a process or its machine was suspended in a request would count as an outage of the server."""
    backoff = Backoff("Kelet", clock, 300.0)
    clock.advance(3_600.0)
    await backoff.wait(TransientError("Kelet did not answer in time", took=3_600.0))
    assert backoff.elapsed == 90.5
    clock.advance(300.0)
    with pytest.raises(RetryDeadlineExceeded):
        await backoff.wait(_fault())


@pytest.mark.parametrize("asked", [0.5, 1.0, 17.0, 61.5, 3600.0])
async def test_retry_after_is_obeyed_exactly(clock: VirtualClock, asked: float) -> None:
    """A wait that is cut short is a request too many, one that is drawn out is a delay for nothing."""
    clock.chance = 0.3
    backoff = Backoff("Kelet", clock, None)
    for _ in range(10):
        await backoff.wait(_fault(asked))
    assert clock.waits == [asked] * 10


@given(asked=st.floats(-10, 0.499), chance=st.floats(0, 1), tries=st.integers(1, 30))
def test_retry_after_of_nothing_is_no_leave_to_hammer(asked: float, chance: float, tries: int) -> None:
    """`Retry-After: 0` from a server that is down would make thousands of requests a second."""
    clock = VirtualClock()
    clock.chance = chance
    backoff = Backoff("Kelet", clock, None)

    async def all_tries() -> None:
        for _ in range(tries):
            await backoff.wait(_fault(asked))

    asyncio.run(all_tries())
    assert all(wait >= max(asked, min(30.0, 0.25 * 2**number)) for number, wait in enumerate(clock.waits))


async def test_retry_after_concerns_every_caller(clock: VirtualClock) -> None:
    """Requests in flight beside the one that was told to wait would go on being refused."""
    backoff = Backoff("Kelet", clock, None)
    await backoff.ready()
    assert clock.waits == []
    reported = asyncio.create_task(backoff.wait(_fault(30.0)))
    began = clock.monotonic()
    await backoff.ready()
    await reported
    assert clock.monotonic() - began >= 30.0


async def test_wait_is_prolonged_while_it_lasts() -> None:
    """Who waits already would go too early when another caller is told to wait longer."""

    class Meanwhile(VirtualClock):
        """While the first caller of `ready` waits, another hears that it is to be 50 s more."""

        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            if self.waits == [10.0, 10.0]:
                backoff._not_before += 50.0

    clock = Meanwhile()
    backoff = Backoff("Kelet", clock, None)
    began = clock.monotonic()
    await backoff.wait(_fault(10.0))
    clock.seconds = began  # that wait was another caller's, and is still on
    await backoff.ready()
    assert clock.waits == [10.0, 10.0, 50.0]


async def test_patience_ends_an_outage_before_a_wait_that_exceeds_it(clock: VirtualClock) -> None:
    """`once` would never end, or wait for a try that it will not make."""
    backoff = Backoff("Kelet", clock, 10.0)
    for _ in range(4):
        await backoff.wait(_fault())
    with pytest.raises(
        TransientError, match=r"Kelet answered 503 \(gave up after 8 s and 5 tries; .*SYNC_PATIENCE"
    ) as caught:
        await backoff.wait(_fault())
    assert clock.waits == [0.5, 1.0, 2.0, 4.0]
    assert str(caught.value.__cause__) == "Kelet answered 503"


async def test_one_try_is_one_try(clock: VirtualClock) -> None:
    """An error would say `1 tries`."""
    with pytest.raises(TransientError, match=r"gave up after 0 s and 1 try; "):
        await Backoff("Kelet", clock, 0.1).wait(_fault())


async def test_patience_is_measured_against_retry_after(clock: VirtualClock) -> None:
    """A server that asks for an hour would hold a run of five minutes for an hour."""
    backoff = Backoff("Kelet", clock, 300.0)
    await backoff.wait(_fault(300.0))
    backoff.success()
    with pytest.raises(TransientError) as caught:
        await backoff.wait(_fault(300.5))
    assert (clock.waits, caught.value.retry_after) == ([300.0], 300.5)


async def test_no_patience_means_for_ever(clock: VirtualClock) -> None:
    """`run` would end with an outage of a weekend."""
    backoff = Backoff("Kelet", clock, None)
    for _ in range(3000):
        await backoff.wait(_fault())
    assert backoff.elapsed > 2 * 86_400


async def test_wall_clock_does_not_matter(clock: VirtualClock) -> None:
    """A clock that is set while an outage lasts would end patience, or interval it."""
    backoff = Backoff("Kelet", clock, 10.0)
    await backoff.wait(_fault())
    clock.jump(86_400)
    await backoff.wait(_fault())
    clock.jump(-2 * 86_400)
    assert backoff.elapsed == 1.5


async def test_stop_ends_a_wait_at_once() -> None:
    """SIGTERM would have to wait out a Retry-After, and the platform would kill the worker."""
    clock = SystemClock()
    backoff = Backoff("Kelet", clock, None)
    loop = asyncio.get_running_loop()
    loop.call_later(0.02, clock.stop)
    began = loop.time()
    with pytest.raises(Stopped):
        await backoff.wait(_fault(3600.0))
    assert loop.time() - began < 1.0
    with pytest.raises(Stopped):
        await backoff.ready()


async def test_log_of_a_long_outage_is_short(clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    """A weekend's outage would fill the disk, or be silent."""
    caplog.set_level(logging.INFO)
    backoff = Backoff("Kelet", clock, None)
    for _ in range(1000):
        await backoff.wait(_fault())
    assert len(caplog.records) == 11
    assert caplog.messages[0] == "Kelet answered 503; try 2 in 0.5 s, 0 s since the first error"
    assert caplog.messages[3] == "Kelet answered 503; try 5 in 4.0 s, 4 s since the first error"
    assert caplog.messages[-1].startswith("Kelet answered 503; try 513 in 60.0 s, ")
    backoff.success()
    backoff.success()
    assert caplog.messages[11:] == ["Kelet responds again after 59644 s"]


async def test_short_fault_is_one_line(clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    """One lost packet would sound like an outage."""
    caplog.set_level(logging.INFO)
    backoff = Backoff("Kelet", clock, None)
    await backoff.wait(_fault())
    backoff.success()
    assert len(caplog.records) == 1


async def test_waits_are_reported(clock: VirtualClock) -> None:
    """The status page would show a worker that does nothing."""
    reported: list[tuple[float, str]] = []
    backoff = Backoff("Kelet", clock, None)
    backoff.on_wait = lambda seconds, fault: reported.append((seconds, str(fault)))
    await backoff.wait(_fault(7.0))
    assert reported == [(7.0, "Kelet answered 503")]


@pytest.mark.parametrize(("overloaded", "waited"), [(True, 3600.0), (False, 86_000.0)])
async def test_run_waits_at_most_an_hour_for_an_overloaded_server(
    clock: VirtualClock, overloaded: bool, waited: float
) -> None:
    """A server that says "in a day" at its restart stops the worker for a day, or a quota of the day is not obeyed."""
    backoff = Backoff("Kelet", clock, None)
    await backoff.wait(TransientError("answered 503", retry_after=86_000.0, overloaded=overloaded))
    await backoff.ready()
    assert sum(clock.waits) == waited


async def test_once_does_not_shorten_what_an_overloaded_server_asks(clock: VirtualClock) -> None:
    """`once` comes back before the time that the server named."""
    backoff = Backoff("Kelet", clock, 7200.0)
    with pytest.raises(TransientError):
        await backoff.wait(TransientError("answered 503", retry_after=86_000.0, overloaded=True))
    assert clock.waits == []
