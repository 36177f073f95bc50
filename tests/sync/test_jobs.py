"""`backfill --jobs`: several processes do what one does, and nothing is lost or sent twice however one of them ends."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_worker.cli.lazy_crew import LazyCrew
from sync_worker.demo.receiver import TraceRequest
from sync_worker.demo.serving import Reply
from sync_worker.errors import ExitCode
from sync_worker.ledger import Ledger, TraceNote
from sync_worker.ledger.ledger import Begun
from sync_worker.otlp.posting import STOP_GRACE
from sync_worker.times import moment_ms
from tests.support import faults
from tests.support.rows import NOON, Row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.processes import (
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
from tests.sync.world import identities, identity

HOURS = 8
RANGE = ("--from", "2026-11-20T12:00:00Z", "--to", "2026-11-20T20:00:00Z")

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads which processes there are")


def history() -> list[Row]:
    """Return traces that begin every five minutes and last for almost as long, so that some cross the hours."""
    return [
        one
        for number in range(HOURS * 12 - 2)
        for one in trace(3, start=number * 300 + number % 7, seconds=290.0, session=f"s{number}")
    ]


@pytest.mark.process
def test_jobs_do_what_one_process_does(make_world: MakeWorld) -> None:
    """A span is lost, sent twice or looks otherwise, or the report is that of one process among several."""
    rows = history()
    bad = rows[60 * 4 + 2]  # an observation that is no root
    made = small(make_world, rows)
    made.kelet.script = faults.refuse_span(lambda span: (span.trace_id, span.span_id) == identity(bad))
    found = {}
    for jobs in (1, 2, 4):
        made.kelet.spans.clear()
        before = len(made.kelet.requests)
        words = ("backfill", *RANGE, "--jobs", str(jobs), "--state", f"jobs ä {jobs}.db", "--json")
        code, out, err = made.program(*words)
        assert code == ExitCode.DEAD_LETTERS, err
        assert made.arrived() == identities(one for one in rows if one is not bad)
        (report,) = json.loads(out)["sources"]
        sums = [report[name] for name in ("spans_sent", "dead_letters", "traces_pending", "error")]
        assert (sums, "Traceback" in err) == ([len(rows) - 1, 1, 0, None], False)
        assert report["kelet_requests"] == len(made.kelet.requests) - before
        assert ("up to" in err) == (jobs > 1)
        found[jobs] = arrived_spans(made), made.program_json("status", "--state", words[-2])[1]["sources"][0]
    for jobs in (2, 4):
        assert found[jobs][0] == found[1][0]
        assert found[jobs][1]["backfilled"] == found[1][1]["backfilled"]


@pytest.mark.process
def test_a_killed_job_is_replaced(make_world: MakeWorld) -> None:
    """Its interval is lost, the run hangs or ends; or a second run works beside it."""
    made = small(make_world, history())
    kill_a_job(made, ["backfill", *RANGE, "--jobs", "2"], ["backfill", *RANGE])


@pytest.mark.process
def test_jobs_that_die_again_and_again_end_the_run(make_world: MakeWorld) -> None:
    """A trace that takes more memory than there is has jobs start for ever."""
    rows = history()
    poison = identity(rows[-1])
    made = small(make_world, rows)
    with made.start("backfill", *RANGE, "--jobs", "2", "--json") as process:

        def kill(_: TraceRequest) -> Reply:
            until(lambda: len(made.kelet.spans) >= len(rows) - 2 * SPANS or not jobs_of(process.pid), "others wait")
            for job in jobs_of(process.pid):
                os.kill(job, signal.SIGKILL)
            return faults.drop()

        made.kelet.script = faults.when(
            faults.has_span(lambda span: (span.trace_id, span.span_id) == poison), kill
        )  # fmt: skip
        out, err = process.communicate(timeout=120)
    assert process.returncode == ExitCode.TRANSIENT, err
    (printed,) = re.findall(r"3 jobs in a row died at the interval .*", err)
    assert printed.removeprefix("default: ") in json.loads(out)["sources"][0]["error"]
    made.kelet.script = None
    assert made.program("backfill", *RANGE, "--jobs", "1")[0] == 0
    assert made.arrived().keys() == identities(rows).keys()


@pytest.mark.process
def test_a_new_run_after_a_killed_one(make_world: MakeWorld) -> None:
    """Jobs whose run was killed work on, or what they had in flight is sent again by the next run."""
    rows = history()
    made = small(make_world, rows)
    with made.start("backfill", *RANGE, "--jobs", "2") as process, hold(made, process) as gate:
        until(lambda: waiting(made) >= 2, "nothing is in flight")
        jobs, killed = jobs_of(process.pid), time.monotonic()
        process.kill()
        with made.start("backfill", *RANGE, "--jobs", "2") as after:
            assert after.stderr is not None
            line = next(line for line in after.stderr if "waiting until the jobs" in line)
            in_time = time.monotonic() - killed < STOP_GRACE / 2
            gate.set()
            _, err = after.communicate(timeout=120)
    assert after.returncode == 0, line + err
    assert all(map(has_ended, jobs))
    assert made.arrived().keys() == identities(rows).keys()
    if in_time:  # else what was in flight was given up, and sent again
        assert made.arrived() == identities(rows)


@pytest.mark.process
def test_a_signal_ends_all(make_world: MakeWorld) -> None:
    """A terminal's Ctrl-C ends jobs in the middle of a request, or leaves them behind."""
    rows = history()
    made = small(make_world, rows)
    with made.start("backfill", *RANGE, "--jobs", "2") as process, hold(made, process) as gate:
        until(lambda: waiting(made) >= 2, "nothing is in flight")
        jobs = jobs_of(process.pid)
        for pid in (*jobs, process.pid):
            os.kill(pid, signal.SIGINT)
        gate.set()
        _, err = process.communicate(timeout=120)
    assert (process.returncode, "Traceback" in err) == (ExitCode.SIGINT, False), err
    assert all(map(has_ended, jobs))
    assert len(made.kelet.spans) < len(rows)
    made.kelet.script = None
    assert made.program("backfill", *RANGE, "--jobs", "1")[0] == 0
    assert made.arrived() == identities(rows)


@pytest.mark.process
def test_what_ends_a_job_ends_the_run(make_world: MakeWorld) -> None:
    """A rejected key is another exit code with jobs, or is reported by each of them."""
    rows = history()
    made = small(make_world, rows)
    with made.start("backfill", *RANGE, "--jobs", "2", "--json") as process:
        made.kelet.script = faults.when(lambda _: bool(jobs_of(process.pid)), faults.status(401))
        out, err = process.communicate(timeout=120)
    assert process.returncode == ExitCode.CREDENTIALS
    assert err.count("KELET_API_KEY") == 1, err
    assert "401" in json.loads(out)["sources"][0]["error"]


@pytest.mark.parametrize("decision", [{"project": "first", "origin": "default"}, {"left_out_by": "a rule"}])
def test_a_trace_follows_the_first_decision(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, decision: dict[str, Any]
) -> None:
    """Of a trace in two intervals that are synced at the same time, each part goes its own way."""
    rows = trace(2)
    made = make_world(rows)
    begin = Ledger.begin_sending

    def begin_late(ledger: Ledger, source_id: int, notes: Sequence[TraceNote], *more: Any, **named: Any) -> Begun:
        if not ledger.traces(source_id, [rows[0]["traceId"]]):  # as another interval decides, just before this one
            undecided = replace(notes[0], project=None, origin=None)
            ledger.store_traces(source_id, [replace(undecided, **decision)])
        return begin(ledger, source_id, notes, *more, **named)

    monkeypatch.setattr(Ledger, "begin_sending", begin_late)
    report, code = made.backfill(moment_ms(NOON), made.clock.now_ms())
    assert (code, report.error) == (0, None)
    if "project" in decision:
        assert {span.project for span in made.kelet.spans} == {"first"}
        assert made.arrived() == identities(rows)
    else:
        assert (made.kelet.spans, report.observations_filtered) == ([], len(rows))
        made.once()
        assert made.kelet.spans == []


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false"])
def test_jobs_that_cannot_start(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, program: str
) -> None:
    """A backfill that could do it alone ends, or tries for ever."""
    rows = history()
    made = make_world(rows, after_noon=HOURS * 3600.0, SYNC_JOBS="2")
    made.limits = replace(made.limits, interval_observations=SMALL)
    monkeypatch.setattr(sys, "executable", program)
    made.crew = LazyCrew(2)
    report, code = made.backfill(moment_ms(NOON), made.clock.now_ms())
    assert (code, report.error, report.spans_sent) == (0, None, len(rows))
    assert "no more jobs can be started" in caplog.text
    assert made.arrived() == identities(rows)
