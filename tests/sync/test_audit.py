"""The audit line, from outside of the process: once an hour, by what was counted since the last one."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from sync_worker.errors import ExitCode, StateError
from sync_worker.sync.audit import Audit
from tests.support import faults
from tests.support.rows import Row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities

LONG_AGO = {"SYNC_START": "2026-11-20T00:00:00Z"}


def _rows(traces: int, **changes: str) -> list[Row]:
    return [row for number in range(traces) for row in trace(3, start=float(number), seconds=5.0, **changes)]


def _audits(made: World, *command: str) -> list[dict[str, Any]]:
    code, _, err = made.program(*command)
    assert code in {ExitCode.OK, ExitCode.DEAD_LETTERS}, err
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("action") == "audit"]


def test_a_line_an_hour(make_world: MakeWorld) -> None:
    """The line comes with each run, counts what an earlier one had, or forgets what another command sent."""
    rows = [*_rows(2), *_rows(1, environment="langfuse-judge")]
    rows[0]["input"] = "alice@example.com, bob@example.com"
    rows[1]["name"] = "poison"
    made = make_world(rows, **LONG_AGO, SYNC_LOG_FORMAT="json", SYNC_REDACT="email")
    made.kelet.script = faults.refuse_span("poison")
    (line,) = _audits(made, "once")
    assert (line["level"], line["source"], line["target"], line["since"]) == ("info", "default", "kelet", None)
    assert {name: line[name] for name in ("sent", "signals", "filtered", "replaced", "dead_lettered")} == {
        "sent": {"support_test": 7},
        "signals": {},
        "filtered": {"SYNC_EXCLUDE_ENVIRONMENTS=langfuse-*": 1},
        "replaced": {"email": 2},
        "dead_lettered": {"rejected": 1},
    }
    assert ": sent 7 (support_test 7), signals 0, filtered 1 (" in line["message"]
    later = _rows(1, environment="prod")
    made.langfuse.rows.extend(later)
    command = ("backfill", "--from", "2026-11-19T00:00:00Z", "--to", "2026-11-20T00:00:00Z")
    assert [*_audits(made, "once"), *_audits(made, "once", "--dry-run"), *_audits(made, *command)] == []
    sent = len(made.kelet.spans)
    code, _, err = made.program("send", "--again", later[0]["traceId"])
    assert code == ExitCode.OK, err
    until = line["until"]

    with closing(sqlite3.connect(made.state)) as write, write:  # as if an hour had passed
        ((stored,),) = write.execute("SELECT value FROM state_keys WHERE name = 'audited'").fetchall()
        value = json.loads(stored)
        value["until_ms"] -= 3_600_000
        write.execute("UPDATE state_keys SET value = ? WHERE name = 'audited'", [json.dumps(value)])
    (line,) = _audits(made, "once")
    assert line["since"] < until < line["until"]
    assert line["sent"] == {"support_test": len(made.kelet.spans) - 7}
    assert sent < len(made.kelet.spans)
    assert (line["filtered"], line["dead_lettered"]) == ({}, {})
    assert _audits(made, "once") == []


def test_a_line_that_cannot_be_stored_undoes_no_answer(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state file that is busy while the line is due would have what was just accepted sent again."""

    def busy(_: Audit, *, at_end: bool) -> None:
        if not at_end:
            raise StateError("it is locked by another program", transient=True)

    monkeypatch.setattr(Audit, "log_if_due", busy)
    rows = _rows(2)
    made = make_world(rows)
    report, code = made.once()
    assert (report.error, code, len(made.kelet.spans)) == (None, ExitCode.OK, len(rows))
    assert made.arrived() == identities(rows)
