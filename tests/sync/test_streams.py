"""stdout and stderr that are closed, full or unread, terminals of one alphabet, and signals before a command's work."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sync_worker.errors import ExitCode
from tests.support.rows import trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import ROOT, World, identities

LONG_AGO = {"SYNC_START": "2026-11-20T00:00:00Z"}


def shell(made: World, line: str) -> tuple[int, str, str]:
    """Run a line of sh in which `sync` is the program; returns exit code, stdout and stderr."""
    made.langfuse.now = time.time
    program = f"{shlex.quote(sys.executable)} -W error -m sync_worker"
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **made.environ}
    done = subprocess.run(
        ["sh", "-c", f'sync() {{ {program} "$@"; }}\n{line}'],
        cwd=made.folder, env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full"])
def test_a_run_does_its_work_without_streams(make_world: MakeWorld, closed: str) -> None:
    """Cron without a mailer, or a full disk under the log, would stop the sync, or open the state file as stderr."""
    rows = trace(3, start=0.0, seconds=5.0)
    made = make_world(rows, **LONG_AGO)
    code, _, err = shell(made, f"sync once {closed}")
    assert (code, "Traceback" in err) == (0, False)
    assert identities(rows) == made.arrived()


@pytest.mark.parametrize(
    ("words", "lost"),
    [("config show", ">&-"), ("config show --json", ">/dev/full"), ("once --json", ">&-"),
     ("once --json", ">/dev/full"), ("--help", ">&-"), ("--version", ">/dev/full"), ("demo --all", ">/dev/full"),
     ("check", ">&-")],
)  # fmt: skip
def test_a_result_that_is_lost_is_no_success(make_world: MakeWorld, words: str, lost: str) -> None:
    """A script would go on with half a result, or Python would end with 120 and a traceback of its own."""
    made = make_world([], **LONG_AGO)
    code, _, err = shell(made, f"sync {words} {lost}")
    assert code == ExitCode.TRANSIENT
    (line,) = [line for line in err.splitlines() if "stdout" in line]
    assert "Try: " in line
    assert "Traceback" not in err
    assert "Exception" not in err


def test_no_stream_is_left_to_say_so(make_world: MakeWorld) -> None:
    """With both streams closed the code alone can tell that the result is lost."""
    assert shell(make_world([]), "sync config show >&- 2>&-") == (ExitCode.TRANSIENT, "", "")


def test_a_lost_result_hides_no_other_code(make_world: MakeWorld) -> None:
    """Refused keys would be told as a fault that may pass."""
    made = make_world([], **LONG_AGO, LANGFUSE_SECRET_KEY="sk-lf-revoked")
    assert shell(made, "sync once --json >/dev/full")[0] == ExitCode.CREDENTIALS


@pytest.mark.parametrize("words", ["config show --json", "--help", "demo --all"])
def test_a_reader_that_has_seen_enough(make_world: MakeWorld, words: str) -> None:
    """`| head -1` would end in a traceback, or in a code that a script takes for a failure."""
    made = make_world([])
    code, out, err = shell(made, f"{{ sync {words}; echo $? >code; }} | head -1")
    assert (code, len(out.splitlines())) == (0, 1)
    assert (made.folder / "code").read_text() == "0\n"
    assert "Traceback" not in err
    assert "Broken" not in err


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict"])
def test_terminals_of_one_alphabet(make_world: MakeWorld, encoding: str) -> None:
    """A name in another script would end the command, or make JSON that is none."""
    made = make_world(trace(1, start=0.0, name="日本 é → 👍"), **LONG_AGO, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    made.langfuse.project_name = "日本 é"
    made.environ["SYNC_LOG_FORMAT"] = "json"
    made.environ["SYNC_LOG_LEVEL"] = "debug"
    for words in (["once"], ["status"], ["check"], ["demo"]):
        code, _, err = made.program(*words)
        assert (code, "Traceback" in err) == (0, False)
        for line in err.splitlines():
            assert not line.startswith("{") or json.loads(line)
    assert json.loads(made.program("status", "--json")[1])["sources"][0]["project_name"] == "日本 é"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_it_starts(make_world: MakeWorld, number: int, code: int) -> None:
    """Ctrl-C while libraries are loaded would show a traceback out of one of them."""
    made = make_world([], **LONG_AGO)
    chance = random.Random(number)
    start = [sys.executable, "-P", "-S", str(ROOT / "scripts" / "lib" / "start.py"), "run"]
    for _ in range(6):
        process = subprocess.Popen(
            start, cwd=made.folder, env={**made.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(0.05 + chance.random() * 0.4)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        # 0: the loop had begun, and `run` ends a stop with it; below 0: Python itself had hardly begun.
        assert process.returncode in {code, -number, 0}
        assert out == ""
        assert "Traceback" not in err
        assert "Exception" not in err


def test_a_signal_while_a_library_loads(make_world: MakeWorld) -> None:
    """The same, at one moment that is sure to be in the middle of loading."""
    made = make_world([])
    (made.folder / "httpx.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time\ntime.sleep(9)\n"
    )
    code, out, err = made.program("once", environ={"PYTHONPATH": f"{made.folder}:{ROOT}"})
    assert (code, out, err) == (130, "", "sync-worker: stopped before it started\n")


def test_a_module_that_was_compiled_in_part(make_world: MakeWorld) -> None:
    """A disk that was full once would leave a program that ends with a traceback for ever, and no word of the cure."""
    made = make_world([])
    compiled = made.folder / "compiled"
    environ = {"PYTHONPYCACHEPREFIX": str(compiled)}
    assert made.program("config", "schema", environ=environ)[0] == 0
    (cut,) = compiled.rglob("cli/commands/config/run.*.pyc")
    os.truncate(cut, 1024)
    code, out, err = made.program("config", "schema", environ=environ)
    assert (code, out, len(err.splitlines())) == (ExitCode.TRANSIENT, "", 1)
    assert "delete the folders named __pycache__" in err


def reading_a_key(made: World) -> subprocess.Popen[str]:
    """Start the program with a key in a pipe; as users do, without the warnings of a file that a signal left open."""
    environ = {**made.environ, "PYTHONPATH": str(ROOT), "KELET_API_KEY": "", "KELET_API_KEY_FILE": "./key"}
    return subprocess.Popen(
        [sys.executable, "-m", "sync_worker", "once"], cwd=made.folder, env=environ,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def until_read(fifo: Path) -> int:
    """Wait until the program reads a pipe, and return its writing end, to which nothing is written."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads it yet
            time.sleep(0.02)
    raise AssertionError("nobody reads the key")


def test_a_signal_before_the_work(make_world: MakeWorld) -> None:
    """A signal while settings are read, here from a pipe that nobody writes to, would end in a traceback."""
    made = make_world([])
    os.mkfifo(made.folder / "key")
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with reading_a_key(made) as process:
            end = until_read(made.folder / "key")
            process.send_signal(number)
            out, err = process.communicate(timeout=20)
            os.close(end)
        assert (process.returncode, out, "Traceback" in err) == (code, "", False)


def test_both_signals_at_once(make_world: MakeWorld) -> None:
    """A closed terminal sends more than one signal; Python would complain of the second in a traceback."""
    made = make_world([])
    os.mkfifo(made.folder / "key")
    with reading_a_key(made) as process:
        end = until_read(made.folder / "key")
        for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
            process.send_signal(number)
        assert process.communicate(timeout=20) == ("", "")
        os.close(end)
    assert process.returncode in {130, 143}


def test_the_working_directory_is_gone(make_world: MakeWorld) -> None:
    """A deleted folder would be told in Python's words."""
    made = make_world([])
    gone = made.folder / "gone"
    gone.mkdir()
    code, _, err = shell(made, f"cd {shlex.quote(str(gone))} && rmdir {shlex.quote(str(gone))} && sync once")
    assert code == ExitCode.USAGE
    assert err.startswith("sync-worker: the working directory cannot be used")
    assert len(err.splitlines()) == 1
