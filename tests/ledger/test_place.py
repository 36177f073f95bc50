"""A state file that goes away under a run, and who may read the files that are made."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sync_worker.errors import LeaseHeld, StateError
from sync_worker.ledger import Ledger, copies, open_ledger
from sync_worker.ledger.lease import LIVE, release, take
from sync_worker.ledger.place import is_same_origin, origin_of
from tests.ledger.made import span
from tests.support.clock import VirtualClock
from tests.support.state import put


def _removed(path: Path) -> None:
    path.unlink()


def _replaced(path: Path) -> None:
    other = path.with_name("other.db")
    shutil.copy(path, other)
    other.replace(path)


def _folder_removed(path: Path) -> None:
    shutil.rmtree(path.parent)


def _folder_renamed(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def _log_removed(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


def _emptied(path: Path) -> None:
    os.truncate(path, 0)


@pytest.fixture
def held(tmp_path: Path, clock: VirtualClock) -> Iterator[Ledger]:
    """Return a state file in a folder of its own, under a lease."""
    folder = tmp_path / "folder"
    folder.mkdir()
    ledger = open_ledger(folder / "state.db", clock)
    take(ledger, LIVE)
    yield ledger
    if ledger.lease is not None:
        release(ledger, ledger.lease)
    ledger.close()


@pytest.mark.parametrize("fate", [_removed, _replaced, _folder_removed, _folder_renamed, _log_removed, _emptied])
def test_file_that_goes_away(held: Ledger, fate: Callable[[Path], None]) -> None:
    """A run goes on into a file without a name: what it sends, the next run sends again."""
    held.check()
    held.commit_result(1, [span("t", "r")], [])
    fate(held.path)
    for act in (held.check, lambda: held.commit_result(1, [span("t", "r2")], []), held.unflushed):
        if fate is _log_removed and act == held.unflushed:
            continue
        with pytest.raises(StateError, match=r"Nothing more is sent.*Try: end all runs") as caught:
            act()
        assert caught.value.exit_code == 2
    assert not (fate is _removed and held.path.exists())  # no empty file is made in its place


@pytest.mark.parametrize(
    ("answer", "mask", "birth"),
    [(0, 0x800, 7_000_000_009), (0, 0x7FF, 0), (-1, 0x800, 0)],
    ids=["told", "not", "fails"],
)
def test_birth_of_a_file_is_known_where_the_file_system_knows_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, answer: int, mask: int, birth: int
) -> None:
    """A copy would pass for the file itself, or the file for a copy, by what stands where no birth was told."""

    def statx(folder: int, name: bytes, flags: int, asked: int, into: ctypes.Array[ctypes.c_char]) -> int:
        assert (folder, name, flags, asked) == (-100, os.fsencode(path), 0, 0x800)
        struct.pack_into("=I", into, 0, mask)
        struct.pack_into("=qI", into, 80, 7, 9)
        return answer

    path.touch()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(statx=statx))
    assert origin_of(path) == f"{path.stat().st_ino} {birth}"


def test_origins_of_one_file_and_of_two() -> None:
    """A file would be taken for a copy at each start where its birth is not told, or a copy never be noticed."""
    assert is_same_origin("5 70", "5 70")
    assert is_same_origin("5 70", "5 0")
    assert is_same_origin("5 0", "5 70")
    assert not is_same_origin("5 70", "5 71")
    assert not is_same_origin("5 70", "6 70")
    assert not is_same_origin("5 0", "6 0")


def test_file_that_goes_within_a_transaction(held: Ledger) -> None:
    """A long transaction ends in a file without a name and counts as kept."""
    with pytest.raises(StateError, match="is gone"), held.transaction():
        held.path.unlink()
    assert not held.connection.in_transaction


def test_lock_file_that_was_removed_is_locked_again(held: Ledger, clock: VirtualClock) -> None:
    """A script that cleans up lock files opens the door for a second run, or ends the first."""
    lock = held.path.with_name("state.db.live.lock")
    lock.unlink()
    held.check()
    beside = open_ledger(held.path, clock)
    with pytest.raises(LeaseHeld):
        take(beside, LIVE)
    beside.close()


def test_lease_falls_when_another_run_came_by_a_new_lock_file(held: Ledger, clock: VirtualClock) -> None:
    """Two runs are at work, and everything goes out twice."""
    held.path.with_name("state.db.live.lock").unlink()
    beside = open_ledger(held.path, clock)
    other = take(beside, LIVE)
    with pytest.raises(LeaseHeld):
        held.check()
    with pytest.raises(LeaseHeld):
        held.commit_result(1, [span("t", "r")], [])
    beside.check()
    release(beside, other)
    beside.close()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_files_are_their_owners_alone(tmp_path: Path, clock: VirtualClock, umask: int) -> None:
    """Anyone on the machine reads which traces were sent, and what was dead-lettered of them."""
    before = os.umask(umask)
    try:
        ledger = open_ledger(tmp_path / "state.db", clock)
        held = take(ledger, LIVE)
        copies.adopt(ledger)
        put(ledger, "scope", "name", "value")
        ledger.unflushed()
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        release(ledger, held)
        ledger.close()
    finally:
        os.umask(before)
    names = {"state.db", "state.db-wal", "state.db-shm", "state.db.live.lock", ".state.db.owner"}
    assert modes == dict.fromkeys(names, 0o600)


def test_mode_of_a_file_that_exists_is_left(path: Path, clock: VirtualClock) -> None:
    """A group that was given access loses it at the next run."""
    open_ledger(path, clock).close()
    path.chmod(0o640)
    open_ledger(path, clock).close()
    assert path.stat().st_mode & 0o777 == 0o640
