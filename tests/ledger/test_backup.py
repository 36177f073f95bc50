"""A copy of the state file is whole, checked, private, and never takes the place of something by chance."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sync_worker.errors import ExitCode, StateError
from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger, backup, open_ledger
from sync_worker.ledger.backup import back_up, drop_old_copies
from sync_worker.ledger.claims import claim
from sync_worker.ledger.file_format import SCHEMA_VERSION
from sync_worker.ledger.lease import BACKFILL, release, take
from tests.ledger.made import sent_observations, span
from tests.support.clock import VirtualClock


@pytest.fixture
def used(ledger: Ledger) -> Iterator[Ledger]:
    """Return a state file with something in it, and with a run at work on it."""
    held = take(ledger, BACKFILL)
    claim(ledger, 1, [Interval(0, 10)])
    ledger.commit_result(1, [span("t", "r")], [])
    yield ledger
    release(ledger, held)


def test_a_copy_is_whole_and_knows_no_run(used: Ledger, path: Path, clock: VirtualClock) -> None:
    """A copy would lack the latest commits, be readable by others, or be held by a run that is not one of it."""
    to = path.with_name("copy.db")
    made = back_up(path, to, 1.0, replace=False)
    assert (made.path, made.size_bytes, made.schema) == (to, to.stat().st_size, SCHEMA_VERSION)
    assert stat.S_IMODE(to.stat().st_mode) == 0o600
    copy = open_ledger(to, clock)
    assert sent_observations(copy) == {("t", "r")}
    assert copy.query("SELECT * FROM leases") == copy.query("SELECT * FROM claims") == []
    copy.close()
    assert used.query("SELECT role FROM leases") == [(BACKFILL,)]
    assert not [file for file in path.parent.iterdir() if file.name.endswith(".tmp")]


def test_a_copy_is_flushed_before_it_has_its_name_and_its_folder_after(
    used: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut there would be an empty file under the name of the backup, or none."""
    to = path.with_name("copy.db")
    flushed: list[tuple[bool, bool]] = []  # whether it was the folder, and whether the copy had its name

    def fsync(file: int) -> None:
        flushed.append((stat.S_ISDIR(os.fstat(file).st_mode), to.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    back_up(path, to, 1.0, replace=False)
    assert flushed == [(False, False), (True, True)]


def test_a_damaged_file_is_not_backed_up(used: Ledger, path: Path) -> None:
    """The last good backup would be replaced by one that cannot be used."""
    used.connection.execute("UPDATE sent SET start_ms = 'soon'")
    to = path.with_name("copy.db")
    to.write_text("yesterday")
    with pytest.raises(StateError, match="is damaged"):
        back_up(path, to, 1.0, replace=True)
    assert to.read_text() == "yesterday"


def test_what_stands_there_is_replaced_only_on_demand(used: Ledger, path: Path) -> None:
    """Yesterday's backup would be overwritten without a word, or --force would not help."""
    to = path.with_name("copy.db")
    to.write_text("yesterday")
    with pytest.raises(StateError, match=r"exists\. Try: another name, or --force"):
        back_up(path, to, 1.0, replace=False)
    assert to.read_text() == "yesterday"
    back_up(path, to, 1.0, replace=True)
    assert to.read_bytes().startswith(b"SQLite")


@pytest.mark.parametrize(
    "name", ["state.db", "state.db-wal", "state.db.live.lock", "state.db.schema-3", ".state.db.owner"]
)
def test_the_state_file_and_its_own_are_no_place_for_a_copy(used: Ledger, path: Path, name: str) -> None:
    """--force would replace the state file, or a lock that a run holds."""
    with pytest.raises(StateError, match="is the state file itself, or belongs to it"):
        back_up(path, path.with_name(name), 1.0, replace=True)
    assert sent_observations(used) == {("t", "r")}


def test_places_that_are_none(used: Ledger, path: Path, tmp_path: Path) -> None:
    """A folder or a device would be replaced by a file, or the message would not say what to do."""
    for to, words in (
        (tmp_path, "is a folder. Try: .*sync-state.backup.db"),
        (tmp_path / "none" / "copy.db", "does not exist. Try: mkdir -p"),
        (Path("/dev/null"), "is not a file, and would be replaced"),
    ):
        with pytest.raises(StateError, match=words):
            back_up(path, to, 1.0, replace=True)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(StateError, match="link that leads to itself"):
        back_up(path, loop, 1.0, replace=True)


def test_a_link_is_followed(used: Ledger, path: Path, tmp_path: Path) -> None:
    """The link to a mounted disk would be replaced by the copy."""
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "there.db")
    assert back_up(path, link, 1.0, replace=False).path == tmp_path / "there.db"
    assert link.is_symlink()


@pytest.mark.parametrize("short", [0, 1])
def test_room_is_asked_for_first(used: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch, short: int) -> None:
    """The last bytes of a disk would go to a copy, and the run that works on the state file would fail."""
    log = path.with_name("state.db-wal")
    needed = path.stat().st_size + log.stat().st_size + 1024 * 1024
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=needed - short, f_frsize=1))
    to = path.with_name("copy.db")
    if not short:
        back_up(path, to, 1.0, replace=False)
        return
    with pytest.raises(StateError, match="no room for a copy") as caught:
        back_up(path, to, 1.0, replace=False)
    assert caught.value.exit_code == ExitCode.TRANSIENT
    assert not to.exists()


def test_without_hard_links_nothing_is_replaced_either(
    used: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On such a file system there would be no copy, or one over a file that was made meanwhile."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(os, "link", refuse)
    to = path.with_name("copy.db")
    back_up(path, to, 1.0, replace=False)
    assert to.read_bytes().startswith(b"SQLite")
    monkeypatch.setattr(backup, "_check_target", lambda *_, **__: None)  # as if it was made after the check
    to.write_text("of another")
    with pytest.raises(StateError, match="exists"):
        back_up(path, to, 1.0, replace=False)
    assert to.read_text() == "of another"


def test_a_copy_that_cannot_be_written_may_be_tried_again(
    used: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk would be said to be the fault of the state file, or count as final."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match=r"the copy .* cannot be written: No space left") as caught:
        back_up(path, path.with_name("copy.db"), 1.0, replace=False)
    assert caught.value.exit_code == ExitCode.TRANSIENT
    assert not path.with_name("copy.db").exists()


def test_the_newest_copies_of_older_versions_are_kept(path: Path) -> None:
    """Each update would leave a copy more, or the one before the last would be gone when it is needed."""
    for name in ("state.db.schema-2", "state.db.schema-10", "state.db.schema-9", "state.db.schema-x"):
        path.with_name(name).write_text("")
    drop_old_copies(path)
    kept = {file.name for file in path.parent.glob("state.db.schema-*")}
    assert kept == {"state.db.schema-9", "state.db.schema-10", "state.db.schema-x"}


def test_what_is_no_state_file_is_not_copied(path: Path) -> None:
    """A file of another kind would pass for a backup."""
    path.write_text("no database, but long enough for a header of one")
    with pytest.raises(StateError):
        back_up(path, path.with_name("copy.db"), 1.0, replace=False)
