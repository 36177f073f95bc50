"""One run at a time for each role: who holds the lease, who gets it, and who may still write."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from sync_worker.errors import LeaseHeld, StateError
from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger, lease, open_ledger
from sync_worker.ledger.lease import BACKFILL, LIVE, heartbeat, lease_owner, release, take
from tests.ledger.made import ROOT, Other, die, note, span
from tests.support.clock import VirtualClock
from tests.support.state import put


@pytest.fixture(autouse=True)
def _watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what watches a lease not wait for real."""
    monkeypatch.setattr(lease, "WATCH_PAUSE", 0.0)


@pytest.fixture
def elsewhere(ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """Yield the same state file as a machine sees it that shares no locks with this one."""
    held = take(ledger, LIVE)
    held.lock.close()
    held.locked = False
    monkeypatch.setattr(lease, "_boot_id", lambda: "another boot")
    monkeypatch.setattr(socket, "gethostname", lambda: "another-host")
    opened = open_ledger(path, ledger.clock)
    yield opened
    opened.close()


@pytest.mark.process
def test_second_process_is_reported_who_is_at_work(path: Path, ledger: Ledger) -> None:
    """Two runs of cron that overlap would send everything twice."""
    with Other("lease", path, LIVE) as first:
        assert first.line() == "held"
        with Other("lease", path, LIVE) as second:
            printed = second.line()
            second.end()
        assert printed.startswith("5 another run (live)")
        assert second.process.returncode == 5
        held = lease_owner(ledger, LIVE)
        assert held is not None
        assert (held["pid"], held["host"]) == (first.process.pid, socket.gethostname())
        first.go_on()
        first.end()
    assert lease_owner(ledger, LIVE) is None
    release(ledger, take(ledger, LIVE))


def test_owner_whose_lock_file_is_gone_is_dead(path: Path, ledger: Ledger) -> None:
    """`status` would tell of a run that was killed, and others wait for it, for as long as a lease may be."""
    dead = open_ledger(path, ledger.clock)
    take(dead, LIVE)
    assert lease_owner(ledger, LIVE) is not None
    die(dead)
    path.with_name(f"{path.name}.{LIVE}.lock").unlink()
    assert lease_owner(ledger, LIVE) is None
    assert dead.lease is not None
    dead.lease.lock.close()
    dead.close()


@pytest.mark.process
def test_dead_holder_is_followed_at_once(path: Path, ledger: Ledger) -> None:
    """After a kill or a crash the next run would wait for a time limit, or for ever."""
    with Other("lease", path, LIVE) as other:
        assert other.line() == "held"
        other.kill()
    assert ledger.query("SELECT role FROM leases") == [(LIVE,)]
    assert lease_owner(ledger, LIVE) is None
    release(ledger, take(ledger, LIVE))


def test_roles_do_not_meet(ledger: Ledger, path: Path) -> None:
    """A backfill could not run beside the worker."""
    live = take(ledger, LIVE)
    beside = open_ledger(path, ledger.clock)
    backfill = take(beside, BACKFILL)
    beside.commit_interval(1, BACKFILL, Interval(10, 20), [], [])
    ledger.commit_interval(1, LIVE, Interval(30, 40), [], [])
    assert lease_owner(ledger, BACKFILL) is not None
    release(beside, backfill)
    release(ledger, live)
    beside.close()


def test_lock_is_the_same_by_every_path(ledger: Ledger, path: Path, tmp_path: Path) -> None:
    """Two runs that reach one file by different links would both be at work."""
    link = tmp_path / "folder" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    other = open_ledger(link, ledger.clock)
    held = take(ledger, LIVE)
    with pytest.raises(LeaseHeld):
        take(other, LIVE)
    release(ledger, held)
    release(other, take(other, LIVE))
    other.close()
    assert sorted(file.name for file in tmp_path.rglob("*.lock")) == ["state.db.live.lock"]


def test_lease_of_another_machine_holds_until_its_limit(elsewhere: Ledger, clock: VirtualClock) -> None:
    """A pod that is alive on another node would be pushed out, or a dead one's lease would hold for ever."""
    clock.advance(119.999)
    held = lease_owner(elsewhere, LIVE)
    assert held is not None
    assert held["pid"] == os.getpid()
    with pytest.raises(LeaseHeld, match=r"its lease ends 120 s after its last heartbeat") as caught:
        take(elsewhere, LIVE)
    assert caught.value.exit_code == 5
    clock.advance(0.001)
    assert lease_owner(elsewhere, LIVE) is None
    release(elsewhere, take(elsewhere, LIVE))


def test_heartbeat_prolongs_the_lease(elsewhere: Ledger, ledger: Ledger, clock: VirtualClock) -> None:
    """A run that is alive would lose its lease after two minutes."""
    held = ledger.lease
    assert held is not None
    clock.advance(100)
    heartbeat(ledger, held)
    clock.advance(100)
    with pytest.raises(LeaseHeld):
        take(elsewhere, LIVE)


def test_heartbeat_of_a_wrong_clock_does_not_hold_for_ever(elsewhere: Ledger, clock: VirtualClock) -> None:
    """A machine whose clock was a day ahead when it died would hold the lease for a day."""
    clock.jump(-86_400)
    release(elsewhere, take(elsewhere, LIVE))


def test_lease_that_only_seems_abandoned_is_not_taken(
    elsewhere: Ledger, ledger: Ledger, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose clock was set pushes out a run that is alive on another one, which then ends with 5."""
    held = ledger.lease
    assert held is not None
    for jump in (3_600.0, -7_200.0):
        clock.jump(jump)
        monkeypatch.setattr(time, "sleep", lambda _: heartbeat(ledger, held))
        with pytest.raises(LeaseHeld):
            take(elsewhere, LIVE)
    ledger.commit_interval(1, LIVE, Interval(0, 1), [], [])
    looks: list[float] = []
    clock.jump(3_600.0)
    monkeypatch.setattr(time, "sleep", looks.append)
    release(elsewhere, take(elsewhere, LIVE))
    assert len(looks) * 0.5 > lease.HEARTBEAT


def test_heartbeat_of_a_clock_that_stands_still_is_another_one(ledger: Ledger) -> None:
    """A run on a machine whose clock stopped would look dead to all others."""
    held = take(ledger, LIVE)
    heartbeats = set()
    for _ in range(4):
        heartbeats.add(ledger.query("SELECT heartbeat_ms FROM leases")[0][0])
        heartbeat(ledger, held)
    assert len(heartbeats) > 1
    release(ledger, held)


def test_boot_of_the_same_machine_ends_its_lease(
    ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch, clock: VirtualClock
) -> None:
    """After a power cut the worker would wait for its own ghost."""
    take(ledger, LIVE).lock.close()
    monkeypatch.setattr(lease, "_boot_id", lambda: "the boot after")
    after = open_ledger(path, clock)
    assert lease_owner(after, LIVE) is None
    release(after, take(after, LIVE))
    after.close()


def test_who_was_taken_over_writes_nothing_more(elsewhere: Ledger, ledger: Ledger, clock: VirtualClock) -> None:
    """A run that slept through its lease would write into the work of its successor."""
    old = ledger.lease
    assert old is not None
    clock.advance(120)
    new = take(elsewhere, LIVE)
    for change in (
        lambda: ledger.commit_result(1, [span("t", "r")], []),
        lambda: ledger.commit_interval(1, LIVE, Interval(0, 1), [note("t")], []),
        lambda: ledger.store_traces(1, [note("t")]),
        lambda: put(ledger, "scope", "name", "value"),
        lambda: ledger.forget(1, 1, [Interval(0, 1)]),
        lambda: heartbeat(ledger, old),
    ):
        with pytest.raises(LeaseHeld, match="took over the lease"):
            change()
    assert ledger.query("SELECT count(*) FROM sent") == [(0,)]
    assert ledger.completed_intervals(1, LIVE) == []
    release(ledger, old)  # it is no longer his to give back
    assert elsewhere.query("SELECT token FROM leases") == [(new.token,)]
    elsewhere.commit_interval(1, LIVE, Interval(0, 1), [], [])
    release(elsewhere, new)
    elsewhere.close()


def test_lost_lease_is_noticed(ledger: Ledger) -> None:
    """A successor that has come and gone leaves no lease: what stood in between would be written over."""
    held = take(ledger, LIVE)
    ledger.connection.execute("DELETE FROM leases")
    with pytest.raises(LeaseHeld):
        ledger.commit_result(1, [span("t", "r")], [])
    release(ledger, held)


def test_release_frees_the_lock_though_the_file_cannot_be_written(ledger: Ledger, path: Path) -> None:
    """A full disk at the end of a run would keep a process that stays alive from taking the lease again."""
    held = take(ledger, LIVE)
    ledger.connection.execute("PRAGMA query_only = 1")
    release(ledger, held)
    assert (held.lock.closed, ledger.lease) == (True, None)
    again = open_ledger(path, ledger.clock)
    release(again, take(again, LIVE))
    again.close()


def test_refused_lease_frees_its_lock(elsewhere: Ledger, path: Path, clock: VirtualClock) -> None:
    """A run that was refused would keep the lock, and the true holder would be refused by it after a restart."""
    with pytest.raises(LeaseHeld):
        take(elsewhere, LIVE)
    assert elsewhere.lease is None
    with path.with_name("state.db.live.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_look_does_not_refuse_a_start(ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`status` that looks who is at work would make a `once` of the same moment end with 5."""
    release(ledger, take(ledger, LIVE))
    looking = path.with_name("state.db.live.lock").open("a+")
    fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        looking.close()

    monkeypatch.setattr(time, "sleep", pause)
    release(ledger, take(ledger, LIVE))
    assert pauses == [0.02]


def test_two_looks_do_not_see_each_other(ledger: Ledger, path: Path) -> None:
    """Two `status` at once would each take the other for a run, and a backfill would stop at a dead one's edge."""
    take(ledger, LIVE).lock.close()
    with path.with_name("state.db.live.lock").open("a+") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert lease_owner(ledger, LIVE) is None


@pytest.mark.process
def test_lock_is_not_inherited(ledger: Ledger) -> None:
    """A program started by the worker would hold the lease after the worker's death."""
    held = take(ledger, LIVE)
    number = held.lock.fileno()
    code = f"import os, sys\ntry: os.fstat({number})\nexcept OSError: sys.exit(3)"
    assert subprocess.run([sys.executable, "-c", code], close_fds=False, check=False).returncode == 3
    release(ledger, held)


def test_without_locks_the_limit_decides(
    ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch, clock: VirtualClock
) -> None:
    """On a file system without locks two runs on one machine would both be at work."""

    def no_locks(_: IO[str], __: int) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    held = take(ledger, LIVE)
    other = open_ledger(path, clock)
    assert lease_owner(other, LIVE) is not None
    with pytest.raises(LeaseHeld):
        take(other, LIVE)
    clock.advance(120)
    assert lease_owner(other, LIVE) is None
    release(other, take(other, LIVE))
    release(ledger, held)
    other.close()


def test_lock_file_that_cannot_be_opened_is_reported(ledger: Ledger, path: Path) -> None:
    """The operator would read a stack of calls."""
    path.with_name("state.db.live.lock").mkdir()
    with pytest.raises(StateError, match=r"the lock file .* cannot be opened"):
        take(ledger, LIVE)


def test_lock_file_that_was_removed_costs_no_write(ledger: Ledger, path: Path) -> None:
    """Somebody tidies up *.lock: both runs hold a lock, but only one may write."""
    first = take(ledger, LIVE)
    path.with_name("state.db.live.lock").unlink()
    other = open_ledger(path, ledger.clock)
    second = take(other, LIVE)
    other.commit_result(1, [span("t", "r")], [])
    with pytest.raises(LeaseHeld):
        ledger.commit_result(1, [span("t", "r")], [])
    release(ledger, first)
    release(other, second)
    other.close()


def test_copy_of_a_state_file_is_free(ledger: Ledger, path: Path, tmp_path: Path) -> None:
    """A backup taken from a running worker could not be used on the same machine."""
    held = take(ledger, LIVE)
    ledger.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    restored = open_ledger(copy, ledger.clock)
    release(restored, take(restored, LIVE))
    restored.close()
    release(ledger, held)


def test_names_are_those_of_the_commands() -> None:
    """Roles are kept in the file: another spelling would make two runs of one role."""
    assert (LIVE, BACKFILL, lease.RETRY, lease.HEARTBEAT * 3 < lease.LIMIT, ROOT.is_dir()) == (
        "live", "backfill", "retry", True, True,
    )  # fmt: skip
