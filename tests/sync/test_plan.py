"""What `plan` says where no count is to be had, and what its questions cost everybody else."""

from __future__ import annotations

import asyncio

import pytest

from sync_worker.demo.serving import Reply, Request
from sync_worker.intervals import Interval
from sync_worker.langfuse.metrics import PATH as METRICS
from sync_worker.ledger import open_ledger
from sync_worker.runs.estimate import Estimate
from sync_worker.sync.engine import Engine
from sync_worker.sync.source import SourceSync
from sync_worker.times import moment_ms
from tests.support import faults
from tests.support.rows import NOON, row
from tests.sync.conftest import MakeWorld
from tests.sync.world import World

HOUR = 3_600.0


def _limited_by_day(request: Request) -> Reply | None:
    """Answer as Langfuse Cloud does on its smallest plan when the day's counts are used up."""
    return faults.rate_limited(86_395, limit=100) if request.path == METRICS else None


def _estimate(made: World, hours: float) -> Estimate:
    settings = made.settings()
    found: list[Estimate] = []
    ledger = open_ledger(settings.state_path, made.clock)
    try:
        engine = Engine(settings, ledger, made.clock, 60.0)
        noon = moment_ms(NOON)
        interval = Interval(noon, noon + round(hours * HOUR * 1000))

        async def look(sync: SourceSync) -> None:
            found.append(await sync.estimate(interval))

        report, _ = asyncio.run(engine.work(settings.sources[0], look))
        assert report.error is None
    finally:
        ledger.close()
    return found[0]


@pytest.mark.parametrize(
    "reply",
    [faults.rate_limited(86_395, limit=100), faults.status(404), faults.status(403), faults.status(500), faults.drop()],
)
def test_without_a_count_there_is_an_estimate(make_world: MakeWorld, reply: Reply) -> None:
    """`plan` would wait for a day, or say nothing, where Langfuse counts no more."""
    rows = [row(start=60.0 * number, trace=f"t{number}") for number in range(600)]
    made = make_world(rows, after_noon=11 * HOUR)
    made.langfuse.script = lambda request: reply if request.path == METRICS else None
    found = _estimate(made, 10)
    assert (found.observations, found.counted) == (600, False)  # few enough to be listed
    assert made.clock.waits == []


def test_estimate_of_more_than_can_be_listed(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backfill would take many times as long as was said."""
    monkeypatch.setattr("sync_worker.runs.estimate.MAX_LIMIT", 20)
    monkeypatch.setattr("sync_worker.langfuse.page_size.MAX_LIMIT", 20)
    rows = [row(start=10.0 * number, trace=f"t{number}") for number in range(3600)]
    made = make_world(rows, after_noon=11 * HOUR)
    found = _estimate(made, 10)
    assert not found.counted
    assert found.observations == pytest.approx(3600, rel=0.25)
    listed = [request for request in made.langfuse.requests if "fields" in request.query]
    assert len(listed) <= 40


def test_live_sync_goes_on_after_a_plan(make_world: MakeWorld) -> None:
    """A question for a count would stop the live sync for a day, and leave it at 100 requests a minute."""
    made = make_world([row(start=10.0, trace="t")], SYNC_START="2h")
    made.langfuse.script = _limited_by_day
    _estimate(made, 1)
    report, code = made.once()
    assert (report.error, code, report.spans_sent) == (None, 0, 1)
    assert made.clock.waits == []
    ledger = open_ledger(made.state, made.clock)
    state_keys = ledger.query("SELECT scope, value FROM state_keys WHERE name = 'limit'")
    ledger.close()
    assert [(scope.split()[-1], value.split()[:2]) for scope, value in state_keys] == [
        ("public-api-v2-metrics", ["100", "86400"])
    ]
    before = sum(request.path == METRICS for request in made.langfuse.requests)
    _estimate(made, 1)
    assert sum(request.path == METRICS for request in made.langfuse.requests) == before  # nor is it asked again
