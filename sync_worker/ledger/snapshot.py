"""Copies the state file as it stands at one moment, beside whoever works on it, and changes nothing of it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sync_worker.errors import StateError
from sync_worker.ledger.place import is_writable
from sync_worker.ledger.sqlite_errors import not_sqlite

_MAGIC = b"SQLite format 3\x00"
_WRITTEN_BY, _WAL = 18, 2  # where the header says how commits are written, and what it says of a write-ahead log
_TRIES = 5


def copy_into(path: Path, target: sqlite3.Connection, busy_timeout: float) -> None:
    """Copy all that is committed into another database; `busy_timeout` in seconds. Nothing is left beside the file.

    Not for a process that has the file open. Raises StateError, OSError or sqlite3.Error.
    """
    for _ in range(_TRIES):
        before = _look(path)
        # A file with a write-ahead log that is not there is used by nobody, and holds everything: to open it in the
        # usual way would make a log. Where somebody began to use it during that, it is copied again.
        if before is None:
            break
        try:
            _copy(path, "immutable=1", target, busy_timeout)
        except sqlite3.DatabaseError:
            if _look(path) == before:
                raise
        else:
            if _look(path) == before:
                return
    _copy(path, "mode=ro", target, busy_timeout)


def copy_in_use(path: Path, target: sqlite3.Connection, busy_timeout: float) -> None:
    """Copy all that is committed of a file that this process has open. Raises as `copy_into`.

    The file is opened by SQLite alone: closing it otherwise would drop the locks that this process has on it.
    """
    _copy(path, "mode=ro", target, busy_timeout)


def _look(path: Path) -> tuple[int, int, int] | None:
    """Return what shows whether a file was written to, if it has no log but would have one; else None."""
    with path.open("rb") as file:
        header = file.read(_WRITTEN_BY + 1)
    if not header.startswith(_MAGIC):
        raise not_sqlite(path)
    log = _log_of(path)
    if log.exists() and (log.stat().st_size or is_writable(path)):
        return None
    if header[_WRITTEN_BY] != _WAL and is_writable(path):
        return None
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _copy(path: Path, mode: str, target: sqlite3.Connection, busy_timeout: float) -> None:
    source = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, timeout=busy_timeout)
    try:
        source.backup(target)
    except sqlite3.OperationalError as error:
        if not str(error.sqlite_errorname).startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
            raise
        raise StateError(
            f"the latest commits of the state file {path} are in {_log_of(path)}, which cannot be read where nothing "
            f"can be written ({error}). Try: copy both to another folder, and --state with the copy"
        ) from error
    finally:
        source.close()


def _log_of(path: Path) -> Path:
    real = path.resolve()
    return real.with_name(real.name + "-wal")
