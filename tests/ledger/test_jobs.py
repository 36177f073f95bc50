"""Jobs: processes that work under one lease. Who keeps a new run waiting, and who decides on a trace they share."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_worker.errors import LeaseHeld, StateError
from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger, lease, open_ledger
from sync_worker.ledger.file import open_beside
from sync_worker.ledger.lease import BACKFILL, LIVE, SEND, lease_owner, release, share, take
from sync_worker.ledger.trace_claims import release_job
from tests.ledger.made import note
from tests.support.state import put


@pytest.fixture
def job(ledger: Ledger, path: Path) -> Iterator[Ledger]:
    """Return the state file of a run as its first job has it."""
    held = take(ledger, BACKFILL)
    opened = open_beside(path, ledger.clock)
    share(opened, BACKFILL, held.token, 1)
    yield opened
    for run in (opened, ledger):
        if run.lease is not None:
            run.lease.lock.close()
    opened.close()


def _dies(run: Ledger) -> None:
    """Free the lock of a process, as its end does."""
    assert run.lease is not None
    fcntl.flock(run.lease.lock, fcntl.LOCK_UN)


def test_a_run_is_alive_until_its_jobs_have_ended(ledger: Ledger, path: Path, job: Ledger) -> None:
    """A run beside takes over what the job of a killed run has in flight, and sends it too."""
    _dies(ledger)
    beside = open_ledger(path, ledger.clock)
    assert lease_owner(beside, BACKFILL) is not None
    put(job, "scope", "name", "in flight")
    _dies(job)
    assert lease_owner(beside, BACKFILL) is None
    beside.close()


def test_a_new_run_waits_for_the_jobs_of_a_killed_one(
    ledger: Ledger, path: Path, job: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads an interval again before what was in flight of it is known as sent; or it waits for ever."""
    _dies(ledger)
    after = open_ledger(path, ledger.clock)
    monkeypatch.setattr(lease, "JOBS_LIMIT", 0.0)
    with pytest.raises(LeaseHeld, match="jobs of a run that ended"):
        take(after, BACKFILL)
    monkeypatch.setattr(lease, "JOBS_LIMIT", 60.0)
    waiting = threading.Thread(target=take, args=(after, BACKFILL))
    waiting.start()
    put(job, "scope", "name", "in flight")
    _dies(job)
    waiting.join(30.0)
    assert not waiting.is_alive()
    with pytest.raises(LeaseHeld):
        put(job, "scope", "name", "too late")
    assert after.lease is not None
    release(after, after.lease)
    after.close()


def test_a_job_that_starts_too_late_does_nothing(ledger: Ledger, path: Path) -> None:
    """The job of a run that was killed works beside the next run."""
    held = take(ledger, BACKFILL)
    held.lock.close()
    after = open_ledger(path, ledger.clock)
    taken = take(after, BACKFILL)
    late = open_beside(path, ledger.clock)
    with pytest.raises(LeaseHeld):
        share(late, BACKFILL, held.token, 1)
    late.close()
    release(after, taken)
    after.close()


def test_a_job_needs_the_state_file_of_its_run(path: Path, ledger: Ledger) -> None:
    """A job makes a new state file where the old one was removed."""
    path.unlink()
    with pytest.raises(StateError):
        open_beside(path, ledger.clock)
    assert not path.exists()


def test_jobs_release_their_own_traces(ledger: Ledger, path: Path, job: Ledger) -> None:
    """`send` takes a trace that another job, or another interval of the same, is sending."""
    one, two, three = (note(f"t{number}", number) for number in range(3))
    ledger.begin_sending(1, [one, two], holder=1)
    ledger.begin_sending(1, [three], holder=2)
    assert job.begin_sending(1, [two], holder=1).others == set()
    beside = open_ledger(path, ledger.clock)
    sends = take(beside, SEND)
    assert beside.begin_sending(1, [one, two, three]).others == {"t0", "t1", "t2"}
    ledger.end_sending(1, 1)
    assert beside.begin_sending(1, [one, two, three]).others == {"t1", "t2"}
    release_job(ledger, 1)
    assert beside.begin_sending(1, [one, two, three]).others == {"t2"}
    release(beside, sends)
    beside.close()


def test_a_trace_in_two_intervals_is_decided_on_once(ledger: Ledger, job: Ledger) -> None:
    """Its spans go to two Kelet projects, or some go and some are left out, by which of them each interval read."""
    job.begin_sending(1, [note("sent", 1, project="first", origin="route")], undecided={"sent"})
    job.leave_out_traces(1, [note("out", 2, left_out_by="rule", rules="digest")], {})
    mine = [note("sent", 3, project="second"), note("out", 4, project="second"), note("new", 5, project="second")]
    begun = ledger.begin_sending(1, mine, undecided={"sent", "out", "new"})
    assert begun.decided == {"sent": ("first", "route", None), "out": (None, None, "rule")}
    stored = ledger.traces(1, ["sent", "out", "new"])
    assert {trace_id: (one.project, one.left_out_by) for trace_id, one in stored.items()} == {
        "sent": ("first", None), "out": (None, "rule"), "new": ("second", None),
    }  # fmt: skip


def test_jobs_of_a_live_sync_keep_what_others_stored_of_a_trace(ledger: Ledger, path: Path) -> None:
    """A trace whose parts two jobs read is no longer pending, or no longer looked up, after the second of them."""
    held = take(ledger, LIVE)
    first, second = (open_beside(path, ledger.clock) for _ in range(2))
    for number, job in enumerate((first, second), 1):
        share(job, LIVE, held.token, number)
    first.commit_interval(1, LIVE, Interval(0, 10), [note("t", 2, pending=True, pending_ms=7, check_ms=8)], [])
    second.begin_sending(1, [note("t", 12, project="p", origin="default", open_ms=9)])
    first.commit_interval(1, LIVE, Interval(10, 20), [note("t", 4, pending=True, pending_ms=9, check_ms=3)], [])
    (stored,) = ledger.traces(1, ["t"]).values()
    assert (stored.pending, stored.pending_ms, stored.check_ms, stored.project) == (True, 7, 8, "p")
    assert (stored.earliest_ms, stored.newest_ms, stored.open_ms) == (2, 12, 9)
    ledger.store_traces(1, [note("t", 2, 12)])  # the process that leads them has sent it whole
    assert not ledger.traces(1, ["t"])["t"].pending
    for job in (first, second):
        assert job.lease is not None
        job.lease.lock.close()
        job.close()
    release(ledger, held)
