"""`once --dry-run`, from outside of the process: what it says, and what it leaves alone."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from sync_worker.errors import ExitCode
from tests.support import faults
from tests.support.rows import Row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import identities

LONG_AGO = {"SYNC_START": "2026-11-20T00:00:00Z"}


def _rows(traces: int = 30, **changes: str) -> list[Row]:
    return [row for number in range(traces) for row in trace(3, start=float(number), seconds=5.0, **changes)]


def _files(folder: Path) -> dict[str, str]:
    """Return what is in the files of a folder."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir() if file.is_file()}


def test_it_says_what_once_then_does(make_world: MakeWorld) -> None:
    """It converts or selects in a way of its own, sends a span, makes a state file, or counts what is not sent."""
    rows = [*_rows(20), *_rows(4, environment="shop"), *_rows(3, environment="langfuse-judge")]
    for row in rows[::4]:
        row["input"] = "write to alice@example.com and bob@example.com"
    made = make_world(rows, **LONG_AGO, SYNC_REDACT="email", SYNC_SCORES="true")
    made.configure_route()
    before = _files(made.folder)
    code, result = made.program_json("once", "--dry-run")
    assert code == result["exit_code"] == 0
    (one,) = result["sources"]
    assert (one["is_complete"], one["error"]) == (True, None)
    assert (made.kelet.requests, made.kelet.spans) == ([], [])
    assert _files(made.folder) == before

    sent = made.program_json("once")[1]["sources"][0]
    assert one["spans"] == sent["spans_sent"] == len(made.kelet.spans) == 96
    assert (one["traces"], one["requests"], one["filtered"]) == (
        sent["traces_sent"], sent["kelet_requests"], sent["filtered"],
    )  # fmt: skip
    assert one["bytes"] == sent["bytes_sent"]
    assert {to["project"]: (to["spans"], to["traces"], to["is_new_project"]) for to in one["projects"]} == {
        "main": (80, 20, True), "shop": (16, 4, True),
    }  # fmt: skip
    assert one["replaced"] == {"email": sum(str(span.attributes).count("[redacted:email]") > 0 for span in
                                            made.kelet.spans) * 2}  # fmt: skip
    example = one["projects"][1]["examples"][0]
    assert example["trace_id"] in {row["traceId"] for row in rows[80:96]}
    assert example["spans"] == 4
    before = _files(made.folder)
    again = made.program_json("once", "--dry-run")[1]["sources"][0]
    assert _files(made.folder) == before
    assert (again["spans"], again["projects"]) == (0, [])


def test_beside_a_worker(make_world: MakeWorld) -> None:
    """It takes the lease from a worker, waits for it, fails beside it, or writes to its state file."""
    rows = _rows(60)
    made = make_world(rows, **LONG_AGO, SYNC_MAX_BATCH_SPANS="8")
    gate = threading.Event()
    made.kelet.script = faults.held(gate, after=lambda: len(made.kelet.spans) >= 8)
    with made.start("once") as worker:
        while len(made.kelet.spans) < 8:
            assert worker.poll() is None
        state = made.state.read_bytes()
        code, result = made.program_json("once", "--dry-run")
        assert made.state.read_bytes() == state
        assert (code, result["sources"][0]["error"]) == (0, None)
        assert 0 < result["sources"][0]["spans"] <= len(rows) - 8
        gate.set()
        assert worker.wait(timeout=60) == 0
    assert identities(rows) == made.arrived()


def test_it_stops_at_its_requests(make_world: MakeWorld) -> None:
    """A dry run of a large project reads all of it, or says nothing of where it stopped."""
    rows = _rows(3000)
    made = make_world(rows, **LONG_AGO)
    code, out, err = made.program("once", "--dry-run", "--requests", "10")
    assert (code, len(made.langfuse.requests)) == (0, 10), err
    assert "then it stopped at 10 requests: " in out
    assert "Try: --requests 50" in out
    assert made.kelet.requests == []
    assert not made.state.exists()


def test_people_see_projects_examples_and_reasons(make_world: MakeWorld) -> None:
    """The output shows a payload, or lacks the projects, an example, or what would be dead-lettered and why."""
    rows = _rows(2, sessionId="session-7", userId="user-7")
    rows[1]["input"] = "a secret of the customer"
    rows[2]["startTime"] = rows[2]["endTime"] = "1960-01-01T00:00:00.000Z"
    made = make_world(rows, **LONG_AGO)
    code, out, err = made.program("once", "--dry-run")
    assert code in {ExitCode.OK, ExitCode.DEAD_LETTERS}, err
    assert out.startswith("dry run: nothing was sent, and nothing was stored\nthere is no state file at ")
    assert "project       support_test (nothing was sent there before): " in out
    assert f"for example   {rows[4]['traceId']}, " in out
    assert "session session-7, user user-7, 4 spans" in out
    assert "all that is due" in out
    assert "secret of the customer" not in out + err


def test_options_that_contradict(make_world: MakeWorld) -> None:
    """An option that has no effect is taken without a word."""
    made = make_world([])
    for arguments in (("once", "--requests", "30"), ("once", "--dry-run", "--metrics-file", "x.prom")):
        code, _, err = made.program(*arguments)
        assert (code, "Try: " in err) == (ExitCode.USAGE, True)
    assert made.langfuse.requests == []
