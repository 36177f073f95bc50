"""Opens the state file: recognises what is ours, brings the schema up to date, and reports what is wrong.

Write-ahead log with `synchronous=FULL`: a commit is on disk when it returns, so a power cut repeats at most what was
in flight. (`NORMAL` would lose the latest commits and send again what they had stored.) On a network file system the
write-ahead log does not work, since it needs shared memory; there the rollback journal is used.
"""

from __future__ import annotations

import logging
import shlex
import sqlite3
import struct
import time
from pathlib import Path

from sync_worker.clock import Clock
from sync_worker.errors import StateError
from sync_worker.ledger.damage import damage_in
from sync_worker.ledger.file_format import APPLICATION_ID, SCHEMA_VERSION
from sync_worker.ledger.file_systems import on_network
from sync_worker.ledger.ledger import Ledger
from sync_worker.ledger.place import is_writable, make_private
from sync_worker.ledger.snapshot import copy_into
from sync_worker.ledger.sqlite_errors import damaged, not_sqlite, translated_errors
from sync_worker.ledger.store import is_in_memory

#: How long a writer waits for another process's transaction, in seconds; transactions here last milliseconds.
BUSY_TIMEOUT = 30.0
_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100

log = logging.getLogger(__name__)


def open_ledger(
    path: Path, clock: Clock, *, must_exist: bool = False, busy_timeout: float = BUSY_TIMEOUT, only_reads: bool = False
) -> Ledger:
    """Open or make the state file, for its owner alone. Raises StateError.

    A file that is not ours, is newer than this program or is damaged is left untouched. Where the file cannot be
    written to, as on a read-only mount, `only_reads` opens a copy in memory: what is written is lost.
    """
    try:
        _check_place(path, must_exist=must_exist or only_reads)
        with translated_errors(path):
            if only_reads and not is_writable(path):
                return _prepare(path, _copied(path, busy_timeout, ":memory:"), clock, busy_timeout, checked=False)
            checked = _inspect(path, busy_timeout)
            if not path.exists():
                make_private(path)
            connection = sqlite3.connect(path, isolation_level=None, timeout=busy_timeout, check_same_thread=False)
            return _prepare(path, connection, clock, busy_timeout, checked=checked)
    except OSError as error:
        raise StateError(
            f"the state file {path} cannot be opened: {error.strerror or error}. Try: give the user of this process "
            "permission to the file and its folder, or another SYNC_STATE_PATH"
        ) from error


def open_beside(path: Path, clock: Clock, *, busy_timeout: float = BUSY_TIMEOUT) -> Ledger:
    """Open a state file for a job of a run that has it open: that run has recognised and checked it.

    Raises StateError.
    """
    with translated_errors(path):
        address = f"{path.resolve().as_uri()}?mode=rw"
        connection = sqlite3.connect(
            address, uri=True, isolation_level=None, timeout=busy_timeout, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            return Ledger(connection, clock, path)
        except BaseException:
            connection.close()
            raise


def open_scratch(path: Path, clock: Clock) -> Ledger:
    """Open a copy of the state file that nobody else sees and that is gone when it is closed; of none, an empty one.

    It is kept in a temporary file once it is large. Its schema is brought up to date, that of the state file is not.
    The state file is only read. Raises StateError.
    """
    temporary = ""  # SQLite's name for a database that is its connection's own
    try:
        with translated_errors(path):
            if path.exists() and path.stat().st_size:
                connection = _copied(path, BUSY_TIMEOUT, temporary)
            else:
                connection = sqlite3.connect(temporary, isolation_level=None, check_same_thread=False)
            return _prepare(path, connection, clock, BUSY_TIMEOUT, checked=False)
    except OSError as error:
        raise StateError(
            f"the state file {path} cannot be read: {error.strerror or error}. Try: read permission"
        ) from error


def _copied(path: Path, busy_timeout: float, into: str) -> sqlite3.Connection:
    """Return a copy of a file that is only read. Raises StateError, OSError or sqlite3.Error."""
    copy = sqlite3.connect(into, isolation_level=None, check_same_thread=False)
    try:
        copy_into(path, copy, busy_timeout)
    except BaseException:
        copy.close()
        raise
    return copy


def _check_place(path: Path, *, must_exist: bool) -> None:
    if path.is_dir():
        raise StateError(f"{path} is a folder. Try: SYNC_STATE_PATH={shlex.quote(str(path / 'sync-state.db'))}")
    if path.exists():
        if not path.is_file():
            raise StateError(f"{path} is not a file that can be written to and kept. Try: another SYNC_STATE_PATH")
        if path.stat().st_size:
            return
    _check_log(path)
    if path.exists():
        return
    if must_exist:
        raise StateError(f"there is no state file at {path}. Try: another SYNC_STATE_PATH, or run `once` first")
    if not path.parent.is_dir():
        if path.parent.exists():
            raise StateError(f"{path.parent} cannot be the folder of a state file. Try: another SYNC_STATE_PATH")
        raise StateError(
            f"the folder of the state file does not exist: {path.parent}. Try: mkdir -p {shlex.quote(str(path.parent))}"
        )


def _check_log(path: Path) -> None:
    """Raise StateError where a state file is gone and its log is not: SQLite would drop the log with a new file."""
    if path.is_symlink() and not path.exists():
        return  # it leads nowhere, which is reported elsewhere
    real = path.resolve()
    log = real.with_name(real.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise StateError(
            f"the state file {path} is gone, and the log of its latest commits, {log}, is still there. Try: put the "
            f"state file back beside it; or, to restart and send again, rm {shlex.quote(str(log))}"
        )


def recognise(path: Path) -> None:
    """Say why a file is no state file that this program can read, if so; nothing is changed. Raises StateError."""
    try:
        if path.is_dir():
            raise StateError(f"{path} is a folder. Try: the state files in it")
        if not path.exists():
            raise StateError(f"there is no file {path}. Try: `ls {shlex.quote(str(path.parent))}`")
        if path.stat().st_size == 0:
            raise StateError(f"{path} is empty, and no state file. Try: the file that the run wrote")
        with translated_errors(path):
            _inspect(path, BUSY_TIMEOUT)
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror or error}. Try: read and write permission") from error


def _inspect(path: Path, busy_timeout: float) -> bool:
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
            _check_application(path, application, version, used=changes != 0)
        return False
    connection = sqlite3.connect(f"{real.as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=busy_timeout)
    try:
        _recognise(path, connection)
        _check_pages(path, connection)
    finally:
        connection.close()
    return True


def _prepare(path: Path, connection: sqlite3.Connection, clock: Clock, busy_timeout: float, *, checked: bool) -> Ledger:
    """Check an open file, bring it up to date and return its ledger; what is wrong closes it."""
    try:
        _recognise(path, connection)
        if not checked:
            _check_pages(path, connection)
        return _migrate(path, connection, clock, busy_timeout)
    except BaseException:
        connection.close()
        raise


def _migrate(path: Path, connection: sqlite3.Connection, clock: Clock, busy_timeout: float) -> Ledger:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    is_new = version == 0
    if version < SCHEMA_VERSION:
        # With their libraries, which no other start needs.
        from sync_worker.ledger.backup import back_up_before_migration, drop_old_copies  # noqa: PLC0415
        from sync_worker.ledger.steps import migrate  # noqa: PLC0415

        connection.execute("BEGIN IMMEDIATE")  # two first starts at once: the second finds the steps done
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if 0 < version < SCHEMA_VERSION and not is_in_memory(connection):
                made = back_up_before_migration(path, version, busy_timeout)
                log.info(
                    "the state file %s is brought from schema %d to %d; %s is a copy from before, %.1f MiB",
                    path, version, SCHEMA_VERSION, made.path, made.size_bytes / 2**20, extra={"action": "state"},
                )  # fmt: skip
            migrate(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        drop_old_copies(path)
    _set_journal(connection, "truncate" if on_network(path) else "wal", busy_timeout)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted or replaced is overwritten
    ledger = Ledger(connection, clock, path)
    if is_new:
        ledger.file_id()
    damage = damage_in(connection, everything=False)
    if damage is not None:
        raise damaged(path, damage)
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
    _check_application(path, application, version, used=tables > 0)


def _check_application(path: Path, application: int, version: int, *, used: bool) -> None:
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
        except sqlite3.OperationalError as error:
            if not str(error.sqlite_errorname).startswith("SQLITE_BUSY") or time.monotonic() >= end:
                raise
            time.sleep(0.01)
        else:
            return  # where the file system cannot do it, SQLite keeps the way it has, which is as safe
