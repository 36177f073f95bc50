"""`status --watch`: the status again and again, until somebody has seen enough."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sync_worker.clock import SystemClock
from sync_worker.errors import ExitCode
from sync_worker.ledger import open_ledger
from tests.cli.program import BARE, on_terminal, run
from tests.support.programs import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an empty state file."""
    open_ledger(tmp_path / "sync-state.db", SystemClock()).close()
    return tmp_path


def test_the_screen_is_drawn_again_until_ctrl_c(folder: Path) -> None:
    """It is drawn once, or below what was there, or Ctrl-C ends in a traceback."""
    state = "no source has been synced yet"
    code, shown = on_terminal(folder, "status", "--watch", "100ms", dialog=[(state, ""), (state, ""), (state, "\x03")])
    assert (code, "Traceback" in shown) == (130, False)
    assert shown.count("\x1b[H\x1b[2Jstate file") >= 3


def test_a_pipe_gets_one_status_after_another(folder: Path) -> None:
    """A script gets escape sequences, or nothing before the end; or `| head` leaves a process behind."""
    for options, first in ((["--json"], "{"), ([], "\n")):
        with subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "sync_worker", "status", "--watch", "50ms", *options], cwd=folder,
            env={**BARE, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stderr is not None
            text = "".join(process.stdout.readline() for _ in range(40))
            process.stdout.close()
            assert (process.wait(timeout=30), process.stderr.read()) == (0, "")
        assert text.startswith(first)
        assert "\x1b" not in text
        if options:
            decoder = json.JSONDecoder()
            assert decoder.raw_decode(text)[0]["sources"] == []


@pytest.mark.parametrize("text", ["0s", "often", "5"])
def test_what_is_no_period(folder: Path, text: str) -> None:
    """The screen is drawn without a pause, or the error has no hint."""
    code, out, err = run(folder, "status", "--watch", text)
    assert (code, out, err.count("\n"), "Try: 2s, 1m or 1h" in err) == (ExitCode.USAGE, "", 1, True)


def test_without_a_state_file(tmp_path: Path) -> None:
    """It waits for a file that nobody makes."""
    assert run(tmp_path, "status", "--watch")[0] == ExitCode.USAGE
