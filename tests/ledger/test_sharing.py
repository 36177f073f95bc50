"""The state file while others use it: locks that are waited for, and first starts at once."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlite_utils import Database

from sync_worker.errors import StateError
from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger, open_ledger
from sync_worker.ledger.file_format import APPLICATION_ID
from sync_worker.ledger.steps import step_1, steps
from tests.ledger.made import Other, another_program
from tests.support.clock import VirtualClock


@pytest.mark.process
def test_lock_of_another_process_is_reported(ledger: Ledger, path: Path, clock: VirtualClock) -> None:
    """A lock that lasts would end `run`, or hang it; the operator would not learn who is in the way."""
    ledger.close()
    with Other("lock", path) as other:
        assert other.line() == "locked"
        ledger = open_ledger(path, clock, busy_timeout=0.05)
        with pytest.raises(StateError, match="locked by another program") as caught:
            ledger.commit_interval(1, "live", Interval(0, 10), [], [])
        assert caught.value.exit_code == 1
        other.go_on()
        other.end()
    ledger.commit_interval(1, "live", Interval(0, 10), [], [])
    assert ledger.completed_intervals(1, "live") == [Interval(0, 10)]
    ledger.close()


@pytest.mark.process
@pytest.mark.parametrize("journal", ["wal", "truncate"])
def test_lock_at_open_is_reported(path: Path, clock: VirtualClock, journal: str) -> None:
    """A file that another program locks as a whole would look damaged, or hang the start."""
    open_ledger(path, clock).close()
    another_program(path, f"PRAGMA journal_mode = {journal}")
    with Other("lock", path) as other:
        assert other.line() == "locked"
        if journal == "wal":  # readers pass; nothing is to be written
            open_ledger(path, clock, busy_timeout=0.05).close()
        else:
            assert _refused_soon(path, clock).exit_code == 1
        other.go_on()
        other.end()
    open_ledger(path, clock).close()


def _refused_soon(path: Path, clock: VirtualClock) -> StateError:
    with pytest.raises(StateError, match="locked by another program") as caught:
        open_ledger(path, clock, busy_timeout=0.05)
    return caught.value


@pytest.mark.process
def test_two_first_starts_at_once_both_succeed(path: Path, clock: VirtualClock) -> None:
    """Two pods that start together on a new volume: one would fail, or take the other's file for a stranger's."""
    with Other("start", path, "a") as first, Other("start", path, "b") as second:
        assert (first.line(), second.line()) == ("ready", "ready")
        first.go_on()
        second.go_on()
        assert (first.line(), second.line()) == ("done", "done")
    ledger = open_ledger(path.with_name(f"0-{path.name}"), clock)
    assert ledger.query("SELECT count(*) FROM state_keys GROUP BY scope") == [(1,), (1,)]
    ledger.close()


def test_change_to_the_log_waits_for_readers(path: Path, clock: VirtualClock) -> None:
    """SQLite refuses the change at once while anybody reads: of two first starts one would fail now and then."""
    open_ledger(path, clock).close()
    another_program(path, "PRAGMA journal_mode = delete")
    reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sent")
    timer = threading.Timer(0.1, reader.close)
    timer.start()
    ledger = open_ledger(path, clock)
    timer.join()
    assert ledger.query("PRAGMA journal_mode") == [("wal",)]
    ledger.close()


def test_tables_made_between_two_looks(path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mark of ours, then a version: the file of another first start would pass for another program's."""
    tries: list[str] = []

    class Interrupted(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            if sql == "PRAGMA user_version" and not tries:
                tries.append(sql)
                other = sqlite3.Connection(str(path), isolation_level=None, timeout=0)
                with contextlib.suppress(sqlite3.OperationalError):  # who looks has the file to itself
                    other.execute("BEGIN IMMEDIATE")
                    steps.apply(Database(other))
                    other.execute("COMMIT")
                other.close()
            return super().execute(sql, *values)  # type: ignore[arg-type]

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **options: connect(*given, **options, factory=Interrupted))
    ledger = open_ledger(path, clock)
    assert (len(tries), ledger.sources()) == (1, [])
    ledger.close()


def test_first_start_of_another_is_waited_for(path: Path, clock: VirtualClock) -> None:
    """The tables of another first start show up between two looks: the file would pass for another program's."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    step_1(Database(other))
    other.execute("CREATE TABLE _sqlite_migrations (id INTEGER PRIMARY KEY, migration_set, name, applied_at)")
    other.execute("INSERT INTO _sqlite_migrations VALUES (1, 'sync_worker', 'step_1', '')")
    timer = threading.Timer(0.1, lambda: other.execute("COMMIT"))
    timer.start()
    ledger = open_ledger(path, clock)
    timer.join()
    other.close()
    assert ledger.query("PRAGMA application_id") == [(APPLICATION_ID,)]
    ledger.close()
