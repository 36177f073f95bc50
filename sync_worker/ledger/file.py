"""Opens the state file: recognises what is ours, brings the schema up to date, and says clearly what is wrong.

Write-ahead log with `synchronous=FULL`: a commit is on disk when it returns, so a power cut repeats at most what was
in flight. (`NORMAL` would lose the latest commits and send again what they had noted.) On a network file system the
write-ahead log does not work, since it needs shared memory; there the rollback journal is used.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database

from sync_worker.clock import Clock
from sync_worker.errors import StateError
from sync_worker.ledger.ledger import Ledger
from sync_worker.ledger.steps import APPLICATION_ID, SCHEMA_VERSION, steps

#: How long a writer waits for another process's transaction, in seconds; transactions here last milliseconds.
BUSY_TIMEOUT = 30.0
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre"})


def open_ledger(path: Path, clock: Clock, *, must_exist: bool = False, busy_timeout: float = BUSY_TIMEOUT) -> Ledger:
    """Open or make the state file. Raises StateError.

    A file that is not ours, is newer than this program or is damaged is left untouched.
    """
    if must_exist and not path.exists():
        raise StateError(f"there is no state file at {path}. Try: another SYNC_STATE_PATH, or run `once` first")
    if path.is_dir():
        raise StateError(f"{path} is a folder. Try: SYNC_STATE_PATH={path / 'sync-state.db'}")
    if not path.parent.is_dir():
        raise StateError(f"the folder of the state file does not exist: {path.parent}. Try: mkdir -p {path.parent}")
    with explained(path):
        connection = sqlite3.connect(path, isolation_level=None, timeout=busy_timeout, check_same_thread=False)
        try:
            return _prepared(path, connection, clock)
        except BaseException:
            connection.close()
            raise


def _prepared(path: Path, connection: sqlite3.Connection, clock: Clock) -> Ledger:
    _recognise(path, connection)
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise StateError(_damaged(path, damage))
    journal = "TRUNCATE" if file_system(path) in _NETWORK_FILE_SYSTEMS else "WAL"
    connection.execute(f"PRAGMA journal_mode = {journal}")
    connection.execute("PRAGMA synchronous = FULL")
    db = Database(connection, execute_plugins=False)
    if connection.execute("PRAGMA user_version").fetchone()[0] < SCHEMA_VERSION:
        connection.execute("BEGIN IMMEDIATE")  # two first starts at once: the second finds the steps done
        try:
            steps.apply(db)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return Ledger(db, clock, path)


def _recognise(path: Path, connection: sqlite3.Connection) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and (tables or application or version):
        raise StateError(f"{path} is a SQLite file of another program. Try: another SYNC_STATE_PATH")
    if version > SCHEMA_VERSION:
        raise StateError(
            f"{path} was written by a newer version of the worker (schema {version}, this one knows {SCHEMA_VERSION}). "
            "Try: the newer version; the file was not changed"
        )


def file_system(path: Path) -> str:
    """Return the kind of file system that holds the path ("ext4", "nfs4"); "" where the system does not say."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
        where = str(path.resolve().parent)
    except OSError:
        return ""
    best, kind = "", ""
    for line in lines:
        fields = line.split(" ")
        mount = fields[1].replace("\\040", " ") if len(fields) > 2 else ""
        inside = mount and (where == mount or where.startswith(mount.rstrip("/") + "/"))
        if inside and len(mount) >= len(best):
            best, kind = mount, fields[2]
    return kind


def on_network(path: Path) -> bool:
    """Whether the path stands on a network file system."""
    return file_system(path) in _NETWORK_FILE_SYSTEMS


def _damaged(path: Path, damage: str) -> str:
    return (
        f"the state file {path} is damaged ({damage}). Nothing was changed. Try: restore it from a backup; or "
        f"`sqlite3 {path} .recover | sqlite3 recovered.db` and use that; or start anew with another SYNC_STATE_PATH "
        "and a SYNC_START after what has arrived already"
    )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into StateErrors that say what to try."""
    try:
        yield
    except sqlite3.Error as fault:
        raise explanation(path, fault) from fault


def explanation(path: Path, fault: sqlite3.Error) -> StateError:
    """Return what an error of SQLite means for the operator."""
    text = str(fault)
    code = getattr(fault, "sqlite_errorname", "")
    if code.startswith("SQLITE_NOTADB"):
        return StateError(f"{path} is not a SQLite file. Try: another SYNC_STATE_PATH; the file was not changed")
    if code.startswith("SQLITE_CORRUPT"):
        return StateError(_damaged(path, text))
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StateError(
            f"the state file {path} is locked by another program ({text}). Try: again when it is done; nothing is lost",
            transient=True,
        )
    if code.startswith("SQLITE_FULL") or code in {"SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_SHMSIZE"}:
        return StateError(
            f"the disk of the state file {path} is full or failing ({text}). Try: make room and run again; nothing "
            "that was not answered counts as done",
            transient=True,
        )
    if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return StateError(
            f"the state file {path} cannot be written ({text}). Try: give the user of this process write permission to "
            "the file and its folder, or another SYNC_STATE_PATH"
        )
    return StateError(f"the state file {path} cannot be used ({code or type(fault).__name__}: {text})")
