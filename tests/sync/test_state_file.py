"""The state file goes away, is a copy, is damaged or can only be read: what the commands make of it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sync_worker.errors import ExitCode
from sync_worker.ledger import copies, open_ledger
from sync_worker.ledger.file_systems import file_system
from tests.ledger.made import another_program
from tests.support.programs import Program
from tests.support.rows import trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World

LONG_AGO = {"SYNC_START": "2026-11-20T00:00:00Z"}
ALWAYS = {"SYNC_INTERVAL": "1s", "SYNC_SETTLE": "0s", "SYNC_START": "1h"}


def _recent(count: int, seconds_ago: float = 60.0) -> list[dict[str, Any]]:
    return trace(count, start=datetime.now(UTC) - timedelta(seconds=seconds_ago), seconds=1.0)


def _until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def _running(made: World) -> Iterator[Program]:
    """Start `run`, and end it if it does not end by itself."""
    with made.start("run") as process:
        try:
            yield process
        finally:
            process.kill()


def _removed(state: Path) -> None:
    state.unlink()


def _all_removed(state: Path) -> None:
    for file in state.parent.iterdir():
        file.unlink()


def _replaced(state: Path) -> None:
    shutil.copy(state, state.with_name("copy"))
    state.with_name("copy").replace(state)


def _folder_renamed(state: Path) -> None:
    state.parent.rename(state.parent.with_name("elsewhere"))


@pytest.mark.parametrize("fate", [_removed, _all_removed, _replaced, _folder_renamed])
def test_file_goes_away_under_run(make_world: MakeWorld, tmp_path: Path, fate: Callable[[Path], None]) -> None:
    """`run` goes on into a file without a name while another one restarts: thousands of doubles, both with 0."""
    folder = tmp_path / "state"
    folder.mkdir()
    made = make_world(_recent(3), SYNC_STATE_PATH=str(folder / "state.db"), **ALWAYS)
    with _running(made) as process:
        _until(lambda: len(made.kelet.spans) == 4)
        fate(made.state)
        made.langfuse.rows.extend(_recent(5, 0.5))
        _, err = process.communicate(timeout=40)
    assert process.returncode == ExitCode.USAGE, err
    assert "Nothing more is sent" in err
    assert "Traceback" not in err
    assert len(made.kelet.spans) == 4


def test_lock_file_removed_under_run(make_world: MakeWorld) -> None:
    """Another run takes the lease beside one that is alive."""
    made = make_world(_recent(3), **ALWAYS)
    lock = made.state.with_name(f"{made.state.name}.live.lock")
    with _running(made) as process:
        _until(lambda: len(made.kelet.spans) == 4)
        lock.unlink()
        _until(lock.exists)  # locked anew
        assert made.program("once")[0] == ExitCode.LEASE
        process.terminate()
        process.communicate(timeout=40)
    assert process.returncode == 0
    assert max(made.arrived().values()) == 1


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """Return a folder where inodes tell a file from its copy, if there is one: other files of tests are in memory."""
    with tempfile.TemporaryDirectory() as name:
        if file_system(Path(name) / "state.db") not in copies._KEEPS_INODES:
            pytest.skip("inodes do not count here")
        yield Path(name)


def test_restored_backup(make_world: MakeWorld, on_disk: Path) -> None:
    """A restored state file sends days of traces again, with exit code 0; or the way out does not lead out."""
    made = make_world(trace(3), SYNC_STATE_PATH=str(on_disk / "state.db"), **LONG_AGO)
    assert made.program("once")[0] == 0
    backup = made.folder / "backup.db"
    shutil.copy(made.state, backup)
    made.langfuse.rows.extend(trace(2, start=3000.0))
    assert made.program("once")[0] == 0
    shutil.copyfile(backup, made.state)
    for command in (("once",), ("run",), ("backfill", "--from", "2h", "--to", "now"), ("check", "--skip-target")):
        code, out, err = made.program(*command)
        assert code == ExitCode.USAGE, command
        assert "is an older copy" in out + err
    assert made.program("status")[0] == 0  # what asks only goes on
    code, printed = made.program_json("state", "confirm")
    assert (code, printed["state_file"]) == (0, str(made.state))
    assert made.program("once")[0] == 0


@pytest.mark.parametrize("command", [("status",), ("once",), ("dead-letters", "list"), ("explain", "t"), ("verify",)])
def test_damage_is_reported_by_every_command(make_world: MakeWorld, command: tuple[str, ...]) -> None:
    """Commands end with "unexpected UnicodeDecodeError" and 1, for ever."""
    made = make_world(trace(3), **LONG_AGO)
    made.once()
    another_program(made.state, "UPDATE sources SET project_name = CAST(x'ff' AS TEXT)")
    code, _, err = made.program(*command)
    assert code == ExitCode.USAGE
    assert "is damaged" in err
    assert "unexpected" not in err


def test_damage_within_a_large_table_is_reported(make_world: MakeWorld) -> None:
    """What breaks a command later on is told as a fault of the program."""
    rows = trace(3)
    made = make_world(rows, **LONG_AGO)
    made.once()
    another_program(made.state, "UPDATE traces SET context = '{'")
    code, _, err = made.program("explain", rows[0]["traceId"])
    assert code == ExitCode.USAGE
    assert "is damaged" in err


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Return what mounts a folder read-only, where that is permitted."""
    mounted: list[Path] = []

    def mount(folder: Path) -> None:
        for options in (["--bind", str(folder), str(folder)], ["-o", "remount,ro,bind", str(folder)]):
            try:
                subprocess.run(["mount", *options], check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                pytest.skip("mounting is not permitted here")
            if not mounted:
                mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _in_folder(make_world: MakeWorld, tmp_path: Path, rows: list[dict[str, Any]]) -> World:
    folder = tmp_path / "state"
    folder.mkdir()
    made = make_world(rows, SYNC_STATE_PATH=str(folder / "state.db"), **LONG_AGO)
    assert made.once()[1] == 0
    return made


def test_read_only_mount(make_world: MakeWorld, tmp_path: Path, read_only: Callable[[Path], None]) -> None:
    """A debug container that mounts the volume read-only cannot say how far the worker is."""
    rows = trace(3)
    made = _in_folder(make_world, tmp_path, rows)
    read_only(made.state.parent)
    code, status = made.program_json("status")
    assert (code, len(status["sources"]), status["state_file"]) == (0, 1, str(made.state))
    code, letters = made.program_json("dead-letters", "list")
    assert (code, letters["dead_letters"]) == (0, [])
    code, explained = made.program_json("explain", rows[0]["traceId"])
    assert (code, explained["sources"][0]["why"]) == (0, "it was sent")
    assert made.program("config", "show")[0] == 0
    code, _, err = made.program("once")
    assert code == ExitCode.USAGE
    assert "Try:" in err


def test_read_only_mount_of_a_file_in_use(
    make_world: MakeWorld, tmp_path: Path, read_only: Callable[[Path], None]
) -> None:
    """What stands in the write-ahead log is left out without a word: the status is that of an hour ago."""
    made = _in_folder(make_world, tmp_path, trace(3))
    ledger = open_ledger(made.state, made.clock)
    ledger.store_run("once", 0, 6, {"sources": []})
    read_only(made.state.parent)
    code, out, _ = made.program("status")
    assert code == 0
    assert " with 6" in out
    ledger.close()


def test_read_only_mount_of_a_log_without_its_index(
    make_world: MakeWorld, tmp_path: Path, read_only: Callable[[Path], None]
) -> None:
    """The latest commits are passed over, or the message does not say what can be done."""
    made = _in_folder(make_world, tmp_path, trace(3))
    ledger = open_ledger(made.state, made.clock)
    ledger.store_run("once", 0, 6, {"sources": []})
    left = tmp_path / "left"
    left.mkdir()
    for name in ("state.db", "state.db-wal"):
        shutil.copy(made.state.with_name(name), left)
    ledger.close()
    read_only(left)
    code, _, err = made.program("status", "--state", str(left / "state.db"))
    assert code == ExitCode.USAGE
    assert "Try: copy both to another folder" in err


@pytest.mark.parametrize("place", ["a" * 300, "file/state.db", "loop"])
@pytest.mark.parametrize("command", [("check", "--skip-target"), ("once",), ("status",), ("state", "merge")])
def test_a_place_where_no_state_file_can_be(make_world: MakeWorld, place: str, command: tuple[str, ...]) -> None:
    """A name that the file system does not take ends in Python's words, or asks for a folder that cannot be made."""
    made = make_world([])
    (made.folder / "file").write_text("a letter")
    (made.folder / "loop").symlink_to("loop")
    path = str(made.folder / place)
    arguments = (*command, path) if command[-1] == "merge" else (*command, "--state", path)
    code, out, err = made.program(*arguments)
    assert code == ExitCode.USAGE
    assert "unexpected" not in out + err
    assert "mkdir" not in out + err
    assert "Try: " in out + err
