"""SYNC_MAX_SPANS_PER_DAY, from outside of the process: what is sent on a day, and what becomes of the rest."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing

import pytest

from sync_worker.errors import ExitCode
from sync_worker.ledger import open_ledger
from sync_worker.ledger.lease import BACKFILL, SEND, release, take
from sync_worker.ledger.pauses import Pause, delete_pauses, store_pauses
from sync_worker.pipeline.daily_limit import DailyLimit
from sync_worker.pipeline.trace import Trace
from sync_worker.records import Observation
from tests.support import faults
from tests.support.rows import Row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities, identity

LONG_AGO = {"SYNC_START": "2026-11-20T00:00:00Z"}


def _rows(traces: int, spans: int = 4) -> list[Row]:
    return [row for number in range(traces) for row in trace(spans - 1, start=float(number), seconds=5.0)]


def _next_day(made: World) -> None:
    """Make what the state file counted today that of the day before."""
    with closing(sqlite3.connect(made.state)) as write, write:
        write.execute("UPDATE state_keys SET name = CAST(name AS INTEGER) - 1 WHERE scope GLOB 'days *'")
        for value, row in write.execute("SELECT value, rowid FROM state_keys WHERE name = 'daily limit'").fetchall():
            stored = json.loads(value)
            stored["day"] -= 1
            write.execute("UPDATE state_keys SET value = ? WHERE rowid = ?", [json.dumps(stored), row])


def test_whole_traces_up_to_the_limit(make_world: MakeWorld) -> None:
    """More is sent than the limit, a trace is torn, a paused source asks on, or the rest is lost the day after."""
    rows = _rows(5)
    made = make_world(rows, **LONG_AGO, SYNC_MAX_SPANS_PER_DAY="10")
    code, _, err = made.program("once")
    assert (code, len(made.kelet.spans)) == (ExitCode.PAUSED, 8)
    assert "SYNC_MAX_SPANS_PER_DAY=10: 8 spans sent on 20" in err
    assert "Nothing is lost. Try: wait, it continues by itself" in err
    counts = {one: 0 for one, _ in made.arrived()}
    for trace_id, _ in made.arrived():
        counts[trace_id] += 1
    assert set(counts.values()) == {4}
    made.langfuse.requests.clear()
    assert made.program("once")[0] == ExitCode.PAUSED
    code, _, err = made.program("backfill", "--from", "2026-11-20T00:00:00Z", "--to", "2026-11-21T00:00:00Z")
    assert (code, len(err.splitlines())) == (ExitCode.PAUSED, 1)
    assert made.langfuse.requests == []
    (source,) = made.program_json("status")[1]["sources"]
    assert (source["spans_today"], source["max_spans_per_day"]) == (8, 10)
    assert "today         8 of 10 spans" in made.program("status")[1]
    assert made.program("once", "--metrics-file", "once.prom")[0] == ExitCode.PAUSED
    metrics = (made.folder / "once.prom").read_text()
    assert 'sync_worker_paused{kelet_project="",outcome="daily_limit",source="default"} 1.0' in metrics

    _next_day(made)
    assert made.program("once")[0] == ExitCode.PAUSED
    assert len(made.kelet.spans) == 16
    assert made.program("once", environ={"SYNC_MAX_SPANS_PER_DAY": "100"})[0] == 0
    assert made.arrived() == identities(rows)


def test_explain_knows_what_was_not_sent_today(make_world: MakeWorld) -> None:
    """A trace that did not fit into the day is said to be in Kelet, since its project was decided."""
    made = make_world(_rows(3), **LONG_AGO, SYNC_MAX_SPANS_PER_DAY="10")
    assert made.program("once")[0] == ExitCode.PAUSED
    why = {
        trace_id: made.program_json("explain", trace_id)[1]["sources"][0]["why"]
        for trace_id in sorted({row["traceId"] for row in made.langfuse.rows})
    }
    assert [one == "it was sent" for one in why.values()] == [True, True, False]


def test_each_day_has_the_limit_again(make_world: MakeWorld) -> None:
    """What was sent today adds to the limit, or a day on which all fits ends as if something were left."""
    rows = _rows(5)
    made = make_world(rows, **LONG_AGO, SYNC_MAX_SPANS_PER_DAY="10")
    for sent, code in ((8, ExitCode.PAUSED), (8, ExitCode.PAUSED)):
        assert (made.once()[1], len(made.kelet.spans)) == (code, sent)
        made.clock.advance(60)
    for sent, code in ((16, ExitCode.PAUSED), (20, ExitCode.OK), (20, ExitCode.OK)):
        made.clock.advance(86_400)
        assert (made.once()[1], len(made.kelet.spans)) == (code, sent)
    assert made.arrived() == identities(rows)


def test_what_was_sent_before_counts_on_its_day(make_world: MakeWorld) -> None:
    """The limit is passed by what arrives later on a day."""
    made = make_world(_rows(2), SYNC_START="2026-11-20T00:00:00Z", SYNC_MAX_SPANS_PER_DAY="10")
    assert (made.once()[1], len(made.kelet.spans)) == (ExitCode.OK, 8)
    made.langfuse.rows.add(*_rows(1))
    made.clock.advance(600)
    assert (made.once()[1], len(made.kelet.spans)) == (ExitCode.PAUSED, 8)


def test_a_trace_that_is_larger_than_the_limit(make_world: MakeWorld) -> None:
    """A source waits for ever for a trace that never fits, or sends all of it at once."""
    rows = _rows(1, spans=12)
    made = make_world(rows, **LONG_AGO, SYNC_MAX_SPANS_PER_DAY="5")
    for sent, code in ((5, ExitCode.PAUSED), (10, ExitCode.PAUSED), (12, ExitCode.OK)):
        assert made.program("once")[0] == code
        assert len(made.kelet.spans) == sent
        _next_day(made)
    assert made.arrived() == identities(rows)


@pytest.mark.parametrize("pending", [True, False], ids=["pending", "in its interval"])
@pytest.mark.parametrize("spans", [8, 12], ids=["within the limit", "larger than the limit"])
def test_a_large_trace_is_not_put_off_for_ever(make_world: MakeWorld, spans: int, *, pending: bool) -> None:
    """New traces go first each day and leave too little for it: it never goes, and the source pauses every day."""
    made = make_world(_rows(1), **LONG_AGO, SYNC_MAX_SPANS_PER_DAY="10", SYNC_SETTLE="60s", SYNC_MAX_OPEN="2d")
    large = trace(spans - 1, start=3000.0 if pending else 3570.0, seconds=5.0)
    ended = large[0]["endTime"]
    large[0] |= {"endTime": None} if pending else {}
    made.langfuse.rows.extend(large)
    report, code = made.once()
    assert (report.traces_pending, code, len(made.kelet.spans)) == (int(pending), ExitCode.OK, 4)
    made.langfuse.rows.replace(large[0] | {"endTime": ended})
    made.clock.advance(120)
    made.once()
    for day in range(3):
        made.langfuse.rows.extend(trace(3, start=4000.0 + day * 86_400.0, seconds=5.0))
        made.clock.advance(86_400)
        made.once()
    assert made.arrived() == identities(made.langfuse.rows)


@pytest.mark.process
def test_processes_keep_the_limit_together(make_world: MakeWorld) -> None:
    """What another process has in flight does not count, and the limit is passed by that."""
    rows = _rows(2)
    early = trace(3, start=-86_400.0, seconds=5.0)  # before the sync start
    made = make_world([*rows, *early], **LONG_AGO, SYNC_MAX_SPANS_PER_DAY="10")
    gate = threading.Event()
    by_hand = {identity(row)[0] for row in early}
    made.kelet.script = faults.when(lambda request: request.spans[0].trace_id not in by_hand, faults.held(gate))
    with made.start("once") as cycle:
        made.await_requests(1)
        try:
            code, _, err = made.program("send", early[0]["traceId"])
        finally:
            gate.set()
        assert cycle.wait(timeout=60) == 0
    assert (code, "0 spans sent on 20" in err, "and 8 more on their way" in err) == (ExitCode.PAUSED, True, True), err
    assert len(made.kelet.spans) == 8
    higher = {"SYNC_MAX_SPANS_PER_DAY": "100"}
    assert made.program("send", early[0]["traceId"], environ=higher)[0] == 0
    assert made.arrived() == identities([*rows, *early])


@pytest.mark.parametrize("how", ["paused", "unknown"])
@pytest.mark.parametrize("limit", [10, 5], ids=["within the limit", "larger than the limit"])
def test_a_closed_lane_takes_nothing_of_the_day(make_world: MakeWorld, how: str, limit: int) -> None:
    """Traces of a project that is paused, or that Kelet does not know, use up each day, and no other is ever sent."""
    shop = [row for number in range(3) for row in trace(7, start=float(number), seconds=5.0, environment="shop")]
    made = make_world([*shop, *trace(3, start=60.0, seconds=5.0)], **LONG_AGO, SYNC_MAX_SPANS_PER_DAY=str(limit))
    made.configure_route()
    pause = Pause(None, "shop", made.clock.now_ms())
    if how == "paused":
        with closing(open_ledger(made.state, made.clock)) as ledger:
            store_pauses(ledger, [pause])
    else:
        made.kelet.script = faults.when(
            lambda request: request.project == "shop", faults.always(faults.no_such_project("shop"))
        )
    report, code = made.once()
    assert (report.spans_sent, report.traces_pending, code) == (4, 3, ExitCode.PAUSED)
    assert {span.project for span in made.kelet.spans} == {"main"}
    assert "SYNC_MAX_SPANS_PER_DAY" not in str(report.error)
    made.kelet.script = None
    with closing(open_ledger(made.state, made.clock)) as ledger:
        delete_pauses(ledger, [pause])
    for _ in range(9):
        made.clock.advance(86_400)
        made.once()
    assert made.arrived() == identities(made.langfuse.rows)


def _traces(*names: str) -> list[Trace]:
    """Return traces of four observations."""
    return [
        Trace(name, [Observation(f"{name}{number}", name, "p", "SPAN", number) for number in range(4)])
        for name in names
    ]


def test_what_counts_as_sent(make_world: MakeWorld) -> None:
    """The end of one delivery, of a job or of a run takes what another one is sending for not sent; or never ends."""
    made = make_world([])
    ledgers = open_ledger(made.state, made.clock), open_ledger(made.state, made.clock)
    with closing(ledgers[0]) as one, closing(ledgers[1]) as other:
        lease, beside = take(one, BACKFILL), take(other, SEND)
        mine, theirs = DailyLimit(one, 1, 10), DailyLimit(other, 1, 10)
        first = mine.admit(_traces("a"))
        mine.admit(_traces("b", "c"))
        assert theirs.admit(_traces("d")) == []
        mine.end(first)
        assert len(theirs.admit(_traces("d", "e"))) == 1
        release(one, lease)
        assert len(theirs.admit(_traces("e", "f"))) == 1
        release(other, beside)
