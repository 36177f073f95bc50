"""Distinguishes the latest state file from a copy: a restored backup lacks commits, and would repeat what they sent.

Each commit of a run counts up a number in the file, and notes it, after the commit, in a small file beside it. So the
note never runs ahead of the file, wherever a kill or a power cut comes between. That a file is old proves nothing: an
outage of days is caught up. A copy is proven only

- by a note beside it with a higher number: an older file was put in the place of the latest one;
- by another inode, or time of birth, than its last writer noted in it: it was copied, with or without the note.

These count only on file systems that keep them (`_KEEPS_INODES`): others give new inodes at each mount. The device
never counts: a volume may get another one at each start. A snapshot of a whole volume agrees with itself, and cannot
be detected.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sync_worker.errors import StateError
from sync_worker.ledger.file_systems import file_system
from sync_worker.ledger.place import is_same_origin, open_private, origin_of
from sync_worker.wording import counted

if TYPE_CHECKING:
    import sqlite3

    from sync_worker.ledger.sources import Sources

_SCOPE, _SEQUENCE, _ORIGIN = "file", "sequence", "origin"
#: Local file systems, on which a file has the same inode for as long as it lives.
_KEEPS_INODES = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "tmpfs", "overlay"}
)
_NOTE_BYTES = 160  # always as long, so that a note is written in one piece over the last one

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CommitNote:
    """What the last writer left: which state file, and how many commits."""

    file: str
    sequence: int


def note_beside(path: Path) -> Path:
    """Return where the note of a state file is: hidden, so that a copy of `state.db*` does not take it along."""
    real = path.resolve()
    return real.with_name(f".{real.name}.owner")


def check_latest(ledger: Sources) -> None:
    """Raise StateError where the open state file is proven to be a copy. Call it with a lease held."""
    path = ledger.path
    beside, sequence, origin = _read(path), _number(ledger), ledger.stored_key(_SCOPE, _ORIGIN)
    confirm = f"`sync-worker state confirm --state {shlex.quote(str(path))}`"
    again = (
        f"If the latest one is lost, {confirm} continues with this one, and sends again, under the same span ids, what "
        f"was sent after it was copied{_last_run(ledger)}"
    )
    if beside is not None and beside.file == ledger.file_id() and beside.sequence > (sequence or 0):
        raise StateError(
            f"the state file {path} is an older copy of the one that stood here: it knows "
            f"{counted(sequence or 0, 'commit')}, and {note_beside(path)} notes {beside.sequence:,}. Nothing was sent. "
            f"Try: put the latest file back. {again}"
        )
    is_moved = origin is not None and not is_same_origin(origin, origin_of(path))
    if is_moved and file_system(path) in _KEEPS_INODES:
        raise StateError(
            f"the state file {path} is a copy of the one that was last written to. Nothing was sent. If it was moved "
            f"with `cp` and no run has used the old place since, that is harmless: {confirm}, and start again. If it "
            f"was restored from a backup, try: put the latest file back. {again}"
        )
    if origin is not None and beside is None:
        log.info(
            "no note in %s: so it does not show whether %s is the latest",
            note_beside(path), path, extra={"action": "state"},
        )  # fmt: skip


def is_latest(ledger: Sources) -> bool:
    """Whether nothing proves the open state file to be a copy."""
    try:
        check_latest(ledger)
    except StateError:
        return False
    return True


def adopt(ledger: Sources) -> None:
    """Take the open file for the latest from here on, whatever was noted: all its commits are counted."""
    beside, file_id, origin = _read(ledger.path), ledger.file_id(), origin_of(ledger.path)
    sequence = _number(ledger)
    at_least = beside.sequence if beside is not None and beside.file == file_id else 0
    ledger.counted = Counter(ledger.path, file_id)
    if sequence is None or sequence < at_least or ledger.stored_key(_SCOPE, _ORIGIN) != origin:
        with ledger.transaction(fenced=False):
            for name, value in ((_SEQUENCE, str(max(at_least, sequence or 0))), (_ORIGIN, origin)):
                ledger.execute("INSERT OR REPLACE INTO state_keys VALUES (?, ?, ?)", [_SCOPE, name, value])


class Counter:
    """Counts the commits of a state file that is known to be the latest."""

    def __init__(self, path: Path, file_id: str) -> None:
        self._path = note_beside(path)
        self._file_id = file_id

    def count(self, connection: sqlite3.Connection) -> int:
        """Count a commit, within its transaction; returns its number."""
        values = [_SCOPE, _SEQUENCE]
        connection.execute(
            "UPDATE state_keys SET value = CAST(value AS INTEGER) + 1 WHERE scope = ? AND name = ?", values
        )
        (number,) = connection.execute("SELECT value FROM state_keys WHERE scope = ? AND name = ?", values).fetchone()
        return int(number)

    def note(self, number: int) -> None:
        """Note a commit that is on disk. A note that cannot be written is missed by nobody but the next restore."""
        note = CommitNote(self._file_id, number)
        text = json.dumps(asdict(note)).ljust(_NOTE_BYTES - 1)
        try:
            file = open_private(str(self._path), os.O_WRONLY | os.O_CREAT)
            try:
                os.pwrite(file, f"{text}\n".encode("ascii"), 0)
            finally:
                os.close(file)
        except OSError as error:
            log.debug("%s cannot be written: %s", self._path, error, extra={"action": "state"})


def _read(path: Path) -> CommitNote | None:
    """Return the note beside a state file; None where there is none that can be read: it then proves nothing."""
    try:
        found = json.loads(note_beside(path).read_bytes())
        return CommitNote(str(found["file"]), int(found["sequence"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _number(ledger: Sources) -> int | None:
    stored = ledger.stored_key(_SCOPE, _SEQUENCE)
    return None if stored is None else int(stored)


def _last_run(ledger: Sources) -> str:
    rows = ledger.query("SELECT strftime('%Y-%m-%dT%H:%M:%SZ', max(ended_ms) / 1000, 'unixepoch') FROM runs")
    return f" (the last run that it knows ended {rows[0][0]})" if rows[0][0] else ""
