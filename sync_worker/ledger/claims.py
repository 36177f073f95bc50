"""Claims: the intervals of start times on which a run works, so that no other run sends observations of them.

A claim is of one source, belongs to the lease of a role, and counts only while its owner is alive. A live sync
claims all time from its sync start on while it is in a cycle, and between two cycles what is not completed yet; a
backfill claims the gaps that it will fill. Each leaves out what another run claims, in the transaction that stores its
own, so an observation has one sender at a time, which commits before another run can claim the interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sync_worker.intervals import Interval, gaps, merged
from sync_worker.ledger.lease import BACKFILL, LIVE, lease_owner

if TYPE_CHECKING:
    from sync_worker.ledger.ledger import Ledger

#: The end of a claim that has none, in Unix milliseconds.
FOR_EVER = 2**62


def claim(ledger: Ledger, source_id: int, intervals: Iterable[Interval]) -> list[Interval]:
    """Claim what of these intervals no other run claims, instead of what this run claimed so far; return it.

    Needs a lease of `LIVE` or `BACKFILL`. Raises StateError, or LeaseHeld when the lease was taken over.
    """
    role = _role(ledger)
    with ledger.transaction():
        _drop_dead_runs(ledger, role)
        others = claimed_by_others(ledger, source_id)
        own = [part for interval in merged(intervals) for part in gaps(interval, others)]
        _store(ledger, source_id, role, own)
    return own


def claim_all(ledger: Ledger, source_id: int, intervals: Iterable[Interval]) -> None:
    """Claim these intervals whoever else does: a live sync leaves them when its next cycle begins.

    Nothing may be sent before `claimed_by_others` has none of them. Raises as `claim`.
    """
    role = _role(ledger)
    with ledger.transaction():
        _drop_dead_runs(ledger, role)
        _store(ledger, source_id, role, merged(intervals))


def claimed_by_others(ledger: Ledger, source_id: int) -> list[Interval]:
    """Return the claims of other live runs on a source, in order."""
    own = None if ledger.lease is None else ledger.lease.role
    rows = ledger.query("SELECT role, from_ms, to_ms FROM claims WHERE source_id = ?", [source_id])
    alive = {role for role in {row[0] for row in rows} - {own} if lease_owner(ledger, role) is not None}
    return merged(Interval(start, end) for role, start, end in rows if role in alive)


def unclaim(ledger: Ledger, source_id: int, done: Interval) -> None:
    """Remove a completed interval from this run's claims, within the current transaction."""
    role = _role(ledger)
    own = _own(ledger, source_id, role)
    _store(ledger, source_id, role, [part for interval in own for part in gaps(interval, [done])])


def _role(ledger: Ledger) -> str:
    if ledger.lease is None:
        raise AssertionError("only a lease owner can claim time")
    return ledger.lease.role


def _own(ledger: Ledger, source_id: int, role: str) -> list[Interval]:
    rows = ledger.query("SELECT from_ms, to_ms FROM claims WHERE source_id = ? AND role = ?", [source_id, role])
    return merged(Interval(*row) for row in rows)


def _store(ledger: Ledger, source_id: int, role: str, intervals: Sequence[Interval]) -> None:
    if intervals == _own(ledger, source_id, role):
        return
    ledger.db.conn.execute("DELETE FROM claims WHERE source_id = ? AND role = ?", [source_id, role])
    ledger.db.conn.executemany(
        "INSERT INTO claims VALUES (?, ?, ?, ?)",
        [(source_id, role, interval.start, interval.end) for interval in intervals],
    )


def _drop_dead_runs(ledger: Ledger, own: str) -> None:
    """Delete lease and claims of dead runs: one that only slept, on another machine, cannot commit any more."""
    for role in {LIVE, BACKFILL} - {own}:
        if lease_owner(ledger, role) is None:
            ledger.db.conn.execute("DELETE FROM leases WHERE role = ?", [role])
            ledger.db.conn.execute("DELETE FROM claims WHERE role = ?", [role])
