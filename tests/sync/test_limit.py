"""The organisation's request limit, with a server that counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sync_worker.demo.serving import Request
from sync_worker.intervals import Interval
from sync_worker.ledger import open_ledger
from sync_worker.ledger.lease import BACKFILL, LIVE, heartbeat, release, take
from sync_worker.sync.engine import Engine
from sync_worker.times import moment_ms
from tests.support import faults
from tests.support.rows import NOON, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities

START = moment_ms(NOON)
HOUR = 3_600_000
LISTING = "/api/public/v2/observations"
_SMALL_PAGES: faults.Script[Request] = faults.when(
    lambda request: int(request.query.get("limit", "1")) > 8, faults.query_timed_out()
)


def _rows(count: int) -> list[dict[str, object]]:
    return [row for number in range(count) for row in trace(2, start=number * 12.0, seconds=5.0)]


def _denied(made: World) -> int:
    return sum(1 for request in made.langfuse.requests if request.status == 429)


def _limited(made: World, limit: int) -> faults.Script[Request]:
    """Serve small pages, so that many requests are made, and only so many a minute."""
    counted = faults.on_path(LISTING, faults.limited(limit, lambda: made.clock.now_ms() / 1000))
    return faults.first_of(counted, _SMALL_PAGES)


async def _as_process(made: World, role: str, work: Callable[[Engine], Awaitable[None]]) -> None:
    """Do work with a ledger and an engine of its own, as another process would."""
    settings = made.settings()
    ledger = open_ledger(settings.state_path, made.clock)
    lease = take(ledger, role)
    try:
        await work(Engine(settings, ledger, made.clock, None))
    finally:
        release(ledger, lease)
        ledger.close()


@pytest.mark.parametrize("limit", [15, 30])
def test_live_sync_and_backfill_keep_to_one_limit(make_world: MakeWorld, limit: int) -> None:
    """Both would take what is left of the limit, and be denied over and over, and the customer's application too."""
    rows = _rows(300)
    made = make_world(rows, after_noon=3_700, SYNC_START="10m")
    made.langfuse.script = _limited(made, limit)
    filled = asyncio.Event()
    cycles: list[float] = []

    async def backfill(engine: Engine) -> None:
        _, code = await engine.backfill(engine.settings.sources[0], Interval(START, START + HOUR - 500_000))
        assert code == 0
        filled.set()

    async def live(engine: Engine) -> None:
        while not filled.is_set():
            began = made.clock.monotonic()
            _, code = await engine.live(engine.settings.sources[0])
            assert code == 0
            cycles.append(made.clock.monotonic() - began)
            assert engine.ledger.lease is not None
            heartbeat(engine.ledger, engine.ledger.lease)
            await made.clock.sleep(60)

    async def both() -> None:
        await asyncio.gather(_as_process(made, BACKFILL, backfill), _as_process(made, LIVE, live))

    asyncio.run(both())
    assert _denied(made) <= 4  # those in flight when the limit was met
    assert identities(rows) == made.arrived()
    assert len(cycles) > 3
    assert len(made.langfuse.requests) > 4 * limit


def test_run_begins_with_what_the_last_one_learnt(make_world: MakeWorld) -> None:
    """Each run of cron would find the limit out by being denied once more."""
    made = make_world(_rows(100), SYNC_START="2h")
    made.langfuse.script = _limited(made, 15)
    made.once()
    before = _denied(made)
    assert before >= 1
    for _ in range(10):
        made.clock.advance(60)
        _, code = made.once()
        assert code == 0
    assert _denied(made) == before


def test_set_limit_counts_from_the_first_request_on(make_world: MakeWorld) -> None:
    """The request that asks whose the keys are, and those of the run before, would come on top of the limit."""
    made = make_world(_rows(100), SYNC_START="2h", SYNC_REQUESTS_PER_MINUTE="10")
    made.langfuse.script = faults.first_of(faults.limited(11, lambda: made.clock.now_ms() / 1000), _SMALL_PAGES)
    for _ in range(4):
        _, code = made.once()
        assert code == 0
    made.backfill(START - HOUR, START)
    assert _denied(made) == 0


def test_limit_reported_before_the_organisation_is_known(make_world: MakeWorld) -> None:
    """What the first answer of all told would be forgotten, and be told once more."""
    made = make_world(_rows(2), SYNC_START="2h")
    made.langfuse.script = faults.in_turn(faults.rate_limited(37, limit=30))
    made.once()
    ledger = open_ledger(made.state, made.clock)
    state_keys = ledger.query("SELECT scope, value FROM state_keys WHERE name = 'limit'")
    assert [(scope.split()[0], scope.split()[-1], value.split()[:2]) for scope, value in state_keys] == [
        ("organization", "public-api", ["30", "60"])
    ]
    assert len(ledger.query("SELECT id FROM requests")) == len(made.langfuse.requests)
    ledger.close()


def test_share_of_the_learnt_limit_is_a_setting(make_world: MakeWorld) -> None:
    """SYNC_BUDGET_SHARE would change nothing: the customer's application gets less than was left to it."""
    made = make_world(_rows(200), SYNC_START="2h", SYNC_BUDGET_SHARE="20%")
    made.langfuse.script = _limited(made, 30)
    made.once()
    before = len(made.langfuse.requests)
    made.clock.advance(3_600)
    began = made.clock.monotonic()
    made.once()
    made.backfill(START - HOUR, START)
    spent = len(made.langfuse.requests) - before
    assert spent <= 6 * ((made.clock.monotonic() - began) // 60 + 1)


def test_nothing_is_written_where_there_is_no_limit(make_world: MakeWorld) -> None:
    """A self-hosted server without a limit would cost a write for every request."""
    made = make_world(_rows(20), SYNC_START="2h")
    made.once()
    ledger = open_ledger(made.state, made.clock)
    assert ledger.query("SELECT count(*) FROM requests") == [(0,)]
    assert ledger.query("SELECT seq FROM sqlite_sequence WHERE name = 'requests'") == []
    ledger.close()
    assert made.langfuse.public_key.encode() not in made.state.read_bytes()
