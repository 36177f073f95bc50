"""Requests a minute."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_worker.clock import Stopped, SystemClock
from sync_worker.langfuse.buckets import RateLimiters
from sync_worker.langfuse.rate_limiter import Quota, RateLimited, RateLimiter
from tests.support.clock import VirtualClock

#: What is taken where nothing is set.
USUAL = Quota(None, Fraction(4, 5))


def _set_to(limit: int | None) -> Quota:
    return Quota(limit, Fraction(4, 5))


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.integers(1, 30)),
        st.tuples(st.just("pass"), st.floats(0, 90)),
        st.tuples(st.just("learn"), st.integers(0, 20)),
        st.tuples(st.just("block"), st.floats(0, 100)),
    ),
    max_size=20,
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(_STEPS, st.none() | st.integers(1, 20))
def test_no_minute_holds_more_than_the_limit(steps: list[tuple[str, float]], limit: int | None) -> None:
    """The customer's own application would be refused because of this worker."""
    clock = VirtualClock()
    budget = RateLimiter(clock, _set_to(limit))
    times: list[float] = []
    free_at = 0.0

    async def play() -> None:
        nonlocal free_at
        for step, value in steps:
            if step == "pass":
                clock.advance(value)
            elif step == "learn":
                budget.set_limit(int(value))
            elif step == "block":
                budget.block(value)
                free_at = max(free_at, clock.monotonic() + value)
            else:
                for _ in range(int(value)):
                    await budget.acquire()
                    times.append(now := clock.monotonic())
                    assert now >= free_at
                    allowed = budget.per_minute
                    assert allowed is None or sum(1 for time in times if time > now - 60.0 + 1e-6) <= allowed

    asyncio.run(play())


async def test_limit_is_used_up(clock: VirtualClock) -> None:
    """A backfill would take longer than the limit asks for."""
    budget = RateLimiter(clock, _set_to(30))
    began = clock.monotonic()
    for _ in range(90):
        await budget.acquire()
    assert clock.monotonic() - began == 120.0


@pytest.fixture
def clock() -> VirtualClock:
    """Return a clock that the test owns."""
    return VirtualClock()


async def test_many_at_once_share_it(clock: VirtualClock) -> None:
    """Windows that are read in parallel would each take the whole limit."""
    budget = RateLimiter(clock, _set_to(5))
    times: list[float] = []

    async def one() -> None:
        await budget.acquire()
        times.append(clock.monotonic())

    await asyncio.gather(*(one() for _ in range(20)))
    assert all(sum(1 for time in times if now - 60.0 < time <= now) <= 5 for now in times)


@pytest.mark.parametrize(
    ("estimated_limit", "own"), [(1, 1), (2, 1), (4, 3), (5, 4), (15, 12), (30, 24), (100, 80), (1000, 800)]
)
def test_share_of_a_limit_that_was_learnt(clock: VirtualClock, estimated_limit: int, own: int) -> None:
    """Nothing of the organisation's limit would be left for the customer's application."""
    budget = RateLimiter(clock, USUAL)
    budget.set_limit(estimated_limit)
    assert (budget.estimated_limit, budget.per_minute) == (estimated_limit, own)


@pytest.mark.parametrize(
    ("share", "estimated_limit", "own"),
    [("1/100", 1000, 10), ("29/100", 100, 29), ("1/2", 15, 7), ("1", 30, 30), ("1/100", 30, 1)],
)
def test_share_is_the_operators_choice(clock: VirtualClock, share: str, estimated_limit: int, own: int) -> None:
    """SYNC_BUDGET_SHARE would not mean what it says, or a share of less than one request would stop the worker."""
    budget = RateLimiter(clock, Quota(None, Fraction(share)))
    budget.set_limit(estimated_limit)
    assert budget.per_minute == own


@pytest.mark.parametrize(
    ("limit", "estimated_limit", "parts", "own"),
    [(30, None, 4, 7), (None, 30, 4, 6), (None, 1000, 3, 266), (3, None, 8, 1)],
)
def test_one_of_several_takes_its_part(
    clock: VirtualClock, limit: int | None, estimated_limit: int | None, parts: int, own: int
) -> None:
    """Shards of a backfill on several machines, which cannot know of each other, would each take the whole limit."""
    budget = RateLimiter(clock, Quota(limit, Fraction(4, 5), parts))
    assert budget.per_minute == (None if limit is None else own)
    if estimated_limit is not None:
        budget.set_limit(estimated_limit)
    assert budget.per_minute == own


def test_limit_of_the_operator_is_taken_whole(clock: VirtualClock) -> None:
    """SYNC_REQUESTS_PER_MINUTE would not mean what it says."""
    budget = RateLimiter(clock, _set_to(10))
    budget.set_limit(1000)
    assert (budget.estimated_limit, budget.per_minute) == (1000, 10)


@pytest.mark.parametrize("nonsense", [0, -5])
def test_limit_of_nothing_is_not_believed(clock: VirtualClock, nonsense: int) -> None:
    """A server without a limit that says 0 would stop the worker."""
    budget = RateLimiter(clock, USUAL)
    budget.set_limit(nonsense)
    assert budget.estimated_limit is None
    assert budget.per_minute is None


async def test_lower_limit_counts_what_went_out_before(clock: VirtualClock) -> None:
    """After the first 429 the worker would send a whole limit more within the same minute."""
    budget = RateLimiter(clock, USUAL)
    for _ in range(30):
        await budget.acquire()
        clock.advance(1.0)
    assert clock.waits == []
    budget.set_limit(10)
    began = clock.monotonic()
    await budget.acquire()
    assert clock.monotonic() - began == 52.0  # 8 a minute: the eighth before it went out 8 s ago


async def test_block_holds_everybody(clock: VirtualClock) -> None:
    """Denied requests count too: the limit's window would never end."""
    budget = RateLimiter(clock, USUAL)
    budget.block(30.0)
    budget.block(10.0)
    await budget.acquire()
    assert clock.waits == [30.0]
    clock.jump(-86_400)
    await budget.acquire()
    assert clock.waits == [30.0]


async def test_stop_ends_a_wait_for_the_budget() -> None:
    """SIGTERM would have to wait for a minute."""
    clock = SystemClock()
    budget = RateLimiter(clock, USUAL)
    budget.block(60.0)
    asyncio.get_running_loop().call_later(0.02, clock.stop)
    with pytest.raises(Stopped):
        await asyncio.wait_for(budget.acquire(), 30.0)


def test_sources_of_an_organisation_share_one_budget(clock: VirtualClock) -> None:
    """Ten projects of one organisation would take ten times its limit."""
    budgets = RateLimiters(clock, _set_to(7))
    assert budgets.of("a") is budgets.of("a")
    assert budgets.of("a") is not budgets.of("b")
    assert budgets.of("b").per_minute("v2") == 7


async def test_a_wait_within_patience_is_waited_out(clock: VirtualClock) -> None:
    """A 429 of seconds would end a run that may wait for minutes, or one of minutes hold up one that may not."""
    budget = RateLimiter(clock, USUAL)
    budget.block(30.0)
    with pytest.raises(RateLimited):
        await budget.acquire(10.0)
    assert clock.waits == []
    await budget.acquire(300.0)
    assert clock.waits == [30.0]
