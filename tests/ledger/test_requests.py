"""What processes tell each other of requests: light to write, and never the cause of damage."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlite_utils import Database

from sync_worker.errors import StateError
from sync_worker.ledger import Ledger, file_systems, open_ledger
from sync_worker.ledger.file_format import SCHEMA_VERSION
from sync_worker.ledger.lease import LIVE, release, take
from sync_worker.ledger.steps import steps
from tests.ledger.made import span
from tests.support.clock import VirtualClock
from tests.support.state import put

ORGANIZATION = "organization https://cloud.langfuse.com o"
SCOPE = f"{ORGANIZATION} public-api"


def test_file_of_the_second_version_is_brought_up(path: Path, clock: VirtualClock) -> None:
    """An update of the worker would lose what was done, or forget the limit that was learnt."""
    old = sqlite3.connect(path, isolation_level=None)
    steps.apply(Database(old), stop_before="step_3")
    old.execute("INSERT INTO sent VALUES (1, 't', 'r', 10, 7, x'00', 20, NULL)")
    old.execute("INSERT INTO state_keys VALUES (?, 'requests_per_minute', '30')", [ORGANIZATION])
    assert old.execute("PRAGMA user_version").fetchone() == (2,)
    old.close()
    ledger = open_ledger(path, clock)
    assert ledger.query("PRAGMA user_version") == [(SCHEMA_VERSION,)]
    assert set(ledger.completed_observations(1, ["t"])) == {("t", "r")}
    requests = ledger.requests(SCOPE)
    limit = requests.snapshot(0).limit
    assert limit is not None
    assert (limit[:2], requests.snapshot(0).sent) == ((30, 60), [])
    with requests.transaction():
        requests.store_requests([5])
    assert requests.snapshot(0).sent == [(5, False)]
    ledger.close()


def test_only_requests_are_written_without_a_flush(ledger: Ledger) -> None:
    """A request would cost a flush to disk; or what was sent would be lost in a power cut, and sent again."""
    assert ledger.unflushed().execute("PRAGMA synchronous").fetchone() == (1,)
    assert ledger.query("PRAGMA synchronous") == [(2,)]


def test_rollback_journal_is_always_flushed(path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a write-ahead log a power cut in a commit that is not flushed may damage the file."""
    monkeypatch.setattr(file_systems, "file_system", lambda _: "nfs4")
    ledger = open_ledger(path, clock)
    assert ledger.unflushed().execute("PRAGMA synchronous").fetchone() == (2,)
    requests = ledger.requests(SCOPE)
    with requests.transaction():
        requests.store_requests([5])
    put(ledger, "scope", "name", "value")
    assert requests.snapshot(0).sent == [(5, False)]
    ledger.close()


def test_number_is_never_given_twice(ledger: Ledger) -> None:
    """A process that read up to a number would miss what another one writes under it after a tidying."""
    requests = ledger.requests(SCOPE)
    with requests.transaction():
        last = requests.store_requests([1, 2, 3])
    with requests.transaction():
        requests.delete_outside(10, 20)
        assert requests.store_requests([11]) > last
    assert requests.snapshot(last).sent == [(11, False)]


def test_requests_of_a_clock_that_is_ahead_are_deleted(ledger: Ledger) -> None:
    """Requests that another clock dated into the future would count until then, and hold up everybody."""
    requests, other, day = ledger.requests(SCOPE), ledger.requests("organization b"), 86_400_000
    with requests.transaction():
        requests.store_requests([9, 10, 20, 21])
        other.store_requests([-2 * day, -day // 2, 9, 21])
        requests.delete_outside(10, 20)
    assert [sent for sent, _ in requests.snapshot(0).sent] == [10, 20]
    assert [sent for sent, _ in other.snapshot(0).sent] == [-day // 2, 9, 21]


def test_live_sync_that_has_a_heartheartbeat_is_seen(ledger: Ledger, path: Path, clock: VirtualClock) -> None:
    """A backfill would take requests from a live sync, or keep to its share beside one that is long dead."""
    requests = ledger.requests(SCOPE)
    assert not requests.snapshot(0).live_runs
    live = open_ledger(path, clock)
    lease = take(live, LIVE)
    assert requests.snapshot(0).live_runs
    clock.jump(119)
    assert requests.snapshot(0).live_runs
    clock.jump(1)
    assert not requests.snapshot(0).live_runs
    clock.jump(-239)
    assert requests.snapshot(0).live_runs
    clock.jump(-1)
    assert not requests.snapshot(0).live_runs
    clock.jump(120)
    release(live, lease)
    live.close()


def test_requests_are_deleted_for_good(ledger: Ledger) -> None:
    """What is deleted would stay in the file, readable, until its place is used again."""
    assert ledger.unflushed().execute("PRAGMA secure_delete").fetchone() == (1,)
    assert ledger.query("PRAGMA secure_delete") == [(1,)]


def test_organisations_do_not_count_for_each_other(ledger: Ledger) -> None:
    """A busy organisation would hold up all others on the same state file."""
    with ledger.requests("organization a").transaction():
        ledger.requests("organization a").store_requests([1])
        ledger.requests("organization a").store_limit(30, 60, 5)
        ledger.requests("organization a").store_block(1, 2)
    snapshot = ledger.requests("organization b").snapshot(0)
    assert (snapshot.sent, snapshot.limit, snapshot.blocked) == ([], None, None)


def test_turn_that_fails_wrote_nothing(ledger: Ledger) -> None:
    """Requests that were never sent would count, or everybody be locked out."""
    requests = ledger.requests(SCOPE)

    def fail() -> None:
        with requests.transaction():
            requests.store_requests([1])
            ledger.unflushed().execute("no SQL")

    with pytest.raises(StateError):
        fail()
    assert requests.snapshot(0).sent == []
    put(ledger, "scope", "name", "value")


def test_lock_is_reported_soon(ledger: Ledger, path: Path) -> None:
    """A request would wait for half a minute, and all that the process does with it."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ledger.unflushed().execute("PRAGMA busy_timeout = 1")
    with pytest.raises(StateError, match="locked by another program"), ledger.requests(SCOPE).transaction():
        pass
    other.close()


def test_file_left_by_a_kill_is_whole(ledger: Ledger, path: Path, clock: VirtualClock) -> None:
    """What is not flushed and what is stand in one log: a kill between them would cost the latter."""
    requests = ledger.requests(SCOPE)
    for number in range(50):
        with requests.transaction():
            requests.store_requests([number])
        ledger.commit_result(1, [span("t", f"r{number}", number)], [])
    killed = path.parent / "killed"
    killed.mkdir()
    for name in (path.name, path.name + "-wal"):
        shutil.copyfile(path.with_name(name), killed / name)
    left = open_ledger(killed / path.name, clock)
    assert len(left.completed_observations(1, ["t"])) == 50
    assert len(left.requests(SCOPE).snapshot(0).sent) == 50
    left.close()


def test_limits_of_an_organisation_by_bucket(ledger: Ledger) -> None:
    """The page of a worker would show the limit of another organisation, or a wait as its beginning."""
    for scope, limit in ((SCOPE, 30), (f"{ORGANIZATION} other", 40), (f"{ORGANIZATION}2 public-api", 50)):
        requests = ledger.requests(scope)
        with requests.transaction():
            requests.store_limit(limit, 60, 5)
    with ledger.requests(SCOPE).transaction():
        ledger.requests(SCOPE).store_block(1_000, 9_000)
    with ledger.requests(f"{ORGANIZATION} waits").transaction():
        ledger.requests(f"{ORGANIZATION} waits").store_block(1, 2)
    assert ledger.request_limits(ORGANIZATION) == {
        "public-api": (30, 60, 9_000), "other": (40, 60, None), "waits": (None, 0, 2),
    }  # fmt: skip


def test_requests_since_a_time_are_counted(ledger: Ledger) -> None:
    """`status` would tell another number of requests than were sent."""
    requests = ledger.requests(SCOPE)
    with requests.transaction():
        assert requests.store_requests([]) == 0
        requests.store_requests([10, 20, 30])
    with ledger.requests("organization b").transaction():
        ledger.requests("organization b").store_requests([30])
    assert [ledger.count_requests(SCOPE, since) for since in (0, 10, 30)] == [3, 2, 0]
    assert requests.snapshot(3).last == 3
    assert requests.snapshot(0).last == 3
