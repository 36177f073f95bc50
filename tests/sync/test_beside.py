"""A backfill beside the live sync: neither takes from, repeats, or hides what the other does."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from sync_worker.intervals import Interval
from sync_worker.ledger import open_ledger
from sync_worker.ledger.claims import claim, claim_all
from sync_worker.ledger.lease import BACKFILL, LIVE, release, take
from sync_worker.sync.engine import Engine
from sync_worker.times import moment_ms
from sync_worker.watch.status import describe
from tests.support import faults
from tests.support.rows import NOON, at, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import identities

HOUR = 3600.0
START = moment_ms(NOON)


def test_backfill_leaves_pending_traces_pending(make_world: MakeWorld) -> None:
    """A backfill that meets a pending trace takes it out of pending, and its waiting rows are lost."""
    root, *children = trace(4, start=0.0, seconds=6.0)
    root["startTime"], root["endTime"], root["updatedAt"] = at(2.1), at(900), at(901)
    made = make_world(children, after_noon=120, SYNC_START="2026-11-20T12:00:02Z")
    made.once()
    made.backfill(START, START + 2_000)
    made.langfuse.rows.add(root)
    made.clock.advance(1_000)
    made.once()
    assert identities([root, *children]) == made.arrived()


def test_live_leaves_a_running_backfill_its_interval(make_world: MakeWorld) -> None:
    """The live sync sends rows that a backfill has in flight, or never comes back for that interval."""
    rows = [row for number in range(20) for row in trace(2, start=number * 60.0, seconds=5.0)]
    made = make_world(rows, after_noon=HOUR)
    holder = open_ledger(made.state, made.clock)
    made.backfill(START - 1, START)  # opens the source
    lease = take(holder, BACKFILL)
    claim(holder, 1, [Interval(START, START + 600_000)])
    report, _ = made.once()
    assert report.spans_sent == 30
    release(holder, lease)
    holder.close()
    made.clock.advance(60)
    report, _ = made.once()
    assert report.spans_sent == 30
    assert identities(rows) == made.arrived()


def test_pending_trace_in_a_backfills_interval(make_world: MakeWorld) -> None:
    """The end of a pending trace makes the live sync send what a backfill is sending at that moment."""
    root, *children = trace(2, start=0.0, seconds=6.0)
    root["endTime"], root["updatedAt"] = at(500), at(501)
    made = make_world(children, after_noon=120)
    made.once()
    made.langfuse.rows.add(root)
    made.clock.advance(600)
    holder = open_ledger(made.state, made.clock)
    lease = take(holder, BACKFILL)
    claim(holder, 1, [Interval(START, START + 1)])
    made.cycles(600)
    assert root["id"] not in {span.span_id for span in made.kelet.spans}
    release(holder, lease)
    holder.close()
    made.cycles(120)
    assert made.arrived() == identities([root, *children])


def test_trace_waits_longer_than_all_horizons_for_a_backfill(make_world: MakeWorld) -> None:
    """A trace with rows in a backfill's interval is released without them, and they are never sent if that one dies."""
    root, *children = trace(2, start=0.0, seconds=6.0)
    root["endTime"], root["updatedAt"] = at(500), at(501)
    made = make_world(children, after_noon=120, SYNC_LATE_HORIZONS="1m,10m")
    made.once()
    made.langfuse.rows.add(root)
    made.clock.advance(600)
    holder = open_ledger(made.state, made.clock)
    lease = take(holder, BACKFILL)
    claim(holder, 1, [Interval(START, START + 1)])
    made.cycles(2 * HOUR, every=600)
    assert made.arrived() == identities(children)
    holder.close()
    lease.lock.close()  # it dies
    made.cycles(120)
    assert made.arrived() == identities([root, *children])


def test_late_row_in_a_backfills_interval(make_world: MakeWorld) -> None:
    """A row that a lookback scan finds in time that another run has claimed is dropped for good."""
    made = make_world(trace(2, start=0.0, seconds=5.0), after_noon=HOUR, SYNC_LATE_HORIZONS="2h")
    made.once()
    holder = open_ledger(made.state, made.clock)
    lease = take(holder, BACKFILL)
    claim_all(holder, 1, [Interval(START, START + 600_000)])
    late = trace(1, start=60.0, seconds=5.0)
    made.langfuse.rows.extend(late)
    made.cycles(3 * HOUR, every=600)
    assert not made.arrived().keys() & identities(late).keys()
    release(holder, lease)
    holder.close()
    made.cycles(120)
    assert identities(late) <= made.arrived()
    assert set(made.arrived().values()) == {1}


def test_backfill_leaves_a_live_sync_what_it_claims(make_world: MakeWorld) -> None:
    """A backfill sends what a live sync is sending, or leaves it time that no live sync works on."""
    rows = [row for number in range(20) for row in trace(2, start=number * 60.0, seconds=5.0)]
    made = make_world(rows, after_noon=HOUR, SYNC_START="2026-11-20T12:10:00Z")
    made.backfill(START - 1, START)  # opens the source
    holder = open_ledger(made.state, made.clock)
    lease = take(holder, LIVE)
    claim(holder, 2, [Interval(0, 2**62)])  # of another source
    claim(holder, 1, [Interval(START + 600_000, 2**62)])
    report, _ = made.backfill(START, START + 3_600_000)
    assert report.spans_sent == 30
    holder.close()
    lease.lock.close()
    report, _ = made.backfill(START, START + 3_600_000)
    assert report.spans_sent == 30
    assert made.arrived() == identities(rows)


@pytest.mark.parametrize("first", ["once", "backfill"])
def test_each_begins_while_the_other_sends(make_world: MakeWorld, first: str) -> None:
    """Both read the same rows before either has noted them as sent."""
    rows = [row for number in range(20) for row in trace(2, start=number * 60.0, seconds=5.0)]
    made = make_world(rows, after_noon=HOUR, SYNC_START="2026-11-20T12:00:00Z", SYNC_MAX_BATCH_SPANS="9")
    runs = {"once": made.once, "backfill": lambda: made.backfill(START, made.clock.now_ms())}
    (second,) = runs.keys() - {first}
    begun: list[threading.Thread] = []

    def script(_: object) -> None:
        if not begun:
            begun.append(threading.Thread(target=runs[second]))
            begun[0].start()

    made.kelet.script = script
    runs[first]()
    begun[0].join()
    made.kelet.script = None
    made.cycles(120)
    made.backfill(START, made.clock.now_ms())
    assert made.arrived() == identities(rows)


def test_backfill_gives_free_what_is_done(make_world: MakeWorld) -> None:
    """A backfill holds what it has done, or all of it after a fault, until its last source is done."""
    rows = [row for number in range(20) for row in trace(2, start=number * 60.0, seconds=5.0)]
    made = make_world(rows, after_noon=HOUR)
    seen: list[list[tuple[int, int]]] = []

    def script(_: object) -> None:
        beside = open_ledger(made.state, made.clock)
        seen.append(beside.query("SELECT from_ms, to_ms FROM claims"))
        beside.close()

    made.kelet.script = script
    settings, ledger = made.settings(), open_ledger(made.state, made.clock)
    lease = take(ledger, BACKFILL)
    engine = Engine(settings, ledger, made.clock, 60.0)
    asyncio.run(engine.backfill(settings.sources[0], Interval(START, START + 3_600_000)))
    assert (seen[0], ledger.query("SELECT * FROM claims")) == ([(START, START + 3_600_000)], [])
    made.langfuse.rows.extend(trace(1, start=-60.0, seconds=1.0))
    made.kelet.script = faults.always(faults.status(401))
    asyncio.run(engine.backfill(settings.sources[0], Interval(START - 3_600_000, START)))
    assert ledger.query("SELECT * FROM claims") == []
    release(ledger, lease)
    ledger.close()


def test_backfill_says_what_is_not_looked_for(make_world: MakeWorld) -> None:
    """Who brings over history learns nowhere that late rows of it are looked for by nobody."""
    made = make_world(trace(2, start=0.0, seconds=5.0), after_noon=HOUR, SYNC_START="1m")
    report, _ = made.backfill(START - 7_200_000, made.clock.now_ms())
    assert (report.late_unseen_from_ms, report.late_unseen_to_ms) == (START - 7_200_000, made.clock.now_ms())
    (hint,) = report.hints()
    assert "verify --from 2026-11-20T10:00:00.000Z --to 2026-11-20T13:00:00.000Z" in hint
    report, _ = made.once()
    assert report.hints() == []
    made.clock.advance(3 * 24 * HOUR)
    report, _ = made.backfill(START - 7_200_000, made.clock.now_ms())
    assert report.late_unseen_to_ms == made.clock.now_ms() - 48 * 3_600_000


def test_status_counts_an_old_backfilled_gap_as_done(make_world: MakeWorld) -> None:
    """`status` tells of a lag that a backfill ended long ago."""
    rows = [row for number in range(20) for row in trace(2, start=number * 60.0, seconds=5.0)]
    made = make_world(rows, after_noon=HOUR, SYNC_LATE_HORIZONS="1m,10m")
    made.once()
    made.clock.advance(24 * HOUR)
    made.backfill(START + 1_800_000, made.clock.now_ms() - round(HOUR * 1000))
    made.once()
    ledger = open_ledger(made.state, made.clock)
    state = describe(ledger, made.clock.now_ms(), lambda _: [600_000])
    ledger.close()
    (source,) = state["sources"]
    assert source["gaps"] == []
    assert source["lag_seconds"] == 30
    assert json.dumps(state)
