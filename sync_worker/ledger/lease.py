"""One run at a time for each role, on one state file.

Within one running kernel (other containers on the same node included) the operating system's lock on a file beside the
state file decides: it is freed the moment its owner dies. Against an owner on another machine only time helps: a lease
whose heartbeat is older than `LIMIT` is taken over, once no new one came while it was watched, since the clocks of two
machines may differ and be set. The same goes where the file system has no locks. Each transaction of the owner checks
that the lease is still its own, so a run that slept through its own lease commits nothing.

A run may start jobs: processes that work under its lease. They share a second lock, so that a run which was killed
counts as alive until its jobs, which notice, have committed what was in flight.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import logging
import os
import secrets
import shlex
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sync_worker.errors import LeaseHeld, StateError
from sync_worker.ledger.place import open_private

if TYPE_CHECKING:
    from sync_worker.ledger.ledger import Ledger
    from sync_worker.ledger.store import Store

LIVE, BACKFILL, RETRY, SEND = "live", "backfill", "retry", "send"
#: The scope, with the id of a source behind it, of how many spans processes are sending: by `role token job`.
SENDING = "sending"
HEARTBEAT = 20.0  # seconds between two heartbeats
LIMIT = 120.0  # seconds without one after which another machine's lease counts as abandoned
#: An abandoned lease of another machine is checked so often, so many seconds apart, before it is taken over.
WATCH_POLLS, WATCH_PAUSE = 60, 0.5
#: Whoever checks for the lease owner has the lock for an instant, so a lock is retried before it counts as held.
_LOCK_TRIES, _LOCK_PAUSE = 5, 0.02
#: The jobs of a run that was killed have ten seconds for what is in flight; they are awaited for so many at most.
JOBS_LIMIT, _JOBS_PAUSE = 30.0, 0.1

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Lease:
    """A lease that is held; `token` names this holding of it."""

    role: str
    token: str
    lock: IO[str]
    locked: bool = True  # whether the file system has locks
    job: int = 0  # the number of the job that this process is; 0: it is the run itself

    def keep_lock(self, state: Path) -> None:
        """Lock again where the lock file was removed or replaced: a lock on a file without a name keeps nobody away.

        Raises LeaseHeld when somebody else has it by now, or StateError.
        """
        if self.locked and not _is_named(self.lock):
            lock, self.locked = _lock_with_retries(state, self.role)
            self.lock.close()
            self.lock = lock


class SharedLease(Lease):
    """The lease of the run that started this process as one of its jobs."""

    def keep_lock(self, state: Path) -> None:
        """Share the lock again where its file was removed or replaced. Raises StateError."""
        if not _is_named(self.lock):
            lock = _share(state, self.role)
            self.lock.close()
            self.lock = lock


def share(ledger: Ledger, role: str, token: str, job: int) -> Lease:
    """Work under the lease of the run that started this process. Raises LeaseHeld if it is no longer that run's."""
    lease = SharedLease(role, token, _share(ledger.path, role), job=job)
    ledger.lease = lease
    try:
        ledger.check()
    except BaseException:
        lease.lock.close()
        raise
    return lease


def take(ledger: Ledger, role: str) -> Lease:
    """Take the lease of a role; the claims of its last owner are released.

    The jobs of an owner that was killed are awaited. Raises LeaseHeld.
    """
    lock, locked = _lock_with_retries(ledger.path, role)
    try:
        abandoned = _watch(ledger, role, locked=locked)
        now = ledger.clock.now_ms()
        with _without_jobs(ledger.path, role), ledger.transaction(fenced=False):
            held = _stored(ledger, role)
            if held is not None and (_may_live(held, now, locked=locked) or _heartbeat_of(held) != abandoned):
                raise LeaseHeld(
                    f"another run ({role}, pid {held['pid']} on {held['host']}) holds the state file {ledger.path}. "
                    f"Try: again when it is done; if it died, its lease ends {LIMIT:.0f} s after its last heartbeat"
                )
            token = _store(ledger, role, now)
    except BaseException:
        lock.close()
        raise
    lease = Lease(role, token, lock, locked)
    ledger.lease = lease
    return lease


def pretend(ledger: Ledger, role: str) -> None:
    """Hold the lease of a role in a copy that nobody else sees: other runs keep theirs, and none is sending a trace."""
    with ledger.transaction(fenced=False):
        token = _store(ledger, role, ledger.clock.now_ms())
        ledger.execute("DELETE FROM trace_claims")
        ledger.execute("UPDATE scores SET owner = NULL")
    ledger.lease = Lease(role, token, io.StringIO(), locked=False)


def heartbeat(ledger: Ledger, lease: Lease) -> None:
    """Write a heartbeat: different from the last even where the clock stands still."""
    now = ledger.clock.now_ms()
    with ledger.transaction():
        ledger.execute(
            "UPDATE leases SET heartbeat_ms = CASE WHEN heartbeat_ms = ? THEN heartbeat_ms + 1 ELSE ? END "
            "WHERE role = ? AND token = ?",
            [now, now, lease.role, lease.token],
        )


def release(ledger: Ledger, lease: Lease) -> None:
    """Give the lease back; also when the ledger can no longer be written."""
    try:
        with contextlib.suppress(LeaseHeld, StateError), ledger.transaction():
            ledger.execute("DELETE FROM leases WHERE role = ? AND token = ?", [lease.role, lease.token])
            _delete_claims(ledger, lease.role)
    finally:
        ledger.lease = None
        lease.lock.close()


def lease_owner(ledger: Store, role: str) -> dict[str, object] | None:
    """Return the lease owner of a role, or None; a dead owner on this machine counts as none."""
    held = _stored(ledger, role)
    return dict(held) if held is not None and is_owned(ledger, held) else None


def is_owned(ledger: Store, held: Mapping[str, Any] | None) -> bool:
    """Whether a stored lease owner may be alive; a dead one on this machine is not."""
    if held is None:
        return False
    try:
        with _lock_path(ledger.path, held["role"]).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        locked = True
    except BlockingIOError:
        return True
    except FileNotFoundError:
        locked = True  # nobody has a lock on it
    except OSError:
        locked = False
    return _may_live(held, ledger.clock.now_ms(), locked=locked) or _has_jobs(ledger.path, held["role"])


def _store(ledger: Ledger, role: str, now_ms: int) -> str:
    """Store this process as the owner of a role's lease, within the current transaction; return the token of it."""
    token = secrets.token_hex(8)
    ledger.insert(
        "leases",
        {
            "role": role, "token": token, "host": socket.gethostname(), "boot": _boot_id(), "pid": os.getpid(),
            "taken_ms": now_ms, "heartbeat_ms": now_ms,
        },
        replace=True,
    )  # fmt: skip
    _delete_claims(ledger, role)
    return token


def _delete_claims(ledger: Ledger, role: str) -> None:
    for table in ("claims", "trace_claims"):
        ledger.execute(f"DELETE FROM {table} WHERE role = ?", [role])
    forget_sending(ledger, role)


def forget_sending(ledger: Store, role: str, job: int | None = None) -> None:
    """Forget what the run of a role, or one job of it, was sending, within the current transaction."""
    ledger.execute(
        "DELETE FROM state_keys WHERE scope GLOB ? AND name GLOB ?",
        [f"{SENDING} *", f"{role} * {'*' if job is None else job}"],
    )


def _stored(ledger: Store, role: str) -> Mapping[str, Any] | None:
    return ledger.leases().get(role)


def _heartbeat_of(held: Mapping[str, Any]) -> tuple[str, int]:
    return str(held["token"]), int(held["heartbeat_ms"])


def _watch(ledger: Ledger, role: str, *, locked: bool) -> tuple[str, int] | None:
    """Return the last heartbeat of a lease that is free to be taken over; None where nobody holds one.

    A dead owner on another machine cannot be checked, and its clock may be another: so its lease is
    watched for longer than there is between two heartbeats.
    """
    held = _stored(ledger, role)
    if held is None:
        return None
    sign = _heartbeat_of(held)
    if not _may_live(held, ledger.clock.now_ms(), locked=locked) and not (_is_here(held) and locked):
        for _ in range(WATCH_POLLS):
            time.sleep(WATCH_PAUSE)
            held = _stored(ledger, role)
            if held is None or _heartbeat_of(held) != sign:
                break
    return sign


def _is_here(held: Mapping[str, Any]) -> bool:
    return bool(held["boot"] == _boot_id() or held["host"] == socket.gethostname())


def _may_live(held: Mapping[str, Any], now_ms: int, *, locked: bool) -> bool:
    """Whether a stored owner may be alive although nobody's lock was met; `locked`: locks work here.

    A heartbeat that lies further ahead than `LIMIT` is a clock that was wrong, and would hold the lease for as long.
    """
    return not (_is_here(held) and locked) and abs(now_ms - int(held["heartbeat_ms"])) < LIMIT * 1000


def _lock_with_retries(state: Path, role: str) -> tuple[IO[str], bool]:
    for _ in range(_LOCK_TRIES - 1):
        with contextlib.suppress(LeaseHeld):
            return _lock(state, role)
        time.sleep(_LOCK_PAUSE)
    return _lock(state, role)


def _lock(state: Path, role: str) -> tuple[IO[str], bool]:
    """Lock a role's file; also returns whether the file system has locks at all. Raises LeaseHeld or StateError."""
    path = _lock_path(state, role)
    while True:
        try:
            lock = open(path, "a+", encoding="ascii", opener=open_private)  # noqa: SIM115 - held as long as the lease
        except OSError as error:
            raise StateError(
                f"the lock file {path} cannot be opened: {error.strerror}. Try: write permission"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise LeaseHeld(
                f"another run ({role}) is at work on the state file {state}. Try: again when it is done"
            ) from None
        except OSError:
            return lock, False  # a file system without locks: the lease's time limit decides
        if _is_named(lock):
            return lock, True
        lock.close()  # it was removed between the two steps


def _share(state: Path, role: str) -> IO[str]:
    """Lock the file that the jobs of a role share; whoever tests for them has it for an instant. Raises StateError."""
    path = _lock_path(state, f"{role}.jobs")
    while True:
        try:
            lock = open(path, "a+", encoding="ascii", opener=open_private)  # noqa: SIM115 - held as long as the job
            fcntl.flock(lock, fcntl.LOCK_SH)
        except OSError as error:
            raise StateError(
                f"the lock file {path} cannot be used: {error.strerror}. Try: write permission, or --jobs 1"
            ) from error
        if _is_named(lock):
            return lock
        lock.close()


@contextmanager
def _without_jobs(state: Path, role: str) -> Iterator[None]:
    """Wait until the jobs of a run that was killed have ended, and let none start until then. Raises LeaseHeld."""
    path = _lock_path(state, f"{role}.jobs")
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(path.open("rb"))
            until, is_logged = time.monotonic() + JOBS_LIMIT, False
            while not _lock_alone(lock):
                if time.monotonic() > until:
                    raise LeaseHeld(
                        f"jobs of a run that ended still work on the state file {state}. Try: again in a minute; "
                        f"`fuser {shlex.quote(str(path))}` shows which processes they are"
                    )
                if not is_logged:
                    log.info("waiting until the jobs of a run that ended have committed what was in flight")
                    is_logged = True
                time.sleep(_JOBS_PAUSE)
        except FileNotFoundError:
            pass  # no run had any
        except OSError as error:
            raise StateError(f"the lock file {path} cannot be used: {error.strerror}. Try: read permission") from error
        yield


def _has_jobs(state: Path, role: str) -> bool:
    """Whether a process holds the lock that the jobs of a role share."""
    try:
        with _lock_path(state, f"{role}.jobs").open("rb") as lock:
            for _ in range(_LOCK_TRIES):
                if _lock_alone(lock):
                    return False
                time.sleep(_LOCK_PAUSE)  # somebody else may be testing
            return True
    except OSError:
        return False


def _lock_alone(lock: IO[bytes]) -> bool:
    """Lock a file if nobody shares it. Where the file system has no locks there are no jobs either."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _lock_path(state: Path, name: str) -> Path:
    real = state.resolve()  # the same lock by whatever links the state file is reached
    return real.with_name(f"{real.name}.{name}.lock")


def _is_named(lock: IO[str]) -> bool:
    """Whether an open file still has the name that it was opened by."""
    try:
        return os.path.samestat(os.stat(lock.name), os.fstat(lock.fileno()))  # noqa: PTH116 - before each transaction
    except OSError:
        return False


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()
