"""`state backup`, and the copy before a migration, from outside of the process."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from sync_worker.clock import SystemClock
from sync_worker.errors import ExitCode, StateError
from sync_worker.ledger import open_ledger
from sync_worker.ledger.backup import back_up
from sync_worker.ledger.file_format import SCHEMA_VERSION
from sync_worker.ledger.steps import steps
from tests.support import faults
from tests.support.rows import Row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import identities

LONG_AGO = {"SYNC_START": "2026-11-20T00:00:00Z"}


def _rows(traces: int = 30) -> list[Row]:
    return [row for number in range(traces) for row in trace(3, start=float(number), seconds=5.0)]


def _beside(file: Path) -> set[str]:
    """Return the names in the folder of a file that are about it."""
    return {one.name for one in file.parent.iterdir() if file.name in one.name}


def test_copy_beside_a_worker_and_restored(make_world: MakeWorld) -> None:
    """The copy lacks what is in the log, is damaged, open to others, or loses observations once it is restored."""
    rows = _rows(100)
    made = make_world(rows, **LONG_AGO, SYNC_MAX_BATCH_SPANS="8")
    made.kelet.script = faults.always(faults.slow(0.05))
    copy = made.folder / "backups" / "state.backup.db"
    copy.parent.mkdir()
    with made.start("run") as worker:
        made.await_spans(16)
        code, result = made.program_json("state", "backup", str(copy))
        assert code == 0
        made.kelet.script = None
        made.await_spans(len(rows))
        worker.terminate()
        assert worker.wait(timeout=60) == 0
    assert (result["backup"], result["size_bytes"]) == (str(copy), copy.stat().st_size)
    assert result["schema"] == SCHEMA_VERSION
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert _beside(copy) == {copy.name}
    with closing(sqlite3.connect(copy)) as read, read:
        assert read.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        ((known,),) = read.execute("SELECT count(*) FROM sent").fetchall()
        assert read.execute("SELECT count(*) FROM leases").fetchall() == [(0,)]
    assert 16 <= known < len(rows)

    for file in made.folder.glob("state.db*"):
        file.unlink()
    shutil.copy(copy, made.state)
    code, _, err = made.program("once")
    assert (code, "state confirm" in err) == (ExitCode.USAGE, True)
    assert made.program("state", "confirm")[0] == 0
    assert made.program("once")[0] == 0
    assert set(made.arrived()) == set(identities(rows))
    assert sum(made.arrived().values()) == len(rows) + len(rows) - known


def test_what_is_there_is_not_overwritten(make_world: MakeWorld) -> None:
    """A backup writes over another file, or over the state file itself, or leaves a part of one behind."""
    made = make_world(_rows(2), **LONG_AGO)
    code, _, err = made.program("state", "backup", "x.db")
    assert (code, "there is no file" in err) == (ExitCode.USAGE, True)
    assert made.program("once")[0] == 0
    taken = made.folder / "taken.db"
    taken.write_text("mine")
    for target, printed in (
        (taken, "exists. Try: another name, or --force"),
        (made.folder, "is a folder"),
        (made.state, "is the state file itself"),
        (made.folder / "state.db-wal", "is the state file itself, or belongs to it"),
        (made.folder / "not" / "there.db", "does not exist. Try: mkdir -p"),
    ):
        code, _, err = made.program("state", "backup", str(target))
        assert (code, printed in err, len(err.splitlines())) == (ExitCode.USAGE, True, 1), err
    assert taken.read_text() == "mine"
    code, _, err = made.program("state", "backup", str(taken), "--force")
    assert (code, "checked, " in err) == (0, True), err
    assert taken.read_bytes().startswith(b"SQLite format 3\x00")
    assert not list(made.folder.glob(".*.tmp*"))
    (made.folder / "loop").symlink_to("loop")
    for name, printed in (
        ("", "a path is expected, and it is empty"),
        ("x" * 300, "no path of a file (file name too long)"),
        ("loop", "is a link that leads to itself"),
        ("not there/", "the folder not there does not exist. Try: mkdir -p 'not there'"),
        (".state.db.owner", "is the state file itself, or belongs to it"),
        ("state.db.backfill.jobs.lock", "is the state file itself, or belongs to it"),
        ("state.db.schema-9", "is the state file itself, or belongs to it"),  # a later migration deletes it
    ):
        code, _, err = made.program("state", "backup", name, "--force")
        assert (code, printed in err, len(err.splitlines())) == (ExitCode.USAGE, True, 1), err
    pipe = made.folder / "pipe"  # what /dev/null is too
    os.mkfifo(pipe)
    code, _, err = made.program("state", "backup", str(pipe), "--force")
    assert (code, "is not a file" in err, pipe.is_fifo()) == (ExitCode.USAGE, True, True)


def test_a_link_is_followed(make_world: MakeWorld) -> None:
    """A backup whose name is a link to another disk stays on this one, and the link is gone."""
    made = make_world(_rows(2), **LONG_AGO)
    assert made.program("once")[0] == 0
    (made.folder / "disk").mkdir()
    link, copy = made.folder / "latest.db", made.folder / "disk" / "copy.db"
    link.symlink_to("disk/copy.db")
    assert made.program("state", "backup", str(link))[0] == 0
    code, _, err = made.program("state", "backup", str(link))
    assert (code, "exists. Try: another name" in err) == (ExitCode.USAGE, True)
    assert made.program("state", "backup", str(link), "--force")[0] == 0
    assert (link.is_symlink(), copy.is_file()) == (True, True)


def test_damage_is_not_copied_as_a_backup(make_world: MakeWorld) -> None:
    """A copy of a damaged file counts as a backup until the day it is needed."""
    made = make_world(_rows(2), **LONG_AGO)
    assert made.program("once")[0] == 0
    with closing(sqlite3.connect(made.state)) as write, write:
        write.execute("UPDATE runs SET report = '{'")
    for what in ("value", "page"):
        if what == "page":
            with made.state.open("r+b") as file:
                file.seek(3 * 4096)
                file.write(b"\xff" * 4096)
        code, _, err = made.program("state", "backup", "copy.db")
        assert (code, f"the state file {made.state} is damaged" in err) == (ExitCode.USAGE, True), err
        assert not (made.folder / "copy.db").exists()


def test_a_disk_that_gets_full_under_a_copy(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a copy is left behind, or it is said that the disk of the state file is full."""
    made = make_world(_rows(2), **LONG_AGO)
    assert made.program("once")[0] == 0
    copy = made.folder / "copy.db"

    def fill(connection: sqlite3.Connection, target: sqlite3.Connection, *_: object) -> None:
        target.execute("PRAGMA max_page_count = 3")
        for number in range(10):
            target.execute(f"CREATE TABLE t{number} (x)")

    monkeypatch.setattr("sync_worker.ledger.backup.copy_into", fill)
    with pytest.raises(StateError, match=rf"^the copy {copy} cannot be written: database or disk is full\.") as full:
        back_up(made.state, copy, 1.0, replace=False)
    assert full.value.exit_code == ExitCode.TRANSIENT
    assert _beside(copy) == set()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a state file of schema 10 with a source in it."""
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path)
    steps.apply(Database(connection), stop_before="step_11")
    connection.execute(
        "INSERT INTO sources (langfuse_url, project_id, created_ms, target) VALUES ('http://x', 'p', 1, 'kelet')"
    )
    connection.commit()
    connection.close()
    return path


def test_a_copy_before_a_migration(make_world: MakeWorld, old: Path) -> None:
    """An upgrade that goes wrong leaves nothing to go back to, or fills the disk with copies."""
    for version in (3, 7, 9):
        (old.parent / f"state.db.schema-{version}").write_text("older")
    made = make_world([])
    code, _, err = made.program("status")
    assert code == 0, err
    copy = old.parent / "state.db.schema-10"
    assert f"is brought from schema 10 to {SCHEMA_VERSION}; {copy} is a copy from before" in err
    assert sorted(one.name for one in old.parent.glob("state.db.schema-*")) == [copy.name, "state.db.schema-9"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as read, read:
        assert read.execute("PRAGMA user_version").fetchall() == [(10,)]
        assert read.execute("SELECT project_id FROM sources").fetchall() == [("p",)]
    assert made.program("status")[2] == ""  # once


def test_a_migration_needs_room_for_its_copy(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The schema is changed although the copy did not fit, or the reason is not told."""

    class Full:
        f_bavail, f_frsize = 1, 4096

    monkeypatch.setattr("sync_worker.ledger.backup.os.statvfs", lambda _: Full)
    with pytest.raises(
        StateError, match=r"no room for a copy .* MiB are needed, 0 MiB are free\. Try: make room"
    ) as full:
        open_ledger(old, SystemClock())
    assert full.value.exit_code == ExitCode.TRANSIENT
    with closing(sqlite3.connect(old)) as read, read:
        assert read.execute("PRAGMA user_version").fetchall() == [(10,)]
    assert _beside(old) == {old.name}
    monkeypatch.undo()
    open_ledger(old, SystemClock()).close()
