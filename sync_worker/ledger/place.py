"""The state file's place: created for its owner alone, and checked for removal or replacement.

On Unix a file that was removed or replaced lives on, without a name, for whoever has it open. What is written there is
lost, and the next run begins with another file: so the name is looked up before anything counts as kept.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

from sync_worker.errors import StateError

_OWNER_ALONE = 0o600
_AT_FDCWD, _STATX_BTIME = -100, 0x800
_LEAST_BYTES = 512  # of a file of SQLite: one page


def open_private(path: str, flags: int) -> int:
    """Open a file; one that is made here is its owner's alone, whatever the umask. For `open(..., opener=)`.

    A file that exists keeps its mode: somebody may have given it to a group on purpose. Raises OSError.
    """
    if flags & os.O_CREAT:
        try:
            made = os.open(path, flags | os.O_EXCL, _OWNER_ALONE)
        except FileExistsError:
            pass
        else:
            os.fchmod(made, _OWNER_ALONE)
            return made
    return os.open(path, flags, _OWNER_ALONE)


def make_private(path: Path) -> None:
    """Make an empty file where none is; SQLite gives the files beside it the same mode. Raises OSError."""
    os.close(open_private(str(path), os.O_RDWR | os.O_CREAT))


def origin_of(path: Path) -> str:
    """Return "inode birth" of the file that has this name now; birth in Unix ns, 0 where it is not known.

    The inode of a file that was removed may be given to the next one, but no copy has the birth of another file.
    Raises OSError.
    """
    return f"{path.stat().st_ino} {_birth_ns(path)}"


def is_same_origin(one: str, other: str) -> bool:
    """Whether two origins may be those of one file."""
    (inode, birth), (other_inode, other_birth) = one.split(), other.split()
    return inode == other_inode and (birth == other_birth or "0" in {birth, other_birth})


def _birth_ns(path: Path) -> int:
    """Return when a file was made, by statx(2), which Python's `os.stat` does not call on Linux."""
    try:
        statx = ctypes.CDLL(None).statx
    except (OSError, AttributeError):
        return 0
    answer = ctypes.create_string_buffer(256)  # struct statx: the mask at 0, the birth at 80 (linux/stat.h)
    if statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, answer) != 0:
        return 0
    (mask,), (seconds, nanoseconds) = struct.unpack_from("=I", answer, 0), struct.unpack_from("=qI", answer, 80)
    return seconds * 1_000_000_000 + nanoseconds if mask & _STATX_BTIME else 0


def is_writable(path: Path) -> bool:
    """Whether a file, and its folder, where SQLite puts others beside it, can be written to by this process."""
    return os.access(path, os.W_OK) and os.access(path.resolve().parent, os.W_OK)


class Place:
    """The name of an open state file, and which file it named when it was opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        real = path.resolve()
        self._log = real.with_name(real.name + "-wal")
        self._file, self._size = _identity(path)
        self._log_was: tuple[int, int] | None = None

    def check(self) -> None:
        """Raise StateError when the name belongs to no file, or another one than when it was opened, or an emptied one.

        An emptied file (`> state.db`, a log rotation by copytruncate) may be written to for long, by its log alone, and
        is of no use to the next run.
        """
        try:
            (now, size), (log, _) = _identity(self._path), _identity(self._log)
        except OSError as error:
            raise StateError(
                f"the state file {self._path} cannot be checked: {error.strerror or error}. "
                "Try: again when its disk answers; nothing without a response counts as sent",
                transient=True,
            ) from error
        what = None
        if now is None:
            what = "is gone: it was removed, or its folder was"
        elif now != self._file:
            what = "was replaced by another file"
        elif size < _LEAST_BYTES <= self._size:
            what = "was emptied"
        self._size = max(self._size, size)
        if what is not None:
            raise StateError(
                f"the state file {self._path} {what}, while this run had it open. Nothing more is sent, since what is "
                "sent could not be remembered. Try: end all runs, put the latest file back in its place, start again; "
                "without it a new one begins at SYNC_START and sends again what starts since then"
            )
        if self._log_was is not None and log != self._log_was:
            raise StateError(
                f"{self._log} was removed or replaced while this run had it open: it held the latest commits of the "
                f"state file {self._path}. Nothing more is sent. Try: end all runs, start again, then `verify`"
            )
        self._log_was = log


def _identity(path: Path) -> tuple[tuple[int, int] | None, int]:
    """Return which file has a name now, None where none has, and its size in bytes."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None, 0
    return (found.st_dev, found.st_ino), found.st_size
