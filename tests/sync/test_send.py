"""`send`: traces by id, at once, beside whatever else runs; never twice by chance."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from itertools import permutations

import pytest

from sync_worker.demo.serving import Request
from sync_worker.errors import ExitCode
from sync_worker.ledger import TraceNote, open_ledger
from sync_worker.ledger.lease import LIVE, SEND, Lease, release, take
from sync_worker.times import moment_ms
from tests.support import faults
from tests.support.rows import NOON, row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities

START = moment_ms(NOON)
HOUR = 3600.0


def rows_of(count: int) -> list[dict[str, object]]:
    return [row for number in range(count) for row in trace(1, start=number * 60.0, seconds=5.0)]


def test_a_trace_is_sent_whatever_is_completed(make_world: MakeWorld) -> None:
    """A support case from before the sync start would wait for a backfill; or the sync would send it once more."""
    rows = rows_of(4)
    made = make_world(rows, after_noon=HOUR, SYNC_START="2026-11-20T12:01:30Z")
    old, new = str(rows[0]["traceId"]), str(rows[-1]["traceId"])
    assert [(one.in_langfuse, one.sent) for one in made.send(old, new)] == [(2, 2), (2, 2)]
    assert made.arrived() == identities([*rows[:2], *rows[-2:]])
    made.once()
    made.backfill(START, START + 90_000)
    assert made.arrived() == identities(rows)


def test_what_was_sent_is_not_sent_again(make_world: MakeWorld) -> None:
    """Who types the command twice gets the trace twice."""
    rows = rows_of(1)
    made = make_world(rows, after_noon=HOUR)
    made.once()
    (found,) = made.send(str(rows[0]["traceId"]))
    assert (found.in_langfuse, found.sent, found.sent_before) == (2, 0, 2)
    assert made.arrived() == identities(rows)
    (found,) = made.send(str(rows[0]["traceId"]), again=True)
    assert (found.sent, found.sent_before) == (2, 0)
    assert set(made.arrived().values()) == {2}


@pytest.mark.parametrize("seconds", [1.0, None], ids=["ended", "open"])
def test_a_forgotten_trace_of_which_something_came_late_needs_a_decision(
    make_world: MakeWorld, seconds: float | None
) -> None:
    """The trace is known again, so all that was sent of it before counts as missing, and goes a second time."""
    rows = trace(2, start=0.0, seconds=5.0)
    trace_id = str(rows[0]["traceId"])
    made = make_world(rows, SYNC_LATE_HORIZONS="10m", SYNC_MAX_OPEN="5m", SYNC_SETTLE="0s")
    made.once()
    made.cycles(2 * HOUR, every=600)
    late = row(trace=trace_id, parent=rows[0]["id"], start=3 * HOUR - 20, seconds=seconds, name="late")
    made.langfuse.rows.add(late)
    made.cycles(HOUR / 4, every=300)
    assert made.arrived() == identities([*rows, late])
    assert [(one.forgotten, one.sent) for one in made.send(trace_id)] == [(3, 0)]
    assert made.arrived() == identities([*rows, late])
    assert [one.sent for one in made.send(trace_id, again=True)] == [4]


def test_forgotten_traces_need_a_decision(make_world: MakeWorld) -> None:
    """A trace whose records are gone would arrive a second time."""
    rows = rows_of(2)
    made = make_world(rows, after_noon=HOUR, SYNC_LATE_HORIZONS="10m", SYNC_MAX_OPEN="5m", SYNC_SETTLE="1s")
    made.once()
    made.cycles(2 * HOUR, every=600)
    late = trace(0, start=30.0, seconds=5.0)
    made.langfuse.rows.add(*late)
    results = made.send(str(rows[0]["traceId"]))
    assert [(one.forgotten, one.sent) for one in results] == [(2, 0)]
    assert made.arrived() == identities(rows)
    assert [one.sent for one in made.send(str(rows[0]["traceId"]), again=True)] == [2]


def test_an_open_observation_is_left_to_the_sync(make_world: MakeWorld) -> None:
    """It would go out as incomplete, though it ends a minute later."""
    root, child = trace(1, start=HOUR - 60, seconds=5.0)
    child["endTime"] = None
    made = make_world([root, child], after_noon=HOUR)
    (found,) = made.send(str(root["traceId"]))
    assert (found.sent, found.pending) == (1, 1)
    child["endTime"] = root["endTime"]
    made.langfuse.rows.add(child)
    made.cycles(2 * HOUR, every=300)
    assert made.arrived() == identities([root, child])


@pytest.mark.parametrize(("first", "second"), list(permutations(["once", "backfill", "send"], 2)))
def test_two_runs_send_a_trace_once(make_world: MakeWorld, first: str, second: str) -> None:
    """Both have read the trace before either has stored that it was sent."""
    rows = rows_of(3)
    made = make_world(rows, after_noon=HOUR, SYNC_START="2026-11-20T12:00:00Z", SYNC_MAX_BATCH_SPANS="2")
    ids = [str(row["traceId"]) for row in rows[::2]]
    runs: dict[str, Callable[[], object]] = {
        "once": made.once,
        "backfill": lambda: made.backfill(START, made.clock.now_ms()),
        "send": lambda: made.send(*ids),
    }
    begun: list[threading.Thread] = []

    def script(_: object) -> None:
        if not begun:
            begun.append(threading.Thread(target=runs[second]))
            begun[0].start()
            begun[0].join(0.3)  # it ends, or waits for this run

    made.kelet.script = script
    runs[first]()
    begun[0].join()
    made.kelet.script = None
    made.cycles(120)
    made.backfill(START, made.clock.now_ms())
    assert made.arrived() == identities(rows)


def test_a_claim_ends_with_its_owner(make_world: MakeWorld) -> None:
    """A killed `send` would keep its traces from every other run."""
    rows = rows_of(1)
    made = make_world(rows, after_noon=HOUR)
    made.send(str(trace(0)[0]["traceId"]))  # opens the source
    _claim(made, str(rows[0]["traceId"])).lock.close()  # as a kill does
    made.once()
    assert made.arrived() == identities(rows)


def test_a_trace_is_decided_on_once_though_two_runs_do(make_world: MakeWorld) -> None:
    """While one looks up the root of a pending trace, another sends it: a trace is in two projects."""
    child = trace(1, start=HOUR - 60, seconds=5.0)[1]
    made = make_world([child], after_noon=HOUR)
    assert made.once()[0].traces_pending == 1
    begun: list[str] = []

    def script(request: Request) -> None:
        if not begun and "isRootObservation" in request.query.get("filter", ""):
            begun.append(str(child["traceId"]))
            beside = open_ledger(made.state, made.clock)
            note = TraceNote(begun[0], pending=False, earliest_ms=START, newest_ms=START, project="elsewhere")
            beside.begin_sending(1, [note])
            beside.end_sending(1)
            beside.close()

    made.langfuse.script = script
    made.clock.advance(1900)
    report, code = made.once()
    assert (begun, report.error, code) == ([child["traceId"]], None, 0)
    assert [span.project for span in made.kelet.spans] == ["elsewhere"]


def test_a_run_sleeps_until_a_claim_has_ended(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks the state file without a pause, and takes the machine from the run that it waits for."""
    rows = rows_of(1)
    made = make_world(rows, after_noon=HOUR)
    made.send(str(trace(0)[0]["traceId"]))  # opens the source
    lease, sleep, polls = _claim(made, str(rows[0]["traceId"])), made.clock.sleep, list[float]()

    async def end_third(seconds: float) -> None:
        polls.append(seconds)
        if len(polls) == 3:
            lease.lock.close()
        await sleep(seconds)

    monkeypatch.setattr(made.clock, "sleep", end_third)
    made.once()
    assert made.arrived() == identities(rows)
    assert len(polls) == 3
    assert min(polls) > 0.1


def test_runs_that_wait_for_each_other_end(make_world: MakeWorld) -> None:
    """A run that keeps its traces while it waits for others stops two runs for ever."""
    rows = rows_of(2)
    made = make_world(rows, after_noon=HOUR)
    made.once()
    beside = open_ledger(made.state, made.clock)
    lease = take(beside, LIVE)
    one, two = (TraceNote(f"t{number}", pending=False, earliest_ms=0, newest_ms=0) for number in range(2))
    assert beside.begin_sending(1, [one]).others == set()
    other = open_ledger(made.state, made.clock)
    mine = take(other, SEND)
    assert other.begin_sending(1, [one, two]).others == {"t0"}
    assert beside.begin_sending(1, [two]).others == {"t1"}
    other.end_sending(1)
    assert beside.begin_sending(1, [two]).others == set()
    release(other, mine)
    release(beside, lease)
    beside.close()
    other.close()


def test_the_command(make_world: MakeWorld) -> None:
    """The one line would not say what became of a trace."""
    rows = rows_of(1)
    made = make_world(rows, after_noon=HOUR)
    trace_id = str(rows[0]["traceId"])
    code, out, _ = made.program("send", trace_id, "f" * 32)
    assert code == 6
    assert f"default: trace {trace_id}: 2 observations in Langfuse, 2 sent" in out
    assert f"trace {'f' * 32}: not in Langfuse" in out
    code, found = made.program_json("send", trace_id)
    assert code == 0
    assert [(one["sent"], one["sent_before"]) for one in found["traces"]] == [(0, 2)]
    assert made.arrived() == identities(rows)


def test_a_trace_that_cannot_be_sent_is_not_called_missing(make_world: MakeWorld) -> None:
    """A trace that a pause, the limit of a day or an error keeps back is said not to be in Langfuse."""
    rows = rows_of(2)
    made = make_world(rows, after_noon=HOUR, SYNC_MAX_SPANS_PER_DAY="3")
    first, second = (str(row["traceId"]) for row in rows[::2])
    code, out, _ = made.program("send", first, second)
    assert code == ExitCode.PAUSED
    assert f"trace {first}: 2 observations in Langfuse, 2 sent\n" in out
    assert f"trace {second}: 2 observations in Langfuse, 2 to send, not all delivered\n" in out
    assert made.arrived() == identities(rows[:2])
    assert made.program("pause", "default", "--project", "support_test")[0] == ExitCode.OK
    higher = {"SYNC_MAX_SPANS_PER_DAY": "0"}
    code, out, _ = made.program("send", first, second, environ=higher)
    assert code == ExitCode.PAUSED
    assert f"trace {first}: 2 observations in Langfuse, 0 sent, 2 sent before" in out
    assert f"trace {second}: 2 observations in Langfuse, 2 to send, not all delivered" in out
    assert made.program("resume", "default", "--project", "support_test")[0] == ExitCode.OK
    made.langfuse.script = faults.when(lambda request: "observations" in request.path, faults.status(403))
    code, found = made.program_json("send", second)
    assert (code, found["traces"], found["not_found"]) == (ExitCode.CREDENTIALS, [], [])
    assert f"trace {second}: not sent, and" in made.program("send", second)[1]


def _claim(made: World, trace_id: str) -> Lease:
    with closing(open_ledger(made.state, made.clock)) as ledger:
        lease = take(ledger, SEND)
        ledger.begin_sending(1, [TraceNote(trace_id, pending=False, earliest_ms=START, newest_ms=START)])
    return lease
