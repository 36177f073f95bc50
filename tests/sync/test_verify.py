"""Proof that nothing is missing, and what explains a trace."""

from __future__ import annotations

import sqlite3

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
    assert source["rows_listed"] == 120
    assert made.langfuse_requests() - before <= 2


def test_sent_row_taken_out_is_found_and_mended(make_world: MakeWorld) -> None:
    """A row that the ledger does not know is not found, or repairing sends others again."""
    rows = _rows()
    made = make_world(rows, **LONG_AGO)
    made.program("once")
    _change(made, "DELETE FROM sent WHERE row_id = ?", rows[41]["id"])
    code, found = made.program_json("verify", *ALL)
    (source,) = found["sources"]
    assert (code, source["missing"]) == (ExitCode.GAPS, 1)
    assert source["hours"][0]["examples"] == [{"trace_id": rows[41]["traceId"], "row_id": rows[41]["id"]}]
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
    _change(made, "INSERT INTO coverage SELECT source_id, role, ?, to_ms FROM coverage", noon + 15_000)
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
    assert (code, one["why"], one["project"]) == (0, "it was released", "support_test")
    assert {entry["state"] for entry in one["rows"]} == {"sent"}
    assert all(entry["sent"] and entry["request"] for entry in one["rows"])

    (one,) = made.program_json("explain", rows[4]["traceId"])[1]["sources"]
    (refused,) = [entry for entry in one["rows"] if entry["row_id"] == rows[4]["id"]]
    assert refused["state"].startswith("set aside")
    assert "400" in refused["reason"]

    (one,) = made.program_json("explain", orphan["traceId"])[1]["sources"]
    assert one["parked"]
    assert "root is not in Langfuse" in one["why"]

    (one,) = made.program_json("explain", "f" * 32)[1]["sources"]
    assert (one["in_langfuse"], one["known"]) == (False, False)
    assert made.program("explain", orphan["traceId"])[0] == 0


def test_plan_counts_before_a_backfill(make_world: MakeWorld) -> None:
    """A backfill of a whole history begins without anyone knowing what it costs."""
    made = make_world(_rows(), SYNC_REQUESTS_PER_MINUTE="30")
    code, found = made.program_json("plan", "--from", "2026-11-19T00:00:00Z", "--to", "2026-11-21T00:00:00Z")
    (one,) = found["sources"]
    assert (code, one["rows"], one["kelet_requests"]) == (0, 120, 1)
    assert 1 <= one["langfuse_requests"] <= 4
    assert one["minutes"] <= 0.2
    assert one["bytes_read"] > 50_000
    assert not made.kelet.spans
    assert made.program("plan", "--from", "2d", "--to", "now")[0] == 0
