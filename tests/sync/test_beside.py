"""A backfill beside the live sync: neither takes from, repeats, or hides what the other does."""

from __future__ import annotations

import json

from sync_worker.cli.commands.status import describe
from sync_worker.ledger import open_ledger
from sync_worker.ledger.claims import claim
from sync_worker.ledger.lease import BACKFILL, release, take
from sync_worker.times import moment_ms
from sync_worker.windows import Window
from tests.support.rows import NOON, at, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import identities

HOUR = 3600.0
START = moment_ms(NOON)


def test_backfill_leaves_parked_traces_parked(make_world: MakeWorld) -> None:
    """A backfill that meets a parked trace takes it out of parking, and its waiting rows are lost."""
    root, *children = trace(4, start=0.0, seconds=6.0)
    root["startTime"], root["endTime"], root["updatedAt"] = at(2.1), at(900), at(901)
    made = make_world(children, after_noon=120, SYNC_START="2026-11-20T12:00:02Z")
    made.once()
    made.backfill(START, START + 2_000)
    made.langfuse.rows.add(root)
    made.clock.advance(1_000)
    made.once()
    assert identities([root, *children]) == made.arrived()


def test_live_leaves_a_running_backfill_its_stretch(make_world: MakeWorld) -> None:
    """The live sync sends rows that a backfill has in flight, or never comes back for that stretch."""
    rows = [row for number in range(20) for row in trace(2, start=number * 60.0, seconds=5.0)]
    made = make_world(rows, after_noon=HOUR)
    holder = open_ledger(made.state, made.clock)
    made.backfill(START - 1, START)  # opens the source
    lease = take(holder, BACKFILL)
    claim(holder, 1, [Window(START, START + 600_000)])
    report, _ = made.once()
    assert report.spans_sent == 30
    release(holder, lease)
    holder.close()
    made.clock.advance(60)
    report, _ = made.once()
    assert report.spans_sent == 30
    assert identities(rows) == made.arrived()


def test_parked_trace_in_a_backfills_stretch(make_world: MakeWorld) -> None:
    """The end of a parked trace makes the live sync send what a backfill is sending at that moment."""
    root, *children = trace(2, start=0.0, seconds=6.0)
    root["endTime"], root["updatedAt"] = at(500), at(501)
    made = make_world(children, after_noon=120)
    made.once()
    made.langfuse.rows.add(root)
    made.clock.advance(600)
    holder = open_ledger(made.state, made.clock)
    lease = take(holder, BACKFILL)
    claim(holder, 1, [Window(START, START + 1)])
    made.cycles(600)
    assert root["id"] not in {span.span_id for span in made.kelet.spans}
    release(holder, lease)
    holder.close()
    made.cycles(120)
    assert made.arrived() == identities([root, *children])


def test_status_counts_an_old_backfilled_gap_as_done(make_world: MakeWorld) -> None:
    """`status` tells of a lag that a backfill ended long ago."""
    rows = [row for number in range(20) for row in trace(2, start=number * 60.0, seconds=5.0)]
    made = make_world(rows, after_noon=HOUR, SYNC_LATE_HORIZONS="1m,10m")
    made.once()
    made.clock.advance(24 * HOUR)
    made.backfill(START + 1_800_000, made.clock.now_ms() - round(HOUR * 1000))
    made.once()
    ledger = open_ledger(made.state, made.clock)
    state = describe(ledger, made.clock.now_ms(), [600_000])
    ledger.close()
    (source,) = state["sources"]
    assert source["gaps"] == []
    assert source["lag_seconds"] == 30
    assert json.dumps(state)
