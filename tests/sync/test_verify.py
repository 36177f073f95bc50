"""Proof that nothing is missing, and what explains a trace."""

from __future__ import annotations

import json
import signal
import sqlite3
import time

import pytest

from sync_worker.errors import ExitCode
from sync_worker.times import moment_ms
from tests.support import faults
from tests.support.rows import NOON, Row, row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities

LONG_AGO = {"SYNC_START": "2026-11-20T00:00:00Z", "SYNC_LATE_HORIZONS": "20m,2h,3000h"}
ALL = ("--from", "2026-11-20T00:00:00Z", "--to", "now")


def _rows(traces: int = 30) -> list[Row]:
    return [made for number in range(traces) for made in trace(3, start=float(number), seconds=5.0)]


def _change(made: World, sql: str, *values: object) -> None:
    connection = sqlite3.connect(made.state)
    with connection:
        connection.execute(sql, values)
    connection.close()


def test_all_is_there(make_world: MakeWorld) -> None:
    """A whole copy is called incomplete, or costs a request a trace."""
    made = make_world(_rows(), **LONG_AGO)
    made.program("once")
    before = made.langfuse_requests()
    code, found = made.program_json("verify", *ALL)
    (source,) = found["sources"]
    assert (code, source["complete"], source["missing"], source["gaps"]) == (0, True, 0, [])
    assert source["observations_listed"] == 120
    assert made.langfuse_requests() - before <= 2


def test_sent_row_taken_out_is_found_and_repaired(make_world: MakeWorld) -> None:
    """A row that the ledger does not know is not found, or repairing sends others again."""
    rows = _rows()
    made = make_world(rows, **LONG_AGO)
    made.program("once")
    _change(made, "DELETE FROM sent WHERE observation_id = ?", rows[41]["id"])
    code, found = made.program_json("verify", *ALL)
    (source,) = found["sources"]
    assert (code, source["missing"]) == (ExitCode.GAPS, 1)
    assert source["hours"][0]["examples"] == [{"trace_id": rows[41]["traceId"], "observation_id": rows[41]["id"]}]
    assert source["complete_to"] == "2026-11-20T12:00:00.000Z"
    code, found = made.program_json("verify", *ALL, "--repair")
    assert found["sources"][0]["reopened"]
    code, result = made.program_json("once")
    assert (code, result["sources"][0]["spans_sent"]) == (0, 1)
    assert made.program("verify", *ALL)[0] == 0


def test_gap_cut_into_the_ledger_is_found(make_world: MakeWorld) -> None:
    """A gap in what is covered is not told, or the next run does not fill it."""
    rows = _rows()
    made = make_world(rows, **LONG_AGO)
    made.program("once")
    noon = moment_ms(NOON)
    _change(made, "INSERT INTO coverage SELECT source_id, role, ?, to_ms, rules FROM coverage", noon + 15_000)
    _change(made, "UPDATE coverage SET to_ms = ? WHERE from_ms < ?", noon + 10_000, noon)
    code, found = made.program_json("verify", *ALL)
    (source,) = found["sources"]
    assert (code, len(source["gaps"])) == (ExitCode.GAPS, 1)
    assert made.program("once")[0] == 0
    assert made.program("verify", *ALL)[0] == 0
    assert identities(rows) == made.arrived()


def test_missing_rows_of_forgotten_hours_are_counted(make_world: MakeWorld) -> None:
    """Once rows are forgotten, nobody can tell any more whether an hour was whole."""
    rows = _rows()
    made = make_world(rows, SYNC_START="2026-11-20T00:00:00Z", SYNC_LATE_HORIZONS="1m,2m")
    made.program("once")
    made.program("once")
    code, found = made.program_json("verify", *ALL)
    assert (code, found["sources"][0]["complete"]) == (0, True)
    made.langfuse.rows.add(row(trace=rows[0]["traceId"], parent=rows[0]["id"], start=30.0))
    code, found = made.program_json("verify", *ALL)
    (hour,) = found["sources"][0]["hours"]
    assert (code, hour["missing"], hour["listed"], hour["forgotten"]) == (ExitCode.GAPS, 1, 121, True)


def test_explain_says_where_a_trace_stands(make_world: MakeWorld) -> None:
    """Nobody can tell why a trace is, or is not, in Kelet."""
    rows = _rows(3)
    orphan = row(parent="00000000000000aa", start=100.0, name="orphan")
    rows[4]["name"] = "poison"
    made = make_world([*rows, orphan], **LONG_AGO, SYNC_MAX_OPEN="3650d")
    made.kelet.script = faults.refuse_span("poison")
    made.program("once")

    code, found = made.program_json("explain", rows[0]["traceId"])
    (one,) = found["sources"]
    assert (code, one["why"], one["project"]) == (0, "it was sent", "support_test")
    assert {entry["state"] for entry in one["observations"]} == {"sent"}
    assert all(entry["sent"] and entry["request"] for entry in one["observations"])

    (one,) = made.program_json("explain", rows[4]["traceId"])[1]["sources"]
    (refused,) = [entry for entry in one["observations"] if entry["observation_id"] == rows[4]["id"]]
    assert refused["state"].startswith("dead-lettered")
    assert "400" in refused["reason"]

    (one,) = made.program_json("explain", orphan["traceId"])[1]["sources"]
    assert one["pending"]
    assert "root is not in Langfuse" in one["why"]

    code, found = made.program_json("explain", "f" * 32)
    (one,) = found["sources"]
    assert (one["in_langfuse"], one["known"]) == (False, False)
    assert code == found["exit_code"] == made.program("send", "f" * 32)[0] == ExitCode.GAPS
    assert made.program("explain", orphan["traceId"])[0] == 0


def test_plan_counts_before_a_backfill(make_world: MakeWorld) -> None:
    """A backfill of a whole history begins without anyone knowing what it costs."""
    made = make_world(_rows(), SYNC_REQUESTS_PER_MINUTE="300")
    between = ("--from", "2026-11-19T00:00:00Z", "--to", "2026-11-21T00:00:00Z")
    code, found = made.program_json("plan", *between)
    (one,) = found["sources"]
    assert (code, one["observations"], one["kelet_requests"]) == (0, 120, 1)
    assert one["minutes"] <= 0.2
    assert one["bytes_read"] > 50_000
    assert not made.kelet.spans
    assert made.program("plan", "--from", "2d", "--to", "now")[0] == 0
    before = made.langfuse_requests()
    assert made.program("backfill", *between)[0] == 0
    taken = made.langfuse_requests() - before  # the project of the keys may be asked for, and the API
    assert taken - 2 <= one["langfuse_requests"] <= taken


def _late_into(made: World, rows: list[Row]) -> Row:
    late = row(trace=rows[0]["traceId"], parent=rows[0]["id"], start=30.0, name="late")
    made.langfuse.rows.add(late)
    return late


RESEND = ("verify", *ALL, "--repair", "--resend")


def test_resend_of_forgotten_hours_must_be_allowed(make_world: MakeWorld) -> None:
    """Rows that came late into history cannot be sent, or others are sent again without being asked for."""
    rows = _rows()
    made = make_world(rows, SYNC_START="2026-11-20T00:00:00Z", SYNC_LATE_HORIZONS="1m,2m")
    made.program("once")
    made.program("once")
    late = _late_into(made, rows)
    code, out, _ = made.program(*RESEND)
    assert code == ExitCode.GAPS
    assert "1 of 121 observations" in out
    assert "skipped" in out
    code, found = made.program_json(*RESEND)
    (source,) = found["sources"]
    assert (code, source["hours_not_sent"], source["resent"], source["reopened"]) == (ExitCode.GAPS, 1, [], [])
    assert source["hours"][0]["again"] == 120
    assert made.arrived() == identities(rows)
    code, out, err = made.program(*RESEND, "--again")
    assert code == 0, err
    assert "sending 1 missing, and at most 120 again" in out
    assert "121 spans sent" in out
    assert made.arrived() == identities(rows) + identities([*rows, late])
    made.program("once")
    made.program("once")
    assert made.program("verify", *ALL)[0] == 0
    assert made.arrived() == identities(rows) + identities([*rows, late])


def test_resend_repeats_nothing_that_is_remembered(make_world: MakeWorld) -> None:
    """Where rows are known by name, the others of their hour go again, or what is missing takes another run."""
    rows = _rows()
    made = make_world(rows, **LONG_AGO)
    made.program("once")
    late = _late_into(made, rows)
    _change(made, "UPDATE state_keys SET value = '9000000000000' WHERE name LIKE 'late %'")
    code, found = made.program_json(*RESEND)
    (source,) = found["sources"]
    assert (code, source["complete"], source["spans_sent"], source["hours_not_sent"]) == (0, True, 1, 0)
    assert made.arrived() == identities([*rows, late])
    assert made.program_json(*RESEND)[1]["sources"][0]["spans_sent"] == 0


def test_resend_of_time_that_only_a_backfill_completed(make_world: MakeWorld) -> None:
    """History of before the sync start cannot be mended: the live sync does not go there."""
    made = make_world([], SYNC_START="1m", SYNC_LATE_HORIZONS="1m,2m")
    made.program("backfill", "--from", "2026-11-20T12:00:00Z", "--to", "2026-11-20T14:30:00Z")
    rows = _rows(3)
    made.langfuse.rows.extend(rows)
    waits = row(start=7000.0, seconds=None, name="open")
    made.langfuse.rows.add(waits)
    code, found = made.program_json("verify", "--from", "2026-11-20T12:20:00Z", "--to", "2026-11-20T12:40:00Z")
    assert (code, found["sources"][0]["missing"]) == (ExitCode.GAPS, 12)
    code, found = made.program_json(*RESEND)
    assert (code, found["sources"][0]["spans_sent"]) == (0, 13)
    assert made.arrived() == identities([*rows, waits])
    made.program("once")
    assert made.program_json(*RESEND)[1]["sources"][0]["spans_sent"] == 0
    assert made.arrived() == identities([*rows, waits])


def test_resend_that_meets_a_refusal(make_world: MakeWorld) -> None:
    """A row that Kelet refuses counts as missing for ever, or nobody is told that it did not arrive."""
    rows = _rows()
    made = make_world(rows, **LONG_AGO)
    made.program("once")
    _late_into(made, rows)
    made.kelet.script = faults.refuse_span("late")
    code, found = made.program_json(*RESEND)
    assert (code, found["sources"][0]["complete"]) == (ExitCode.DEAD_LETTERS, True)
    assert made.arrived() == identities(rows)


def test_what_a_resend_could_not_send_is_sent_by_the_next_run(make_world: MakeWorld) -> None:
    """At the limit of the day it says that it continues by itself, and no run ever sends what is left."""
    rows = [made for hour in range(3) for made in trace(3, start=hour * 3600.0, seconds=5.0)]
    made = make_world(rows, **LONG_AGO)
    made.program("once")
    for name in ("sent", "traces"):
        _change(made, f"DELETE FROM {name}")
    made.kelet.clear()
    code, out, err = made.program(*RESEND, environ={"SYNC_MAX_SPANS_PER_DAY": str(len(rows) + 5)})
    assert (code, len(made.kelet.spans)) == (ExitCode.PAUSED, 4)
    assert "it continues by itself" in err
    assert "2 intervals are reopened, from 2026-11-20T13:00:00.000Z to 2026-11-20T15:00:00.000Z" in err
    assert "complete" not in out
    assert made.program("once")[0] == 0
    assert made.arrived() == identities(rows)


def test_resend_beside_a_pause_is_no_success(make_world: MakeWorld) -> None:
    """Nothing was sent, and the command that was to send it ends with 0."""
    rows = _rows(1)
    made = make_world(rows, **LONG_AGO)
    made.program("once")
    for name in ("sent", "traces"):
        _change(made, f"DELETE FROM {name}")
    made.kelet.clear()
    assert made.program("pause", "--project", "support_test")[0] == 0
    code, found = made.program_json(*RESEND)
    assert (code, found["exit_code"], found["sources"][0]["spans_sent"]) == (ExitCode.PAUSED, ExitCode.PAUSED, 0)
    assert "is paused since" in found["errors"]["default"]
    assert made.program("resume", "--project", "support_test")[0] == 0
    assert made.program("once")[0] == 0
    assert made.arrived() == identities(rows)


def test_resend_beside_a_live_sync(make_world: MakeWorld) -> None:
    """A resend beside `run` never begins, or both send the same rows."""
    rows = _rows()
    made = make_world(rows, **LONG_AGO, SYNC_INTERVAL="1s", SYNC_UPDATES="ignore")
    made.program("once")
    late = _late_into(made, rows)
    with made.start("run") as process:
        code, found = made.program_json(*RESEND)
        process.terminate()
        process.communicate(timeout=60)
    assert (code, found["sources"][0]["complete"]) == (0, True)
    assert made.arrived() == identities([*rows, late])


def test_options_that_go_together(make_world: MakeWorld) -> None:
    """`--resend` alone is passed over, and nothing is sent."""
    made = make_world([])
    for options in (["--resend"], ["--repair", "--again"], ["--again"]):
        code, _, err = made.program("verify", *options)
        assert (code, "Try: verify --repair --resend" in err) == (ExitCode.USAGE, True)


def test_killed_resend_leaves_no_hour_that_looks_whole(make_world: MakeWorld) -> None:
    """What a killed resend sent is counted twice: `verify` finds nothing missing, and the late row never goes."""
    rows = _rows()
    made = make_world(rows, SYNC_START="2026-11-20T00:00:00Z", SYNC_LATE_HORIZONS="1m,2m", SYNC_MAX_BATCH_SPANS="20")
    made.program("once")
    made.program("once")
    late = _late_into(made, rows)
    made.kelet.script = faults.in_turn(None, None, None, *[faults.status(503)] * 900)
    with made.start(*RESEND, "--again") as process:
        deadline = time.monotonic() + 30
        while len(made.kelet.spans) < 150:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        process.communicate()
    made.kelet.script = None
    assert made.program("verify", *ALL)[0] == ExitCode.GAPS
    assert made.program(*RESEND, "--again")[0] == 0
    assert made.arrived().keys() == identities([*rows, late]).keys()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_before_it_compared(make_world: MakeWorld, number: int, code: int) -> None:
    """A verification that was stopped while Langfuse did not answer ends as one that found nothing missing."""
    made = make_world(_rows(2), **LONG_AGO)
    assert made.program("once")[0] == 0
    asked = len(made.langfuse.requests)
    made.langfuse.script = faults.always(faults.slow(90.0))
    with made.start("verify", *ALL, "--json") as process:
        deadline = time.monotonic() + 30
        while len(made.langfuse.requests) == asked and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert json.loads(out)["exit_code"] == code
