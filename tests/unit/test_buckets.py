"""Langfuse's limits are told apart by its buckets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from sync_worker.langfuse.buckets import LEGACY, METRICS, PUBLIC_API, Bucket, Buckets, RateLimiters, bucket_of
from sync_worker.langfuse.rate_limiter import Quota, RateLimited
from sync_worker.ledger import open_ledger
from tests.support.clock import VirtualClock

USUAL = Quota(None, Fraction(4, 5))
HOUR, DAY = 3_600.0, 86_400.0
Process = Callable[[VirtualClock], Buckets]


@pytest.fixture
def process(tmp_path: Path, request: pytest.FixtureRequest) -> Process:
    """Start processes on one state file, which end with the test."""

    def make(clock: VirtualClock) -> Buckets:
        ledger = open_ledger(tmp_path / "state.db", clock)
        request.addfinalizer(ledger.close)
        return RateLimiters(clock, USUAL, ledger.requests).of("organization o")

    return make


@pytest.mark.parametrize(
    ("path", "bucket"),
    [
        ("/api/public/v2/observations", PUBLIC_API),
        ("/api/public/v3/scores", PUBLIC_API),
        ("/api/public/media/abc", PUBLIC_API),
        ("/api/public/observations", LEGACY),
        ("/api/public/traces", LEGACY),
        ("/api/public/traces/abc", LEGACY),
        ("/api/public/traces-of-tomorrow", PUBLIC_API),
        ("/api/public/v2/metrics", METRICS),
    ],
)
def test_each_path_has_its_bucket(path: str, bucket: Bucket) -> None:
    """A limit would be kept where it does not hold, and broken where it does. (Recorded on a 4.16.0 server.)"""
    assert bucket_of(path) is bucket


async def test_one_buckets_limit_and_wait_are_no_others(process: Process) -> None:
    """A question for a count would stop the live sync for a day, in this process and all others."""
    clock = VirtualClock()
    planning, live = process(clock), process(clock)
    planning.of(METRICS).set_limit(100, 86_395)
    planning.of(METRICS).block(86_395)
    for buckets in (planning, live, process(clock)):
        assert buckets.per_minute("v2") is None
        await buckets.acquire("/api/public/v2/observations", 0.0)
        with pytest.raises(RateLimited):
            await buckets.acquire("/api/public/v2/metrics", at_once=True)
    assert clock.waits == []


async def test_limits_are_kept_apart_in_the_file(process: Process) -> None:
    """Reading by v1 would be held to the limit of v2, or the other way round."""
    clock = VirtualClock()
    first = process(clock)
    first.of(PUBLIC_API).set_limit(30, 38)
    first.of(LEGACY).set_limit(15, 20)
    first.of(METRICS).set_limit(100, 86_395)
    other = process(clock)
    assert (other.per_minute("v2"), other.per_minute("v1")) == (24, 12)
    assert (other.of(METRICS).window, other.of(METRICS).allowed) == (DAY, 80)


@pytest.mark.parametrize(("resets_in", "window"), [(30.0, HOUR), (3_000.0, HOUR), (3_601.0, DAY), (86_395.0, DAY)])
def test_window_is_as_long_as_reported(resets_in: float, window: float) -> None:
    """100 a day would be taken for 100 a minute."""
    metrics = Buckets(VirtualClock(), USUAL).of(METRICS)
    metrics.set_limit(100, resets_in)
    assert metrics.window == window


def test_window_near_its_end_is_no_shorter_one() -> None:
    """In the last hour of its day a limit of the day would become one of the hour."""
    metrics = Buckets(VirtualClock(), USUAL).of(METRICS)
    metrics.set_limit(100, 50_000.0)
    metrics.set_limit(100, 60.0)
    assert metrics.window == DAY
    metrics.set_limit(500, 60.0)  # another plan
    assert metrics.window == HOUR


async def test_limit_of_a_day_is_kept_over_processes(process: Process) -> None:
    """Each `plan` would take what is left of the day's counts from the customer's dashboards."""
    clock = VirtualClock()
    process(clock).of(METRICS).set_limit(10, 80_000.0)
    for _ in range(8):
        clock.advance(HOUR)
        await process(clock).acquire("/api/public/v2/metrics", at_once=True)
    with pytest.raises(RateLimited):
        await process(clock).acquire("/api/public/v2/metrics", at_once=True)


@pytest.mark.parametrize(("hours", "estimated_limit"), [(0.9, 100), (1.0, 110), (2.0, 121), (10.0, 259), (1e6, 9701)])
def test_limit_is_raised_while_it_is_not_reported_again(process: Process, hours: float, estimated_limit: int) -> None:
    """After a change of plan the worker would stay as slow for ever; or be without a limit after a quiet night."""
    clock = VirtualClock()
    first = process(clock).of(PUBLIC_API)
    first.set_limit(100)
    clock.advance(hours * HOUR)
    assert [budget.estimated_limit for budget in (first, process(clock).of(PUBLIC_API))] == [
        estimated_limit,
        estimated_limit,
    ]
    first.set_limit(100)
    assert [budget.estimated_limit for budget in (first, process(clock).of(PUBLIC_API))] == [100, 100]


async def test_limit_of_the_operator_is_over_all() -> None:
    """SYNC_REQUESTS_PER_MINUTE would hold once for each bucket."""
    clock = VirtualClock()
    buckets = Buckets(clock, Quota(2, Fraction(4, 5)))
    began = clock.monotonic()
    for path in ("/api/public/v2/observations", "/api/public/traces", "/api/public/v2/metrics"):
        await asyncio.wait_for(buckets.acquire(path), 60.0)
    assert clock.monotonic() - began == 60.0


async def test_sources_with_limits_of_their_own(tmp_path: Path) -> None:
    """The slow source of an organisation would slow the others; or two of them would each not see the other."""
    clock = VirtualClock()
    ledger = open_ledger(tmp_path / "state.db", clock)
    limiters = RateLimiters(clock, USUAL, ledger.requests)
    usual = limiters.of("o")
    slow, slower = (limiters.of("o", limiters.quota_of(limit, Fraction(1))) for limit in (3, 2))
    assert limiters.of("o", limiters.quota_of(3, Fraction(1))) is slow
    await slow.acquire("/api/public/v2/observations")
    await slow.acquire("/api/public/v2/observations")
    for _ in range(5):
        await asyncio.wait_for(usual.acquire("/api/public/v2/observations"), 1.0)
    began = clock.monotonic()
    await slower.acquire("/api/public/v2/observations")
    assert clock.monotonic() - began == 60.0
    slow.of(PUBLIC_API).block(30.0)
    with pytest.raises(RateLimited):
        await usual.acquire("/api/public/v2/observations", 0.0)
    ledger.close()
