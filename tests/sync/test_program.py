"""The program as a process: exit codes, signals, kills, what it prints."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sync_worker.errors import ExitCode
from tests.support import faults
from tests.support.rows import Row, iso, row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import KEY, World, identities

#: Long before the clock of any machine that runs this.
LONG_AGO = {"SYNC_START": "2026-11-20T00:00:00Z"}


def _rows(traces: int = 30) -> list[Row]:
    return [row for number in range(traces) for row in trace(3, start=float(number), seconds=5.0)]


def _until_asked(made: World) -> None:
    deadline = time.monotonic() + 60
    while not made.kelet.requests:
        assert time.monotonic() < deadline, "Kelet was not asked"
        time.sleep(0.01)


def test_once_json(make_world: MakeWorld) -> None:
    """A script that reads the result finds other words, or talk on stdout."""
    made = make_world(_rows(), **LONG_AGO)
    code, result = made.program_json("once")
    (source,) = result["sources"]
    assert (code, result["exit_code"], source["spans_sent"], source["error"]) == (0, 0, 120, None)
    assert identities(_rows_of(made)) == made.arrived()


def _rows_of(made: World) -> list[Row]:
    return list(made.langfuse.rows)


def test_nothing_secret_is_printed_or_stored(make_world: MakeWorld) -> None:
    """A key stands in a log, an error, the state file or the output of a command."""
    made = make_world(_rows(), **LONG_AGO, SYNC_LOG_LEVEL="debug")
    made.kelet.script = faults.in_turn(faults.status(503), faults.status(429, retry_after=0))
    printed = ""
    for command in (["once"], ["check"], ["status"], ["config", "show"], ["dead-letters", "list"]):
        code, out, err = made.program(*command)
        assert code == 0, err
        printed += out + err
    stored = b"".join(file.read_bytes() for file in made.folder.iterdir() if file.is_file())
    for secret in (made.langfuse.secret_key, KEY):
        assert secret not in printed
        assert secret.encode() not in stored


@pytest.mark.parametrize(
    ("name", "value", "expected", "code"),
    [
        ("LANGFUSE_SECRET_KEY", "", "LANGFUSE_SECRET_KEY", ExitCode.USAGE),
        ("KELET_PROJECT", "default", "KELET_PROJECT", ExitCode.USAGE),
        ("SYNC_SETTLE", "soon", "SYNC_SETTLE", ExitCode.USAGE),
        ("LANGFUSE_SECRET_KEY", "sk-lf-wrong", "LANGFUSE_SECRET_KEY", ExitCode.CREDENTIALS),
        ("KELET_API_KEY", "wrong-key", "KELET_API_KEY", ExitCode.CREDENTIALS),
        ("SYNC_STATE_PATH", "/nowhere/at/all/state.db", "/nowhere/at/all", ExitCode.USAGE),
        ("SYNC_START", "2099-01-01T00:00:00Z", "SYNC_START", ExitCode.USAGE),
        ("SYNC_LANGFUSE_API", "v3", "SYNC_LANGFUSE_API", ExitCode.USAGE),
    ],
)
def test_wrong_setting_gives_a_line(make_world: MakeWorld, name: str, value: str, expected: str, code: int) -> None:
    """A wrong setting ends in a traceback, in another exit code, or in a message that does not name it."""
    made = make_world(_rows(1), **LONG_AGO)
    found, out, err = made.program("once", environ={name: value})
    assert found == code
    assert expected in err
    assert "Traceback" not in err
    assert out == ""
    if value.endswith("wrong"):
        assert value not in err


def test_unknown_command_is_usage(make_world: MakeWorld) -> None:
    """A mistyped command ends in another exit code than 2."""
    made = make_world([])
    code, _, err = made.program("onec")
    assert (code, "Traceback" in err) == (2, False)


def test_second_run_at_the_same_time(make_world: MakeWorld) -> None:
    """Two runs work on one state file at once."""
    made = make_world(_rows(), **LONG_AGO)
    gate = threading.Event()
    made.kelet.script = faults.held(gate)
    with made.start("once") as first:
        _until_asked(made)
        code, _, err = made.program("once")
        gate.set()
        assert code == ExitCode.LEASE
        assert "another run" in err
        first.communicate(timeout=60)
    assert first.returncode == 0
    assert identities(_rows_of(made)) == made.arrived()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_finishes_what_is_in_flight(make_world: MakeWorld, number: int, code: int) -> None:
    """A stop in the middle loses the answer of a batch in flight, or goes on with what is not."""
    rows = _rows(60)
    made = make_world(rows, **LONG_AGO, SYNC_MAX_BATCH_SPANS="8")
    gate = threading.Event()
    made.kelet.script = faults.held(gate, after=lambda: len(made.kelet.spans) >= 8)
    with made.start("once") as process:
        made.await_spans(8)
        process.send_signal(number)
        gate.set()
        _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    arrived = sum(made.arrived().values())
    assert arrived < len(rows)
    made.kelet.script = None
    assert made.program("once")[0] == 0
    assert identities(rows) == made.arrived()


def test_second_signal_stops_at_once(make_world: MakeWorld) -> None:
    """A second Ctrl-C waits for a server that does not answer."""
    made = make_world(_rows(), **LONG_AGO)
    gate = threading.Event()
    made.kelet.script = faults.held(gate)
    with made.start("once") as process:
        _until_asked(made)
        started = time.monotonic()
        while process.poll() is None:  # a signal that comes before the first one was seen counts as the same
            assert time.monotonic() - started < 8, "it waits as long as after one signal"
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        process.communicate(timeout=60)
    gate.set()
    assert process.returncode == 130


def test_run_syncs_what_comes_and_stops_with_0(make_world: MakeWorld) -> None:
    """`run` misses a row that comes later, dies of a failing cycle, or ends a SIGTERM with another code than 0."""
    first = _rows(5)
    made = make_world(first, **LONG_AGO, SYNC_INTERVAL="200ms", SYNC_SETTLE="100ms")
    made.kelet.script = faults.in_turn(faults.status(503), faults.drop())
    with made.start("run") as process:
        made.await_spans(20)
        later = trace(1, start=iso_now(), seconds=0.0)
        for row in later:
            row["endTime"] = row["updatedAt"] = row["startTime"]
        made.langfuse.script = faults.in_turn(faults.status(500))
        made.langfuse.rows.extend(later)
        made.await_spans(22)
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert identities([*first, *later]) == made.arrived()
    assert "Traceback" not in err


def iso_now() -> str:
    """Return the present time in the form of the wire."""
    from datetime import UTC, datetime

    return iso(datetime.now(UTC))


def test_run_ends_with_4_when_no_key_is_left(make_world: MakeWorld) -> None:
    """A worker whose only key is refused runs on for ever without a word."""
    made = make_world([], SYNC_INTERVAL="200ms")
    code, _, err = made.program("run", environ={"LANGFUSE_SECRET_KEY": "sk-lf-revoked"})
    assert code == ExitCode.CREDENTIALS, err


def test_kill_at_any_moment_loses_nothing(make_world: MakeWorld) -> None:
    """A `kill -9` loses a row, or repeats more than the batches in flight."""
    rows = _rows(150)
    chance = random.Random(7)
    made = make_world(rows, **LONG_AGO, SYNC_MAX_BATCH_SPANS="16")
    made.kelet.script = faults.always(faults.slow(0.02))
    kills = 0
    for _ in range(8):
        seen = len(made.kelet.spans)
        with made.start("once") as process:
            deadline = time.monotonic() + 20
            wanted = seen + chance.randrange(1, 90)
            while len(made.kelet.spans) < wanted and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            killed = process.poll() is None
            process.kill()
            process.communicate(timeout=60)
        kills += killed
    made.kelet.script = None
    code, _, err = made.program("once")
    assert code == 0, err
    assert kills >= 3
    arrived = made.arrived()
    assert set(identities(rows)) == set(arrived)
    assert sum(arrived.values()) - len(rows) <= kills * 4 * 16
    with closing(sqlite3.connect(made.state)) as read:
        check = read.execute("PRAGMA quick_check").fetchone()[0]
    assert check == "ok"


def test_dead_letters(make_world: MakeWorld) -> None:
    """A dead letter cannot be seen, sent again once the fault is mended, or dropped for good."""
    rows = _rows(10)
    rows[5]["name"] = rows[9]["name"] = "poison"
    made = make_world(rows, **LONG_AGO)
    made.kelet.script = faults.refuse_span("poison")
    assert made.program("once")[0] == ExitCode.DEAD_LETTERS
    code, listed = made.program_json("dead-letters", "list")
    letters = listed["dead_letters"]
    assert (code, [letter["kind"] for letter in letters]) == (0, ["rejected", "rejected"])
    assert {letter["observation_id"] for letter in letters} == {rows[5]["id"], rows[9]["id"]}
    first, second = (str(letter["id"]) for letter in letters)

    code, result = made.program_json("dead-letters", "retry", first)
    assert (code, result["sent"], result["rejected_again"]) == (ExitCode.DEAD_LETTERS, 0, 1)
    made.kelet.script = None
    assert made.program("dead-letters", "drop", second)[0] == 0
    code, result = made.program_json("dead-letters", "retry", "--all")
    assert (code, result["sent"]) == (0, 1)
    assert made.program_json("dead-letters", "list")[1] == {"dead_letters": [], "next": None}
    assert made.program("once")[0] == 0
    assert sum(made.arrived().values()) == len(rows) - 1
    assert made.program("dead-letters", "drop", "99")[0] == ExitCode.USAGE


def test_backfill_goes_on_where_it_stopped(make_world: MakeWorld) -> None:
    """An interrupted backfill restarts, repeats what arrived, or moves the edge of the live sync."""
    rows = _rows(150)
    made = make_world(rows, SYNC_MAX_BATCH_SPANS="16")
    gate = threading.Event()
    made.kelet.script = faults.held(gate, after=lambda: len(made.kelet.spans) >= 64)
    command = ("backfill", "--from", "2026-11-19T00:00:00Z", "--to", "2026-11-21T00:00:00Z")
    with made.start(*command) as process:
        made.await_spans(64)
        process.terminate()
        gate.set()
        process.communicate(timeout=60)
    assert process.returncode == 143
    made.kelet.script = None
    code, result = made.program_json(*command)
    assert (code, result["sources"][0]["complete_to_ms"]) == (0, None)
    assert identities(rows) == made.arrived()
    before = made.langfuse_requests()
    code, result = made.program_json(*command)
    assert (code, result["sources"][0]["spans_sent"]) == (0, 0)
    assert made.langfuse_requests() - before == 0


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [("2026-11-21T00:00:00Z", "2026-11-20T00:00:00Z", "--from"), ("yesterday", "now", "--from"),
     ("30d", "2026-11-20 00:00", "--to")],
)  # fmt: skip
def test_backfill_times(make_world: MakeWorld, start: str, end: str, expected: str) -> None:
    """A wrong time gives a traceback, or a backfill of something else."""
    code, _, err = make_world([]).program("backfill", "--from", start, "--to", end)
    assert (code, "Traceback" in err) == (2, False)
    assert expected in err


def test_status_reports_how_far_it_is(make_world: MakeWorld) -> None:
    """`status` asks a server, or does not tell the edge, the lag and what waits."""
    made = make_world(_rows(2), **LONG_AGO)
    assert made.program("status")[0] == ExitCode.USAGE
    made.program("once")
    before = made.langfuse_requests()
    code, state = made.program_json("status")
    (source,) = state["sources"]
    assert (code, source["pending_traces"], source["dead_letters"], source["gaps"]) == (0, 0, 0, [])
    assert source["sync_start"] == "2026-11-20T00:00:00.000Z"
    assert 30 <= source["lag_seconds"] < 90
    assert made.langfuse_requests() == before


def test_check_finds_what_is_wrong(make_world: MakeWorld) -> None:
    """`check` says all is well with a key that is refused, or ends at the first thing that is not."""
    made = make_world(_rows(2), **LONG_AGO)
    assert made.program("check")[0] == 0
    code, result = made.program_json("check")
    assert (code, all(line["ok"] for line in result["checks"])) == (0, True)
    made.environ["KELET_API_KEY"] = "revoked-key"
    code, result = made.program_json("check")
    assert code == ExitCode.CREDENTIALS
    assert [line["ok"] for line in result["checks"]].count(False) == 1
    assert not made.kelet.spans


def test_demo_needs_nothing(make_world: MakeWorld) -> None:
    """The first command a new user types fails without an account, or shows no tree."""
    made = make_world([])
    made.environ.clear()
    code, out, err = made.program("demo")
    assert code == 0, err
    assert "├─ llm" in out
    assert "161 spans of 37 traces and 7 signals arrived" in err


def test_state_file_of_another_program(make_world: MakeWorld, tmp_path: Path) -> None:
    """A file that is not the worker's is written to."""
    made = make_world(_rows(1), **LONG_AGO)
    made.state.write_text("this is somebody's letter, and it is long enough to be taken for a database file\n" * 30)
    before = made.state.read_bytes()
    code, _, err = made.program("once")
    assert (code, made.state.read_bytes() == before) == (ExitCode.USAGE, True)
    assert "Traceback" not in err


def test_json_errors(make_world: MakeWorld) -> None:
    """A script that asked for JSON gets no object when the command fails."""
    made = make_world([])
    made.environ["KELET_PROJECT"] = ""
    code, out, _ = made.program("once", "--json")
    assert code == ExitCode.USAGE
    assert json.loads(out)["exit_code"] == ExitCode.USAGE


def test_closed_pipe_is_no_error(make_world: MakeWorld) -> None:
    """`sync-worker demo | head -1` ends in a traceback."""
    made = make_world([])
    with made.start("demo") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        process.wait(timeout=20)
    assert "Traceback" not in err


def test_dead_letters_of_one_id_in_two_traces_are_both_retried(make_world: MakeWorld) -> None:
    """Ids of observations are the maker's choice: a child numbered in each trace would stay a dead letter in one."""
    roots = [row(name="root"), row(name="root")]
    steps = [row(trace=root["traceId"], id="step-1", parent=root["id"], name="poison") for root in roots]
    made = make_world([*roots, *steps])
    made.kelet.script = faults.when(faults.has_span("poison"), faults.status(400))
    assert made.once()[0].dead_letters == 2
    made.kelet.script = None
    code, result = made.program_json("dead-letters", "retry", "--all")
    assert (code, result["sent"], result["left"]) == (0, 2, 0)


def test_dead_letters_at_their_limit(make_world: MakeWorld) -> None:
    """At the limit something is lost, or sent twice; or nobody is told what to type; or all is shown on one page."""
    rows = [item for number in range(12) for item in trace(1, start=float(number))]
    for item in rows[::2]:
        item["name"] = "poison"
    made = make_world(rows, SYNC_MAX_DEAD_LETTERS="4", SYNC_MAX_BATCH_SPANS="1", **LONG_AGO)
    made.kelet.script = faults.refuse_span("poison")
    code, _, err = made.program("once")
    assert code == ExitCode.PAUSED
    assert "SYNC_MAX_DEAD_LETTERS" in err
    assert "dead-letters drop --all" in err
    assert "Traceback" not in err
    assert made.program("once")[0] == ExitCode.PAUSED
    seen: list[int] = []
    after = "0"
    while after != "None":
        code, page = made.program_json("dead-letters", "list", "--limit", "3", "--after", after)
        seen += [letter["id"] for letter in page["dead_letters"]]
        after = str(page["next"])
    assert len(seen) == 4 == len(set(seen))
    assert f"--after {sorted(seen)[2]}" in made.program("dead-letters", "list", "--limit", "3")[2]
    assert made.program("dead-letters", "list", "--limit", "0")[0] == ExitCode.USAGE
    made.kelet.script = None
    assert made.program("dead-letters", "retry", "--all")[0] == 0
    assert made.program("once")[0] == 0
    assert made.arrived() == identities(rows)


def test_run_beside_a_backfill_to_now(make_world: MakeWorld) -> None:
    """Beside a backfill up to now, one of both sends what the other does, or each leaves a row to the other."""
    now = datetime.now(UTC)
    rows = [made for number in range(120) for made in trace(2, start=now - timedelta(seconds=45 * number), seconds=5.0)]
    made = make_world(
        rows,
        SYNC_START="30m",
        SYNC_INTERVAL="1s",
        SYNC_SETTLE="1s",
        SYNC_MAX_BATCH_SPANS="20",
        SYNC_LATE_HORIZONS="1m,3h",
    )
    made.kelet.script = faults.always(faults.slow(0.05))
    killed = made.start("backfill", "--from", "1h", "--to", "now")
    with made.start("run") as run:
        made.await_spans(60)
        killed.kill()
        killed.communicate()
        made.langfuse.rows.extend(trace(2, start=datetime.now(UTC) - timedelta(seconds=20), seconds=5.0))
        code, _, err = made.program("backfill", "--from", "2h", "--to", "now")
        assert code == 0, err
        deadline = time.monotonic() + 60
        while len(made.arrived()) < len(made.langfuse.rows):
            assert time.monotonic() < deadline, "some do not arrive"
            time.sleep(0.05)
        run.terminate()
        run.communicate(timeout=60)
    doubled = [span for span, times in made.arrived().items() if times > 1]
    assert made.arrived().keys() == identities(_rows_of(made)).keys()
    assert len(doubled) <= 4 * 20  # what was in flight at the kill


def test_stop_while_kelet_hangs(make_world: MakeWorld) -> None:
    """A stop waits as long as Kelet does not answer, tries again, or marks what was not answered."""
    rows = _rows(5)
    commands = {"once": 143, "run": 0}
    worlds = [make_world(rows, **LONG_AGO, SYNC_STATE_PATH=command) for command in commands]
    gate = threading.Event()
    for made in worlds:
        made.kelet.script = faults.held(gate)
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(made.start(command)) for command, made in zip(commands, worlds, strict=True)]
        for made in worlds:
            _until_asked(made)
        started = time.monotonic()
        for process in processes:
            process.send_signal(signal.SIGTERM)
        errors = [process.communicate(timeout=50)[1] for process in processes]
    assert time.monotonic() - started > 5
    gate.set()
    assert [process.returncode for process in processes] == list(commands.values()), errors
    assert "Traceback" not in "".join(errors)
    for made in worlds:
        assert len(made.kelet.requests) == 1
        made.kelet.script = None
        code, result = made.program_json("once")
        assert (code, result["sources"][0]["spans_sent"]) == (0, len(rows))


@pytest.mark.parametrize("status", [400, 413, 422, 404, 500, 302])
def test_check_survives_what_it_checks(make_world: MakeWorld, status: int) -> None:
    """`check` ends in the middle because Kelet does not like its empty request, and tells nothing of the rest."""
    made = make_world(_rows(1), **LONG_AGO)
    made.kelet.script = faults.always(faults.status(status))
    code, out, err = made.program("check")
    assert code not in {0, 2}
    assert "Traceback" not in err
    assert "unexpected" not in out + err
    (line,) = [line for line in out.splitlines() if "Kelet key" in line]
    assert line.startswith("FAIL")
    assert str(status) in line or "redirects" in line
    assert "ok    default: Langfuse API" in out


def test_check_knows_a_page_from_an_answer(make_world: MakeWorld) -> None:
    """`check` says that all is well before an address where a login page answers everything."""
    made = make_world(_rows(1), **LONG_AGO)
    made.kelet.script = faults.always(faults.unreadable_success())
    code, out, _ = made.program("check")
    assert code == ExitCode.PAUSED
    assert "web page" in out


def test_check_reports_all_sources(make_world: MakeWorld) -> None:
    """What is wrong with one source hides what is wrong with another."""
    made = make_world(_rows(1), **LONG_AGO)
    sources = ""
    for name, url in (("first", "http://127.0.0.1:1"), ("second", made.langfuse.url)):
        sources += f'''
[[sources]]
name = "{name}"
langfuse_base_url = "{url}"
langfuse_public_key = "{made.langfuse.public_key}"
langfuse_secret_key = "{made.langfuse.secret_key}"
kelet_project = "{name}"
[[sources.routes]]
project = "{name}-staging"
environment = "staging"
'''
    for name in ("LANGFUSE_BASE_URL", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"):
        del made.environ[name]
    (made.folder / "sync.toml").write_text(sources)
    made.kelet.script = faults.when(lambda request: request.project == "first", faults.status(400))
    code, result = made.program_json("check")
    assert code == ExitCode.PAUSED
    found = {line["check"]: line["ok"] for line in result["checks"]}
    assert found["first: Langfuse server"] is False
    assert found["first: Kelet key, project first"] is False
    assert found["first: Kelet key, project first-staging"] is True
    assert found["second: Langfuse API"] is True
    assert found["second: Kelet key, project second"] is True
