"""Copies of the state file: an older one is never taken for the latest, and a harmless one is named as such."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sync_worker.errors import StateError
from sync_worker.ledger import Ledger, copies, open_ledger
from sync_worker.ledger.copies import adopt, check_latest, is_latest, note_beside
from sync_worker.ledger.lease import LIVE, release, take
from tests.ledger.made import Other, span
from tests.support.clock import VirtualClock
from tests.support.state import put


@pytest.fixture(autouse=True)
def keeps_inodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests stand on a file system that keeps inodes, wherever they run."""
    monkeypatch.setattr(copies, "file_system", lambda _: "ext4")


def _run(path: Path, clock: VirtualClock, rows: int = 3) -> None:
    """Do what a run does: lease, check, commits."""
    ledger = open_ledger(path, clock)
    held = take(ledger, LIVE)
    try:
        check_latest(ledger)
        adopt(ledger)
        for number in range(rows):
            ledger.commit_result(1, [span("t", f"r{number}")], [])
    finally:
        release(ledger, held)
        ledger.close()


def _refused(path: Path, clock: VirtualClock, words: str) -> None:
    with pytest.raises(StateError, match=words) as caught:
        _run(path, clock)
    assert caught.value.exit_code == 2
    assert f"`sync-worker state confirm --state {path}`" in str(caught.value)


def test_whether_a_file_is_the_latest(path: Path, clock: VirtualClock) -> None:
    """The status page would show an older copy as if it were the file that the runs write to."""
    _run(path, clock)
    backup = path.with_name("backup")
    shutil.copy(path, backup)
    _run(path, clock)
    ledger = open_ledger(path, clock)
    assert is_latest(ledger)
    ledger.close()
    shutil.copyfile(backup, path)
    ledger = open_ledger(path, clock)
    assert not is_latest(ledger)
    ledger.close()


def test_older_copy_in_the_place_of_the_latest(path: Path, clock: VirtualClock) -> None:
    """A backup that was restored sends all that came after it once more, without a word."""
    _run(path, clock)
    backup = path.with_name("backup")
    shutil.copy(path, backup)
    _run(path, clock)
    shutil.copyfile(backup, path)  # in place: the same inode
    _refused(path, clock, "is an older copy")
    _refused(path, clock, "is an older copy")  # looking at it does not make it the latest
    path.unlink()
    shutil.copy(backup, path)
    _refused(path, clock, "is an older copy")


def test_folder_that_was_restored_whole(path: Path, clock: VirtualClock) -> None:
    """A backup of the folder brings the note along, and passes for the latest."""
    _run(path, clock)
    backup = path.parent.with_name("backup of the folder")
    shutil.copytree(path.parent, backup)
    _run(path, clock)
    for file in path.parent.iterdir():
        file.unlink()
    for file in backup.iterdir():
        shutil.copy(file, path.parent)
    _refused(path, clock, "moved with `cp` .* that is harmless")


def test_move_by_cp_is_harmless(path: Path, tmp_path: Path, clock: VirtualClock) -> None:
    """After a move to another disk the message does not say that it is harmless, or its command does not help."""
    _run(path, clock)
    new = tmp_path / "new.db"
    shutil.copy(path, new)
    _refused(new, clock, "moved with `cp` .* that is harmless")
    ledger = open_ledger(new, clock)
    adopt(ledger)
    ledger.close()
    _run(new, clock)
    _run(new, clock)


def test_rename_is_no_copy(path: Path, tmp_path: Path, clock: VirtualClock) -> None:
    """`mv` within a disk stops the worker."""
    _run(path, clock)
    path.rename(tmp_path / "renamed.db")
    _run(tmp_path / "renamed.db", clock)


def test_age_alone_stops_nothing(path: Path, clock: VirtualClock) -> None:
    """After an outage of days the worker does not catch up."""
    _run(path, clock)
    clock.advance(30 * 86_400)
    _run(path, clock)


@pytest.mark.parametrize("content", [None, b"", b"\x00" * 160, b"{", b"[]", b'{"file": "x"}', b"\xff\xfe"])
def test_note_that_is_lost_proves_nothing(path: Path, clock: VirtualClock, content: bytes | None) -> None:
    """A power cut that leaves no note, or half of one, stops the worker for good."""
    _run(path, clock)
    if content is None:
        note_beside(path).unlink()
    else:
        note_beside(path).write_bytes(content)
    _run(path, clock)


def test_note_of_another_file_proves_nothing(path: Path, tmp_path: Path, clock: VirtualClock) -> None:
    """A state file that takes another one's place, by `mv`, stops the worker."""
    for _ in range(5):
        _run(path, clock)
    _run(tmp_path / "merged.db", clock)
    (tmp_path / "merged.db").rename(path)
    _run(path, clock)


@pytest.mark.parametrize("kind", ["nfs4", "fuse.x", "9p", ""])
def test_inodes_count_only_where_they_are_kept(
    path: Path, tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A file system that numbers files anew at each mount stops the worker at each start."""
    _run(path, clock)
    shutil.copy(path, tmp_path / "new.db")
    monkeypatch.setattr(copies, "file_system", lambda _: kind)
    _run(tmp_path / "new.db", clock)


@pytest.mark.process
def test_kill_is_no_proof(path: Path, clock: VirtualClock) -> None:
    """A run that was killed between a commit and its note is followed by none."""
    for _ in range(3):
        with Other("own", path) as other:
            for _ in range(5):
                other.line()
            other.kill()
        _run(path, clock, rows=1)


def test_commits_of_two_runs_are_counted_together(path: Path, clock: VirtualClock) -> None:
    """The note of a run that is behind the other's makes the file look older than it is."""
    one, two = open_ledger(path, clock), open_ledger(path, clock)
    for ledger in (one, two):
        adopt(ledger)
    for number in range(4):
        put((one, two)[number % 2], "scope", "name", str(number))
    assert one.stored_key("file", "sequence") == "5"
    one.close()
    two.close()
    _run(path, clock)


def test_backup_by_sqlite_is_reported(path: Path, tmp_path: Path, clock: VirtualClock) -> None:
    """A backup that was taken as SQLite recommends passes for the latest file when it is restored."""
    _run(path, clock)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("VACUUM INTO ?", [str(tmp_path / "backup")])
    raw.close()
    _run(path, clock)
    (tmp_path / "backup").replace(path)
    _refused(path, clock, "is an older copy")


def test_no_commit_is_added_to_an_idle_cycle(path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Telling copies costs each cycle a flush to the disk."""
    _run(path, clock)
    ledger: Ledger = open_ledger(path, clock)
    statements: list[str] = []
    ledger.connection.set_trace_callback(statements.append)
    check_latest(ledger)
    adopt(ledger)
    assert not [text for text in statements if text.startswith(("BEGIN", "COMMIT", "INSERT"))]
    ledger.connection.set_trace_callback(None)
    ledger.close()
