"""One run at a time for each role, on one state file.

Within one running kernel (other containers on the same node included) the operating system's lock on a file beside the
state file decides: it is freed the moment its holder dies. Against a holder on another machine only time helps: a lease
whose beat is older than `LIMIT` is taken over. Each transaction of the holder checks that the lease is still its own,
so a run that slept through its own lease commits nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sync_worker.errors import LeaseHeld, StateError

if TYPE_CHECKING:
    from sync_worker.ledger.ledger import Ledger

LIVE, BACKFILL, RETRY = "live", "backfill", "retry"
BEAT = 20.0  # seconds between two signs of life
LIMIT = 120.0  # seconds without one after which another machine's lease counts as abandoned


@dataclass(slots=True)
class Lease:
    """A lease that is held; `token` names this holding of it."""

    role: str
    token: str
    lock: IO[str]


def take(ledger: Ledger, role: str, start_ms: int | None = None, end_ms: int | None = None) -> Lease:
    """Take the lease of a role; a backfill says the stretch it works on. Raises LeaseHeld."""
    lock = _lock(ledger.path, role)
    try:
        token = secrets.token_hex(8)
        now = ledger.clock.now_ms()
        host, boot = socket.gethostname(), _boot_id()
        with ledger.transaction(fenced=False):
            held = next(iter(ledger.db.table("leases").rows_where("role = ?", [role])), None)
            elsewhere = held is not None and held["boot"] != boot and held["host"] != host
            if held is not None and elsewhere and now - held["beat_ms"] < LIMIT * 1000:
                raise LeaseHeld(
                    f"another run ({role}, pid {held['pid']} on {held['host']}) holds the state file {ledger.path}. "
                    f"Try: again when it is done; if it died, its lease ends {LIMIT:.0f} s after its last beat"
                )
            ledger.db.table("leases").upsert(
                {
                    "role": role, "token": token, "host": host, "boot": boot, "pid": os.getpid(),
                    "taken_ms": now, "beat_ms": now, "from_ms": start_ms, "to_ms": end_ms,
                },
                pk="role",
            )  # fmt: skip
    except BaseException:
        lock.close()
        raise
    lease = Lease(role, token, lock)
    ledger.lease = lease
    return lease


def beat(ledger: Ledger, lease: Lease) -> None:
    """Give a sign of life."""
    with ledger.transaction():
        ledger.db.execute(
            "UPDATE leases SET beat_ms = ? WHERE role = ? AND token = ?",
            [ledger.clock.now_ms(), lease.role, lease.token],
        )


def release(ledger: Ledger, lease: Lease) -> None:
    """Give the lease back; also when the ledger can no longer be written."""
    try:
        with contextlib.suppress(LeaseHeld, StateError), ledger.transaction():
            ledger.db.execute("DELETE FROM leases WHERE role = ? AND token = ?", [lease.role, lease.token])
    finally:
        ledger.lease = None
        lease.lock.close()


def holder(ledger: Ledger, role: str) -> dict[str, object] | None:
    """Return who holds the lease of a role now, or None; a dead holder on this machine counts as none."""
    held = next(iter(ledger.db.table("leases").rows_where("role = ?", [role])), None)
    if held is None:
        return None
    if held["boot"] == _boot_id():
        try:
            _lock(ledger.path, role).close()
        except LeaseHeld:
            return dict(held)
        return None
    fresh = ledger.clock.now_ms() - held["beat_ms"] < LIMIT * 1000
    return dict(held) if fresh and held["host"] != socket.gethostname() else None


def _lock(state: Path, role: str) -> IO[str]:
    path = state.with_name(f"{state.name}.{role}.lock")
    try:
        lock = path.open("a", encoding="ascii")
    except OSError as fault:
        raise StateError(f"the lock file {path} cannot be opened: {fault.strerror}. Try: write permission") from fault
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise LeaseHeld(
            f"another run ({role}) is at work on the state file {state}. Try: again when it is done"
        ) from None
    except OSError:
        pass  # a file system without locks: the lease's time limit decides
    return lock


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()
