"""Makes a copy of the state file that can take its place: whole, checked, flushed, and under its name only then."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sync_worker.errors import StateError
from sync_worker.ledger.copies import note_beside
from sync_worker.ledger.damage import damage_in
from sync_worker.ledger.place import make_private
from sync_worker.ledger.snapshot import copy_in_use, copy_into
from sync_worker.ledger.sqlite_errors import damaged, is_of_the_copy, state_error

#: Copies of older schema versions that are kept.
KEPT_COPIES = 2
#: Bytes that must be left beside a copy, for what SQLite and other runs write during it.
_SPARE_BYTES = 1024 * 1024
#: What belongs to a run that is not one of the copy.
_OF_RUNS = ("leases", "claims", "trace_claims")
_BESIDE = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy that was made: its size, and the version of its schema."""

    path: Path
    size_bytes: int
    schema: int


def back_up(path: Path, to: Path, busy_timeout: float, *, replace: bool) -> Backup:
    """Copy the state file to `to`, beside whoever works on it; an older file there only with `replace`.

    A link is followed: the copy is made where it leads. Raises StateError.
    """
    with _errors(path, to):
        to = to if to.is_dir() else Path(os.path.realpath(to))
        _check_target(path, to, replace=replace)
        return _make(path, to, lambda copy: copy_into(path, copy, busy_timeout), replace=replace)


def back_up_before_migration(path: Path, version: int, busy_timeout: float) -> Backup:
    """Copy a state file that is about to be changed to a newer schema, and that this process has open.

    Raises StateError, also where there is no room.
    """
    to = path.resolve().with_name(f"{path.resolve().name}.schema-{version}")
    with _errors(path, to):
        return _make(path, to, lambda copy: copy_in_use(path, copy, busy_timeout), replace=True)


def drop_old_copies(path: Path) -> None:
    """Delete the copies of older schema versions but the newest; one that cannot be deleted stays."""
    real = path.resolve()
    found = [(one.name.rpartition("-")[2], one) for one in real.parent.glob(f"{real.name}.schema-*")]
    versions = sorted((int(version), one) for version, one in found if version.isdigit())
    for _, one in versions[:-KEPT_COPIES]:
        with contextlib.suppress(OSError):
            one.unlink()


def _check_target(path: Path, to: Path, *, replace: bool) -> None:
    if to.is_dir():
        raise StateError(f"{to} is a folder. Try: {shlex.quote(str(to / 'sync-state.backup.db'))}")
    if not to.parent.is_dir():
        raise StateError(f"the folder {to.parent} does not exist. Try: mkdir -p {shlex.quote(str(to.parent))}")
    if to.is_symlink():
        raise StateError(f"{to} is a link that leads to itself. Try: another name")
    if belongs_to(to, path.resolve()):
        raise StateError(f"{to} is the state file itself, or belongs to it. Try: another name")
    if to.exists() and not to.is_file():
        raise StateError(f"{to} is not a file, and would be replaced by one. Try: another name")
    if to.exists() and not replace:
        raise _exists(to)


def belongs_to(file: Path, state: Path) -> bool:
    """Whether a file is the state file, or one that runs make, replace or delete beside it."""
    if file.parent != state.parent:
        return False
    more = file.name.removeprefix(state.name)
    is_beside = file.name.startswith(state.name) and re.fullmatch(r"(-wal|-shm|-journal|\..*lock|\.schema-\d+)?", more)
    return bool(is_beside) or file.name == note_beside(state).name


def _make(path: Path, to: Path, copy: Callable[[sqlite3.Connection], None], *, replace: bool) -> Backup:
    real = path.resolve()
    sizes = [real.with_name(real.name + ending) for ending in ("", "-wal")]
    needed = sum(one.stat().st_size for one in sizes if one.exists()) + _SPARE_BYTES
    system = os.statvfs(to.parent)
    free = system.f_bavail * system.f_frsize
    if free < needed:
        raise _no_room(to, needed, free)
    temporary = to.with_name(f".{to.name}.{os.getpid()}.tmp")
    try:
        make_private(temporary)
        schema = _fill(path, temporary, copy)
        _flush(temporary)
        size = temporary.stat().st_size
        _publish(temporary, to, replace=replace)
        _flush(to.parent)
    finally:
        for ending in _BESIDE:
            with contextlib.suppress(OSError):
                temporary.with_name(temporary.name + ending).unlink()
    return Backup(to, size, schema)


def _fill(path: Path, temporary: Path, copy: Callable[[sqlite3.Connection], None]) -> int:
    """Copy, check what was copied, and return the version of its schema."""
    made = sqlite3.connect(temporary, isolation_level=None)
    try:
        copy(made)
        made.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        tables = {name for (name,) in made.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in _OF_RUNS:
            if table in tables:
                made.execute(f"DELETE FROM {table}")
        ((found,),) = made.execute("PRAGMA integrity_check(1)").fetchall()
        damage = damage_in(made, everything=True) if found == "ok" else found
        if damage is not None:
            raise damaged(path, damage)
        return int(made.execute("PRAGMA user_version").fetchone()[0])
    finally:
        made.close()


def _publish(temporary: Path, to: Path, *, replace: bool) -> None:
    if replace:
        temporary.replace(to)
        return
    try:
        os.link(temporary, to)  # never over a file that was made since
    except FileExistsError:
        raise _exists(to) from None
    except OSError:  # a file system without hard links
        try:
            os.close(os.open(to, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            raise _exists(to) from None
        temporary.replace(to)


def _flush(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextlib.contextmanager
def _errors(path: Path, to: Path) -> Iterator[None]:
    """Turn errors into StateErrors, of the copy or of the state file, whichever is wrong."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise (_not_written(to, str(error)) if is_of_the_copy(error) else state_error(path, error)) from error
    except OSError as error:
        raise _not_written(to, error.strerror or str(error)) from error


def _not_written(to: Path, reason: str) -> StateError:
    return StateError(
        f"the copy {to} cannot be written: {reason}. Try: another place for it; the state file was not changed",
        transient=True,
    )


def _exists(to: Path) -> StateError:
    return StateError(f"{to} exists. Try: another name, or --force to replace it")


def _no_room(to: Path, needed: int, free: int) -> StateError:
    return StateError(
        f"there is no room for a copy of the state file at {to}: {needed / 2**20:,.0f} MiB are needed, "
        f"{free / 2**20:,.0f} MiB are free. Try: make room and run again; the state file was not changed",
        transient=True,
    )
