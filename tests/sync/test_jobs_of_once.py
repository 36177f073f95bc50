"""`once` with jobs: what a first run or an outage left is sent once each, by whatever number of processes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sync_worker.cli.lazy_crew import LazyCrew
from sync_worker.demo.receiver import TraceRequest
from sync_worker.demo.serving import Reply
from sync_worker.errors import ExitCode
from sync_worker.intervals import Interval, merged
from sync_worker.runs.division import NoJobs, Synced
from sync_worker.runs.progress import Progress
from sync_worker.sync.engine import Engine
from sync_worker.times import moment_ms
from tests.support import faults
from tests.support.rows import NOON, Row, iso, row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.processes import (
    IN_FLIGHT,
    SMALL,
    SPANS,
    arrived_spans,
    has_ended,
    hold,
    jobs_of,
    kill_a_job,
    small,
    until,
    waiting,
)
from tests.sync.world import World, identities, identity

HOURS = 8
MINUTE = 60

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads which processes there are"),
]


def backlog(begin: datetime, minutes: int = HOURS * 60 - 10) -> list[Row]:
    """Return traces that begin every five minutes and last for almost as long, so that some cross the hours."""
    return [
        one
        for number in range(minutes // 5)
        for one in trace(3, start=begin + timedelta(seconds=number * 300 + 7), seconds=290.0, session=f"s{number}")
    ]


def after_an_outage(
    make_world: MakeWorld, more: Callable[[datetime], list[Row]] = lambda _: [], **environ: str
) -> World:
    """Return a world in which hours are due up to now, or a first run that begins so long ago; `rows` are its own."""
    begin = datetime.now(UTC) - timedelta(hours=HOURS)
    return small(
        make_world, backlog(begin) + more(begin), **{"SYNC_START": iso(begin - timedelta(minutes=1)), **environ}
    )


def rows_of(made: World) -> list[Row]:
    """Return the observations in Langfuse."""
    return list(made.langfuse.rows)


def completed(made: World, state: str) -> list[tuple[str, int, int]]:
    """Return the completed intervals of a state file: role, start and end in Unix ms."""
    with closing(sqlite3.connect(made.folder / state)) as read, read:
        return read.execute("SELECT role, from_ms, to_ms FROM coverage ORDER BY 1, 2").fetchall()


def test_jobs_do_what_one_process_does(make_world: MakeWorld) -> None:
    """A span is lost, sent twice or looks otherwise; a trace that is open is sent; the report lacks what jobs did."""
    pending = row(trace="f" * 32, start=datetime.now(UTC) - timedelta(minutes=9), seconds=None, name="open")
    made = after_an_outage(make_world, lambda _: [pending])
    rows = [one for one in rows_of(made) if one["id"] != pending["id"]]
    refused = rows[60 * 4 + 2]  # an observation that is no root
    made.kelet.script = faults.refuse_span(lambda span: (span.trace_id, span.span_id) == identity(refused))
    found = {}
    for jobs in (1, 2, 4):
        made.kelet.spans.clear()
        before, state = len(made.kelet.requests), f"jobs ä {jobs}.db"
        listed = len(made.langfuse.requests)
        code, out, err = made.program("once", "--jobs", str(jobs), "--state", state, "--metrics-file", "m", "--json")
        assert code == ExitCode.DEAD_LETTERS, err
        assert made.arrived() == identities(one for one in rows if one is not refused)
        (report,) = json.loads(out)["sources"]
        sums = [report[name] for name in ("spans_sent", "dead_letters", "traces_pending", "error")]
        assert (sums, "Traceback" in err) == ([len(rows) - 1, 1, 1, None], False)
        assert report["kelet_requests"] == len(made.kelet.requests) - before
        assert report["langfuse_requests"] == len(made.langfuse.requests) - listed
        assert ("up to" in err) == (jobs > 1)
        (audit,) = [line for line in err.splitlines() if "sent " in line and "from the first run" in line]
        assert f"sent {len(rows) - 1} " in audit
        metrics = (made.folder / "m").read_text()
        assert f"{len(rows) - 1}.0" in metrics
        ((role, start, end),) = completed(made, state)  # all of it, without a gap
        found[jobs] = arrived_spans(made), role, start
        assert made.program("verify", "--state", state)[0] == 0
        assert end / 1000 > datetime.now(UTC).timestamp() - 10 * MINUTE
        made.kelet.spans.clear()
        assert made.program("once", "--jobs", str(jobs), "--state", state)[0] == 0
        assert made.kelet.spans == []
    assert found[2] == found[1]
    assert found[4] == found[1]


def test_few_observations_need_no_jobs(make_world: MakeWorld) -> None:
    """Each run of a cron job starts processes for some hundreds of observations."""
    made = after_an_outage(make_world)
    made.small = len(rows_of(made)) // 2
    code, _, err = made.program("once", "--jobs", "4")
    assert (code, "up to" in err) == (0, False), err
    assert made.arrived() == identities(rows_of(made))


def test_an_outage_after_a_first_run(make_world: MakeWorld) -> None:
    """Jobs are for first runs alone, or take the traces that were pending when the outage began to pieces."""
    made = after_an_outage(make_world)
    begin = datetime.now(UTC) - timedelta(hours=HOURS)
    late = trace(3, start=begin - timedelta(seconds=40), seconds=4 * 3600.0)  # over four of the intervals
    for one in late:
        made.langfuse.rows.add(one)
    assert made.program("once", environ={"SYNC_START": iso(begin - timedelta(minutes=3))})[0] == 0
    with (
        closing(sqlite3.connect(made.state)) as write,
        write,
    ):  # as if the run had been hours ago, and the trace pending since
        write.execute("UPDATE coverage SET to_ms = ?", [int((begin.timestamp() - 30) * 1000)])
        write.execute("DELETE FROM sent")
        write.execute("DELETE FROM traces")
        (source,) = write.execute("SELECT id FROM sources").fetchone()
        earliest = int(begin.timestamp() * 1000) - 40_000
        write.execute(
            "INSERT INTO traces (source_id, trace_id, pending, earliest_ms, newest_ms, check_ms, pending_ms, context) "
            "VALUES (?, ?, 1, ?, ?, ?, ?, '{}')",
            [source, late[0]["traceId"], earliest, earliest, earliest, earliest],
        )
    made.kelet.spans.clear()
    code, out, err = made.program("once", "--jobs", "2", "--json")
    assert (code, "up to 2 jobs" in err) == (0, True), err
    assert made.arrived() == identities(rows_of(made))
    assert json.loads(out)["sources"][0]["traces_pending"] == 0


def test_a_killed_job_is_replaced(make_world: MakeWorld) -> None:
    """Its interval is lost, the run hangs or ends; or a second run works beside it."""
    made = after_an_outage(make_world)
    kill_a_job(made, ["once", "--jobs", "2"], ["once"])
    assert len(completed(made, "state.db")) == 1


def test_a_new_run_after_a_killed_one(make_world: MakeWorld) -> None:
    """Jobs whose run was killed ask for more, or the next run reads what they have in flight before it is stored."""
    made = after_an_outage(make_world)
    rows = rows_of(made)
    with made.start("once", "--jobs", "2") as process, hold(made, process) as gate:
        until(lambda: waiting(made) == 2 * IN_FLIGHT, "too little is in flight")
        jobs = jobs_of(process.pid)
        process.kill()
        process.wait()
        asked = len(made.kelet.requests)
        gate.set()
        until(lambda: all(map(has_ended, jobs)), "jobs live on without their run")
        assert len(made.kelet.requests) == asked
    assert made.program("once", "--jobs", "2")[0] == 0
    assert made.arrived().keys() == identities(rows).keys()
    assert made.arrived().total() - len(rows) <= 2 * IN_FLIGHT * SPANS
    assert len(completed(made, "state.db")) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all(make_world: MakeWorld, number: signal.Signals) -> None:
    """A terminal's Ctrl-C ends jobs in the middle of a request, or a signal leaves them behind."""
    made = after_an_outage(make_world)
    rows = rows_of(made)
    with made.start("once", "--jobs", "2") as process, hold(made, process) as gate:
        until(lambda: waiting(made) >= 2, "nothing is in flight")
        jobs = jobs_of(process.pid)
        for pid in (*jobs, process.pid):
            os.kill(pid, number)
        gate.set()
        _, err = process.communicate(timeout=120)
    assert (process.returncode, "Traceback" in err) == (128 + number, False), err
    assert all(map(has_ended, jobs))
    assert len(made.kelet.spans) < len(rows)
    made.kelet.script = None
    assert made.program("once", "--jobs", "1")[0] == 0
    assert made.arrived() == identities(rows)


def test_an_outage_of_kelet(make_world: MakeWorld) -> None:
    """An outage while jobs work loses or repeats something, or has another exit code than in one process."""
    made = after_an_outage(make_world, SYNC_PATIENCE="1s")
    with made.start("once", "--jobs", "2", "--json") as process:
        made.kelet.script = faults.when(lambda _: bool(jobs_of(process.pid)), faults.status(503))
        out, err = process.communicate(timeout=120)
    assert process.returncode == ExitCode.TRANSIENT, err
    assert "503" in json.loads(out)["sources"][0]["error"]
    assert len(made.kelet.spans) < len(rows_of(made))
    made.kelet.script = None
    assert made.program("once", "--jobs", "2")[0] == 0
    assert made.arrived() == identities(rows_of(made))


def test_what_ends_a_job_ends_the_run(make_world: MakeWorld) -> None:
    """A rejected key is another exit code with jobs, or is reported by each of them."""
    made = after_an_outage(make_world)
    with made.start("once", "--jobs", "2", "--json") as process:
        made.kelet.script = faults.when(lambda _: bool(jobs_of(process.pid)), faults.status(401))
        out, err = process.communicate(timeout=120)
    assert process.returncode == ExitCode.CREDENTIALS, err
    assert err.count("KELET_API_KEY") == 1, err
    assert "401" in json.loads(out)["sources"][0]["error"]
    made.kelet.script = None
    assert made.program("once", "--jobs", "2")[0] == 0
    assert made.arrived() == identities(rows_of(made))


def test_a_pause_and_the_daily_limit_pause_jobs(make_world: MakeWorld) -> None:
    """Jobs send on after `pause`, or more than SYNC_MAX_SPANS_PER_DAY."""
    made = after_an_outage(make_world)
    with made.start("once", "--jobs", "2") as process, hold(made, process) as gate:
        until(lambda: waiting(made) >= 2, "nothing is in flight")
        assert made.program("pause", "default")[0] == 0
        sent = len(made.kelet.spans) + 3 * IN_FLIGHT * SPANS  # some may be on their way to the server
        assert sent < len(made.langfuse.rows) // 2
        gate.set()
        _, err = process.communicate(timeout=120)
    assert (process.returncode, len(made.kelet.spans) <= sent) == (ExitCode.PAUSED, True), err
    made.kelet.script = None
    assert made.program("resume", "default")[0] == 0
    most = len(made.kelet.spans) + 100
    code, _, err = made.program("once", "--jobs", "2", environ={"SYNC_MAX_SPANS_PER_DAY": str(most)})
    assert (code, "up to 2 jobs" in err) == (ExitCode.PAUSED, True), err
    assert most - 4 * SPANS < len(made.kelet.spans) <= most + 2 * IN_FLIGHT * SPANS
    assert made.program("once", "--jobs", "2")[0] == 0
    assert made.arrived() == identities(rows_of(made))


def test_a_project_that_is_not_there(make_world: MakeWorld) -> None:
    """What jobs could not deliver is forgotten, keeps the watermark, or ends with 0."""

    def of_shop(begin: datetime) -> list[Row]:
        return [
            one
            for number in range(HOURS * 4)
            for one in trace(3, start=begin + timedelta(minutes=number * 14), seconds=60.0, environment="shop")
        ]

    made = after_an_outage(make_world, of_shop)
    made.configure_route()

    def without_shop(request: TraceRequest) -> Reply | None:
        return faults.no_such_project("shop") if request.project == "shop" else None

    made.kelet.script = without_shop
    code, out, err = made.program("once", "--jobs", "2", "--json")
    assert (code, "up to 2 jobs" in err) == (ExitCode.PAUSED, True), err
    assert "shop" in json.loads(out)["sources"][0]["error"]
    assert made.arrived() == identities(one for one in rows_of(made) if one["environment"] != "shop")
    assert len(completed(made, "state.db")) == 1
    made.kelet.script = None
    assert made.program("once", "--jobs", "2")[0] == 0
    assert made.arrived() == identities(rows_of(made))
    assert {span.project for span in made.kelet.spans} == {"main", "shop"}


def test_a_trace_in_many_intervals_has_one_decision(make_world: MakeWorld) -> None:
    """Jobs that have parts of a trace send them to different projects."""

    def long(begin: datetime) -> list[Row]:
        root, *steps = trace(60, start=begin, seconds=(HOURS - 1) * 3600.0, trace="e" * 32)
        for number, one in enumerate(steps):
            one["environment"] = "shop" if number % 2 else "default"
        return [root | {"parentObservationId": "a" * 16, "isRootObservation": False}, *steps]

    made = after_an_outage(make_world, long)
    made.configure_route()
    code, _, err = made.program("once", "--jobs", "4")
    assert (code, "up to 4 jobs" in err) == (0, True), err
    assert made.arrived() == identities(rows_of(made))
    long_ones = {identity(one) for one in rows_of(made) if one["traceId"] == "e" * 32}
    projects = {span.project for span in made.kelet.spans if (span.trace_id, span.span_id) in long_ones}
    assert len(projects) == 1


class Recorded(LazyCrew):
    """Jobs that leave all to the process that leads them, and record what they were handed, and asked to grow for."""

    def __init__(self) -> None:
        super().__init__(2)
        self.handed: list[Interval] = []
        self.wanted: list[int] = []

    def lead(self, engine: Engine) -> None:
        """Have the engine work with these."""
        engine.jobs_of = lambda _: _Recording(self)


class _Recording(NoJobs):
    places = 1

    def __init__(self, crew: Recorded) -> None:
        self._crew = crew

    def grow(self, observations: int) -> None:
        self._crew.wanted.append(observations)

    async def sync(self, interval: Interval, progress: Progress) -> Synced | None:
        self._crew.handed.append(interval)
        return None


@pytest.mark.parametrize("above", [230, 300])
def test_jobs_take_what_is_older_than_the_longest_wait(make_world: MakeWorld, above: int) -> None:
    """Jobs take to pieces traces that have not ended, or start for less than they are worth."""
    rows = backlog(NOON)
    begin, now = NOON - timedelta(minutes=1), NOON + timedelta(hours=HOURS)
    made = make_world(rows, after_noon=HOURS * 3600.0, SYNC_START=iso(begin), SYNC_MAX_OPEN="2h")
    made.limits = replace(made.limits, interval_observations=SMALL, jobs_above=above)
    made.crew = crew = Recorded()
    report, code = made.once()
    assert (code, report.spans_sent) == (0, len(rows))
    assert made.arrived() == identities(rows)
    if above == 300:  # 48 in the first hour, and five hours left before the last two: some 240
        assert crew.handed == []
    else:
        hour, end = moment_ms(begin + timedelta(hours=1)), moment_ms(now - timedelta(hours=2))
        assert merged(crew.handed) == [Interval(hour, end)]
        assert len(crew.handed) > 2
        assert crew.wanted[0] == pytest.approx(240, abs=10)


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false"])
def test_jobs_that_cannot_start(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, program: str
) -> None:
    """A cycle that one process could do ends, or tries for ever."""
    rows = backlog(NOON)
    made = make_world(rows, after_noon=HOURS * 3600.0, SYNC_START=iso(NOON - timedelta(minutes=1)))
    made.limits = replace(made.limits, interval_observations=SMALL, jobs_above=3 * SMALL)
    monkeypatch.setattr(sys, "executable", program)
    made.crew = LazyCrew(2)
    report, code = made.once()
    assert (code, report.error, report.spans_sent) == (0, None, len(rows))
    assert "no more jobs can be started" in caplog.text
    assert made.arrived() == identities(rows)
