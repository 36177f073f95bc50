"""The open state file: reading, and changing several things at once or none."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sync_worker.clock import Clock
from sync_worker.errors import LeaseHeld
from sync_worker.ledger.damage import damage_in
from sync_worker.ledger.place import Place
from sync_worker.ledger.sqlite_errors import damaged, state_error, translated_errors
from sync_worker.ledger.state_keys import State

if TYPE_CHECKING:
    from sync_worker.ledger.copies import Counter
    from sync_worker.ledger.lease import Lease

#: The lease owners of all roles, as they are stored.
Leases = Mapping[str, Mapping[str, Any]]

SENT_COLUMNS = "source_id, trace_id, observation_id, start_ms, updated_ms, fingerprint, sent_ms, delivery"

#: How long the unflushed connection waits for another process's transaction, in seconds.
UNFLUSHED_TIMEOUT = 0.1
_IN_LIST = 500  # values in one IN (...): SQLite's limit on variables is 32,766, plans are cached by text


class Store:
    """The state file, open. Not for use by two threads at once."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock, path: Path) -> None:
        self.connection = connection
        self.clock = clock
        self.path = path
        self.lease: Lease | None = None
        self.max_dead_letters: int | None = None  # of a source; None means no limit
        self.counted: Counter | None = None  # counts commits of a file that is known to be the latest
        self.in_memory = is_in_memory(connection)
        self._place = None if self.in_memory else Place(path)
        self._unflushed: sqlite3.Connection | None = None
        self._states: dict[str, State] = {}
        self._later: list[
            tuple[str, Sequence[Any] | Mapping[str, Any]]
        ] = []  # statements that the next transaction runs too
        self._stored_rules: set[str] = set()  # digests whose text is known to be in the file

    def close(self) -> None:
        """Close the file."""
        if self._unflushed is not None:
            self._unflushed.close()
            self._unflushed = None
        self.connection.close()

    def unflushed(self) -> sqlite3.Connection:
        """Return a second connection for what may be lost: its commits are not flushed, its waits for locks are short.

        With a write-ahead log, losing the latest commits in a power cut is all that can happen. A rollback journal that
        is not flushed may damage the file, so there they are flushed as all others.
        """
        if self.in_memory:
            return self.connection
        if self._unflushed is None:
            self.check_place()  # to open a name that is gone would make an empty file
            connection = sqlite3.connect(
                self.path, isolation_level=None, timeout=UNFLUSHED_TIMEOUT, check_same_thread=False
            )
            if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA secure_delete = ON")
            self._unflushed = connection
        return self._unflushed

    def query(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        """Return all rows of a SELECT. Raises StateError."""
        try:
            return self.connection.execute(sql, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise state_error(self.path, error) from error

    def records(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Return all rows of a SELECT as dictionaries. Raises StateError."""
        try:
            cursor = self.connection.execute(sql, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise state_error(self.path, error) from error

    def execute(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        """Run one statement of a transaction, which translates its errors."""
        return self.connection.execute(sql, values)

    def execute_many(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        """Run a statement of a transaction with each of these values."""
        self.connection.executemany(sql, values)

    def execute_later(self, sql: str, values: Sequence[Any] | Mapping[str, Any]) -> None:
        """Run a statement with the next transaction: what is worth no transaction of its own, and may be lost."""
        self._later.append((sql, values))

    def insert(self, table: str, values: Mapping[str, Any], *, replace: bool = False) -> None:
        """Insert a row by the names of its columns, within a transaction; `replace` the one with the same key."""
        names = ", ".join(values)
        self.execute(
            f"INSERT {'OR REPLACE ' if replace else ''}INTO {table} ({names}) VALUES ({', '.join('?' * len(values))})",
            list(values.values()),
        )

    @contextmanager
    def transaction(self, *, fenced: bool = True) -> Iterator[Leases]:
        """Do several changes at once or none; gives the leases, as they are in it.

        Raises StateError, or LeaseHeld when the lease was taken over.
        """
        connection = self.connection
        self.check_place()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._check_lease() if fenced else {}
                written = self._write_states(connection)
                later = list(self._later)
                for sql, values in later:
                    connection.execute(sql, values)
                number = None if self.counted is None else self.counted.count(connection)
                self.check_place()
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise state_error(self.path, error) from error
        for state in written:
            state.unsaved.clear()
        del self._later[: len(later)]
        if self.counted is not None and number is not None:
            self.counted.note(number)

    @property
    def is_live(self) -> bool:
        """Whether the live sync's lease is held: nobody else writes what belongs to it."""
        return self.lease is not None and self.lease.role == "live"

    def state(self, scope: str) -> State:
        """Return the state keys of a scope."""
        if scope not in self._states:
            self.reload(scope)
        return self._states[scope]

    def reload(self, *scopes: str) -> None:
        """Read the state keys of these scopes again, in one query; what is not written yet stays."""
        found: dict[str, dict[str, str]] = {scope: {} for scope in scopes}
        marks = ",".join("?" * len(scopes))
        for scope, name, value in self.query(
            f"SELECT scope, name, value FROM state_keys WHERE scope IN ({marks})", scopes
        ):
            found[scope][name] = value
        for scope, values in found.items():
            self._states.setdefault(scope, State(self, scope)).load(values)

    def save(self) -> None:
        """Write the state keys that were put, if any, in one transaction."""
        if any(state.unsaved for state in self._states.values()):
            with self.transaction():
                pass

    def _write_states(self, connection: sqlite3.Connection) -> list[State]:
        """Write unsaved state keys within the current transaction; return their scopes."""
        unsaved = [state for state in self._states.values() if state.unsaved]
        for state in unsaved:
            connection.executemany(
                "INSERT OR REPLACE INTO state_keys (scope, name, value) VALUES (?, ?, ?)",
                [(state.scope, name, value) for name, value in state.unsaved.items()],
            )
        return unsaved

    def check_place(self) -> None:
        """Make sure that the file is the one under its name. Raises StateError."""
        if self._place is not None:
            self._place.check()

    def check(self) -> None:
        """Make sure, before something is sent, that its result can be stored.

        Raises StateError when the file is gone, or LeaseHeld when the lease was taken over.
        """
        self.check_place()
        with translated_errors(self.path):
            self._check_lease()

    def check_damage(self) -> None:
        """Read everything, which takes its time. Raises StateError where something cannot be what was written."""
        with translated_errors(self.path):
            damage = damage_in(self.connection, everything=True)
        if damage is not None:
            raise damaged(self.path, damage)

    def leases(self) -> Leases:
        """Return who holds the leases, dead owners included, by role."""
        return {row["role"]: row for row in self.records("SELECT * FROM leases")}

    def _check_lease(self) -> Leases:
        if self.lease is None:
            return {}
        self.lease.keep_lock(self.path)
        leases = self.leases()
        held = leases.get(self.lease.role)
        if held is None or held["token"] != self.lease.token:
            raise LeaseHeld(
                f"another run took over the lease ({self.lease.role}) of {self.path} while this one slept; "
                "nothing more is written by this one"
            )
        return leases

    def size_bytes(self) -> int:
        """Return the size of the state file, its write-ahead log included."""
        total = 0
        for file in (self.path, self.path.with_name(self.path.name + "-wal")):
            try:
                total += file.stat().st_size
            except FileNotFoundError:  # the log goes when its last user closes the file
                continue
        return total


def is_in_memory(connection: sqlite3.Connection) -> bool:
    """Whether a database has no file that another process could open.

    SQLite is not asked for the name of the file, which need not be text.
    """
    ((unnamed,),) = connection.execute("SELECT coalesce(file, '') = '' FROM pragma_database_list WHERE name = 'main'")
    return bool(unnamed)


def storable(text: str) -> str:
    """Return text with what UTF-8 cannot hold (half a surrogate pair) replaced: SQLite would not take it."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def in_values(pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[str, list[str]]]:
    """Yield rows of question marks for VALUES, with the values of these pairs one after another, as `in_lists`."""
    kept = [pair for pair in pairs if all(storable(value) == value for value in pair)]
    for start in range(0, len(kept), _IN_LIST):
        part = kept[start : start + _IN_LIST]
        yield ",".join(["(?,?)"] * len(part)), [value for pair in part for value in pair]


def in_lists(values: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield question marks for an IN (...) with their values; values that cannot be stored are in no list."""
    kept = [value for value in values if storable(value) == value]
    for start in range(0, len(kept), _IN_LIST):
        part = kept[start : start + _IN_LIST]
        yield ",".join("?" * len(part)), part
