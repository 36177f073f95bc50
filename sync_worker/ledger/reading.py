"""Reads the state file beside the process that works on it: through a connection that cannot write, in bounded time."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sync_worker.clock import Clock
from sync_worker.errors import StateError
from sync_worker.ledger.file_format import APPLICATION_ID, SCHEMA_VERSION
from sync_worker.ledger.ledger import Ledger
from sync_worker.ledger.sqlite_errors import state_error

_STEPS = 2_000  # of SQLite's machine between two looks at the time: well below a millisecond


@contextmanager
def open_to_read(path: Path, clock: Clock, until: float) -> Iterator[Ledger]:
    """Open the state file as it stands at one moment. Raises StateError, also once `until` (monotonic s) has passed.

    The file is never opened but by SQLite: closing it otherwise would drop the locks that this process has on it.
    """
    left = until - time.monotonic()
    if left <= 0 or not path.exists():
        why = "is not there" if left > 0 else "cannot be read in time"
        raise StateError(f"the state file {path} {why}", transient=left <= 0)
    connection: sqlite3.Connection | None = None
    try:
        address = f"{path.resolve().as_uri()}?mode=ro"
        connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=left, check_same_thread=False)
        connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        ((application,), (version,)) = (
            connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
        )
        if (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
            raise StateError(f"{path} is no state file of this version of the worker")
        yield Ledger(connection, clock, path)
    except (StateError, sqlite3.Error, UnicodeDecodeError) as error:
        if time.monotonic() > until:
            raise StateError(f"the state file {path} cannot be read in time", transient=True) from error
        raise error if isinstance(error, StateError) else state_error(path, error) from error
    finally:
        if connection is not None:
            connection.close()
