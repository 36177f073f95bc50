"""What SQLite's errors mean for the operator."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sync_worker.errors import StateError

#: Codes that say the file's contents, not its disk, are wrong.
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_IOERR_CORRUPTFS", "SQLITE_IOERR_DATA", "SQLITE_IOERR_SHORT_READ")


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into StateErrors that say what to try."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise state_error(path, error) from error


def state_error(path: Path, error: sqlite3.Error | UnicodeDecodeError) -> StateError:
    """Return what an error of SQLite means for the operator.

    Where the message itself repeats bytes of a damaged page that are no text, Python raises UnicodeDecodeError.
    """
    if isinstance(error, UnicodeDecodeError):
        return damaged(path, "it holds text that is no UTF-8")
    text = str(error)
    if text.startswith("Could not decode to UTF-8"):  # of Python's sqlite3, with the text itself behind it
        return damaged(path, "it holds text that is no UTF-8")
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith("SQLITE_NOTADB"):
        return not_sqlite(path)
    if code.startswith(_DAMAGE):
        return damaged(path, text)
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StateError(
            f"the state file {path} is locked by another program ({text}). Try: again when it is done; nothing is lost",
            transient=True,
        )
    if code.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return StateError(
            f"the disk of the state file {path} is full or failing ({code}: {text}). Try: make room and run again; "
            "nothing without a response counts as sent",
            transient=True,
        )
    if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return StateError(
            f"the state file {path} cannot be written ({text}). Try: give the user of this process write permission to "
            "the file and its folder, or another SYNC_STATE_PATH"
        )
    return StateError(f"the state file {path} cannot be used ({code or type(error).__name__}: {text})")


def is_of_the_copy(error: sqlite3.Error | UnicodeDecodeError) -> bool:
    """Whether an error while a file is copied can be one of the place where the copy is made."""
    code = getattr(error, "sqlite_errorname", "")
    return code.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")) and (
        not code.startswith(_DAMAGE)
    )


def not_sqlite(path: Path) -> StateError:
    """Return the error for a file that SQLite cannot read."""
    return StateError(f"{path} is not a SQLite file. Try: another SYNC_STATE_PATH; the file was not changed")


def damaged(path: Path, damage: str) -> StateError:
    """Return the error for a file of ours whose contents are broken, with the ways out."""
    return StateError(
        f"the state file {path} is damaged ({' '.join(damage.split())}). Nothing was changed. Try: restore it from a "
        f"backup; or `sqlite3 {shlex.quote(str(path))} .recover | sqlite3 recovered.db` and use that; or start again "
        "with another SYNC_STATE_PATH and a SYNC_START after what has arrived already"
    )
