"""Opens the state file: recognises what is ours, brings the schema up to date, and says clearly what is wrong.

Write-ahead log with `synchronous=FULL`: a commit is on disk when it returns, so a power cut repeats at most what was
in flight. (`NORMAL` would lose the latest commits and send again what they had noted.) On a network file system the
write-ahead log does not work, since it needs shared memory; there the rollback journal is used.
"""

from __future__ import annotations

import shlex
import sqlite3
import struct
import time
from pathlib import Path

from sqlite_utils import Database

from sync_worker.clock import Clock
from sync_worker.errors import StateError
from sync_worker.ledger.faults import damaged, explained, not_sqlite
from sync_worker.ledger.ledger import Ledger
from sync_worker.ledger.steps import APPLICATION_ID, SCHEMA_VERSION, steps

#: How long a writer waits for another process's transaction, in seconds; transactions here last milliseconds.
BUSY_TIMEOUT = 30.0
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre"})
_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100


def open_ledger(path: Path, clock: Clock, *, must_exist: bool = False, busy_timeout: float = BUSY_TIMEOUT) -> Ledger:
    """Open or make the state file. Raises StateError.

    A file that is not ours, is newer than this program or is damaged is left untouched.
    """
    try:
        _check_place(path, must_exist=must_exist)
        with explained(path):
            checked = _look(path, busy_timeout)
            connection = sqlite3.connect(path, isolation_level=None, timeout=busy_timeout, check_same_thread=False)
            try:
                return _prepared(path, connection, clock, busy_timeout, checked=checked)
            except BaseException:
                connection.close()
                raise
    except OSError as fault:
        raise StateError(
            f"the state file {path} cannot be opened: {fault.strerror or fault}. Try: give the user of this process "
            "permission to the file and its folder, or another SYNC_STATE_PATH"
        ) from fault


def _check_place(path: Path, *, must_exist: bool) -> None:
    if path.is_dir():
        raise StateError(f"{path} is a folder. Try: SYNC_STATE_PATH={shlex.quote(str(path / 'sync-state.db'))}")
    if path.exists():
        if not path.is_file():
            raise StateError(f"{path} is not a file that can be written to and kept. Try: another SYNC_STATE_PATH")
        return
    if must_exist:
        raise StateError(f"there is no state file at {path}. Try: another SYNC_STATE_PATH, or run `once` first")
    if not path.parent.is_dir():
        raise StateError(
            f"the folder of the state file does not exist: {path.parent}. Try: mkdir -p {shlex.quote(str(path.parent))}"
        )


def recognise(path: Path) -> None:
    """Say why a file is no state file that this program can read, if so; nothing is changed. Raises StateError."""
    if path.is_dir():
        raise StateError(f"{path} is a folder. Try: the state files in it")
    if not path.exists():
        raise StateError(f"there is no file {path}. Try: `ls {shlex.quote(str(path.parent))}`")
    try:
        if path.stat().st_size == 0:
            raise StateError(f"{path} is empty, and no state file. Try: the file that the run wrote")
        with explained(path):
            _look(path, BUSY_TIMEOUT)
    except OSError as fault:
        raise StateError(f"{path} cannot be read: {fault.strerror or fault}. Try: read and write permission") from fault


def _look(path: Path, busy_timeout: float) -> bool:
    """Recognise an existing file before anything can change it; returns whether its pages were checked too.

    Opening a database for writing folds a write-ahead log into it on closing. So the header is read by hand, and
    where a log holds the latest word, through a connection that can only read.
    """
    if not path.exists():
        return False
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if not header:
        return False
    if not header.startswith(_MAGIC):
        raise not_sqlite(path)
    real = path.resolve()
    log = real.with_name(real.name + "-wal")
    if not log.exists() or log.stat().st_size == 0:
        if len(header) == _HEADER_BYTES:
            changes, version, application = (struct.unpack_from(">i", header, at)[0] for at in (40, 60, 68))
            _judge(path, application, version, used=changes != 0)
        return False
    connection = sqlite3.connect(f"{real.as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=busy_timeout)
    try:
        _recognise(path, connection)
        _check_pages(path, connection)
    finally:
        connection.close()
    return True


def _prepared(
    path: Path, connection: sqlite3.Connection, clock: Clock, busy_timeout: float, *, checked: bool
) -> Ledger:
    _recognise(path, connection)
    if not checked:
        _check_pages(path, connection)
    db = Database(connection, execute_plugins=False)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    is_new = version == 0
    if version < SCHEMA_VERSION:
        connection.execute("BEGIN IMMEDIATE")  # two first starts at once: the second finds the steps done
        try:
            steps.apply(db)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    _set_journal(connection, "truncate" if on_network(path) else "wal", busy_timeout)
    connection.execute("PRAGMA synchronous = FULL")
    ledger = Ledger(db, clock, path)
    if is_new:
        ledger.file_id()
    return ledger


def _recognise(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")  # one moment for all three: another process may be making the tables
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    _judge(path, application, version, used=tables > 0)


def _judge(path: Path, application: int, version: int, *, used: bool) -> None:
    if application != APPLICATION_ID and (used or application or version):
        raise StateError(f"{path} is a SQLite file of another program. Try: another SYNC_STATE_PATH")
    if version > SCHEMA_VERSION:
        raise StateError(
            f"{path} was written by a newer version of the worker (schema {version}, this one knows {SCHEMA_VERSION}). "
            "Try: the newer version; the file was not changed"
        )


def _check_pages(path: Path, connection: sqlite3.Connection) -> None:
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise damaged(path, damage)


def _set_journal(connection: sqlite3.Connection, wanted: str, busy_timeout: float) -> None:
    """Choose how commits are written. SQLite does not wait for other processes here, so this does."""
    end = time.monotonic() + busy_timeout
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != wanted:
        try:
            connection.execute(f"PRAGMA journal_mode = {wanted}")
        except sqlite3.OperationalError as fault:
            if not str(fault.sqlite_errorname).startswith("SQLITE_BUSY") or time.monotonic() >= end:
                raise
            time.sleep(0.01)
        else:
            return  # where the file system cannot do it, SQLite keeps the way it has, which is as safe


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
