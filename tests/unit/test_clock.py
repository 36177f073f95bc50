"""The machine's clock: waits that end when the run is asked to stop."""

from __future__ import annotations

import asyncio
import time

import pytest

from sync_worker.clock import Clock, Stopped, SystemClock
from tests.support.clock import VirtualClock


async def test_wait_takes_its_time() -> None:
    """Pauses would be none, or not end."""
    clock = SystemClock()
    began = time.monotonic()
    await clock.sleep(0.03)
    await clock.sleep(0)
    await clock.sleep(-1)
    assert 0.03 <= time.monotonic() - began < 30.0


async def test_stop_ends_every_wait() -> None:
    """Of several requests that wait only one would hear of it."""
    clock = SystemClock()
    waits = [asyncio.create_task(clock.sleep(60.0)) for _ in range(3)]
    await asyncio.sleep(0.01)
    clock.stop()
    ended = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(end) for end in ended] == [Stopped] * 3
    with pytest.raises(Stopped):
        await clock.sleep(0)
    with pytest.raises(Stopped):
        clock.check()
    await asyncio.wait_for(clock.stopped(), 30.0)


async def test_stop_before_the_first_wait_is_noticed() -> None:
    """A signal during the start would be forgotten."""
    clock = SystemClock()
    clock.stop()
    assert clock.stopping
    with pytest.raises(Stopped):
        await clock.sleep(60.0)


def test_clocks_count_in_their_units() -> None:
    """Seconds taken for milliseconds would set the edge to 1970."""
    clock = SystemClock()
    assert abs(clock.now_ms() / 1000 - time.time()) < 5.0
    assert abs(clock.monotonic() - time.monotonic()) < 5.0
    assert all(0.0 <= clock.jitter() <= 1.0 for _ in range(100))


async def test_virtual_clock_is_a_clock() -> None:
    """Tests would prove something about another clock than the worker's."""
    clock: Clock = (virtual := VirtualClock(5_000))
    await clock.sleep(1.5)
    assert (clock.now_ms(), clock.monotonic(), virtual.waits) == (6_500, 1_001.5, [1.5])
    virtual.jump(-60.0)
    assert (clock.now_ms(), clock.monotonic()) == (-53_500, 1_001.5)
    virtual.stop()
    with pytest.raises(Stopped):
        await clock.sleep(1.0)
    with pytest.raises(Stopped):
        clock.check()
