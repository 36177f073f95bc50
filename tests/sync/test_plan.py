"""What `plan` says where no count is to be had, and what its questions cost everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sync_worker.demo.serving import Reply, Request
from sync_worker.intervals import Interval
from sync_worker.langfuse.metrics_api import PATH as METRICS
from sync_worker.langfuse.page_size import MAX_LIMIT
from sync_worker.ledger import open_ledger
from sync_worker.runs.estimate import _SAMPLED, Estimate, estimate
from sync_worker.sync.engine import Engine
from sync_worker.sync.source_sync import SourceSync
from sync_worker.times import moment_ms
from tests.support import faults
from tests.support.rows import NOON, Row, row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World

HOUR = 3_600.0


def _limited_by_day(request: Request) -> Reply | None:
    """Answer as Langfuse Cloud does on its smallest plan when the day's counts are used up."""
    return faults.rate_limited(86_395, limit=100) if request.path == METRICS else None


def _small_pages(monkeypatch: pytest.MonkeyPatch, divisor: int) -> None:
    """Make pages and what is sampled smaller by a divisor, so that a small project is a large one."""
    for module in ("runs.estimate", "langfuse.page_size"):
        monkeypatch.setattr(f"sync_worker.{module}.MAX_LIMIT", MAX_LIMIT // divisor)
    monkeypatch.setattr("sync_worker.runs.estimate._SAMPLED", _SAMPLED // divisor)


def _estimate(made: World, hours: float) -> Estimate:
    settings = made.settings()
    found: list[Estimate] = []
    ledger = open_ledger(settings.state_path, made.clock)
    try:
        engine = Engine(settings, ledger, made.clock, 60.0)
        noon = moment_ms(NOON)
        interval = Interval(noon, noon + round(hours * HOUR * 1000))

        async def look(sync: SourceSync) -> None:
            found.append(await estimate(sync, interval))

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
    _small_pages(monkeypatch, 50)
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


def _uniform() -> list[Row]:
    return [one for number in range(600) for one in trace(2, start=432.0 * number, seconds=5.0)]


def _bursts_of_huge_rows() -> list[Row]:
    """Nine bursts of 100 traces within ten minutes, of very different sizes."""
    return [
        one
        for burst in range(9)
        for number in range(100)
        for one in trace(
            1, start=burst * 30_000.0 + number * 6, seconds=5.0, output="x" * (2_000 + 3_000 * (number * 7 % 12))
        )
    ]


def _empty_nights() -> list[Row]:
    """Three days on which work begins eight hours after the last ended."""
    return [
        one
        for day in range(3)
        for number in range(200)
        for one in trace(2, start=day * 86_400.0 + number * 288.0, seconds=5.0)
    ]


@pytest.mark.parametrize(("rows", "divisor"), [(_uniform, 5), (_bursts_of_huge_rows, 1), (_empty_nights, 5)])
def test_plan_says_what_the_backfill_then_costs(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, rows: Callable[[], list[Row]], divisor: int
) -> None:
    """One page stretched over the range said twice as many bytes as a run then moved, or half."""
    _small_pages(monkeypatch, divisor)
    batch = str(512 // divisor)
    made = make_world(rows(), after_noon=90 * HOUR, SYNC_COMPRESSION="none", SYNC_MAX_BATCH_SPANS=batch)
    found = _estimate(made, 80)
    assert found.margin_percent is not None
    assert found.margin_percent <= 25
    before, reads = len(made.langfuse.requests), _sizes_of_replies(made)
    noon = moment_ms(NOON)
    report, code = made.backfill(noon, noon + round(80 * HOUR * 1000))
    assert (code, report.spans_sent) == (0, len(made.langfuse.rows))
    assert found.observations == pytest.approx(report.spans_sent, rel=0.05)
    # How long an interval is depends on which of those before it are done, of two that run at once.
    assert found.langfuse_requests == pytest.approx(len(made.langfuse.requests) - before, rel=0.2, abs=2)
    assert found.kelet_requests == pytest.approx(report.kelet_requests, rel=0.2)
    assert found.bytes_sent == pytest.approx(report.bytes_sent, rel=0.2)
    assert found.bytes_read == pytest.approx(sum(reads), rel=0.2)


def _sizes_of_replies(made: World) -> list[int]:
    """Return a list that each page of observations adds its size to, from now on."""
    sizes: list[int] = []
    answer = made.langfuse._observations

    def observed(query: Any) -> Reply:
        reply = answer(query)
        sizes.append(len(reply.body))
        return reply

    made.langfuse._observations = observed  # type: ignore[method-assign]
    return sizes
