"""Which intervals of start times a run is at work on: nobody else sends a row that starts in one of them.

A claim is of one source, belongs to the lease of a role, and counts only while that lease's holder lives. A live sync
claims all time from its sync start on while it is in a cycle, and between two cycles what is not covered yet; a
backfill claims the gaps that it will fill. Each leaves out what another run claims, in the transaction that stores its
own, so a row has one sender at a time, and what it sent is committed before its interval is anybody else's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sync_worker.intervals import Interval, gaps, merged
from sync_worker.ledger.lease import BACKFILL, LIVE, holder

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
        _bury_the_dead(ledger, role)
        others = claimed_by_others(ledger, source_id)
        own = [part for interval in merged(intervals) for part in gaps(interval, others)]
        _store(ledger, source_id, role, own)
    return own


def demand(ledger: Ledger, source_id: int, intervals: Iterable[Interval]) -> None:
    """Claim these intervals whoever else does: a live sync leaves them when its next cycle begins.

    Nothing may be sent before `claimed_by_others` has none of them. Raises as `claim`.
    """
    role = _role(ledger)
    with ledger.transaction():
        _bury_the_dead(ledger, role)
        _store(ledger, source_id, role, merged(intervals))


def claimed_by_others(ledger: Ledger, source_id: int) -> list[Interval]:
    """Return what other runs that live claim of a source, in order."""
    own = None if ledger.lease is None else ledger.lease.role
    rows = ledger.query("SELECT role, from_ms, to_ms FROM claims WHERE source_id = ?", [source_id])
    alive = {role for role in {row[0] for row in rows} - {own} if holder(ledger, role) is not None}
    return merged(Interval(start, end) for role, start, end in rows if role in alive)


def shrink(ledger: Ledger, source_id: int, done: Interval) -> None:
    """Take a interval that is done out of what this run claims, within the transaction at hand."""
    role = _role(ledger)
    own = _own(ledger, source_id, role)
    _store(ledger, source_id, role, [part for interval in own for part in gaps(interval, [done])])


def _role(ledger: Ledger) -> str:
    if ledger.lease is None:
        raise AssertionError("only who holds a lease claims time")
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


def _bury_the_dead(ledger: Ledger, own: str) -> None:
    """Take lease and claims from a run that died: if it merely slept, on another machine, it commits nothing more."""
    for role in {LIVE, BACKFILL} - {own}:
        if holder(ledger, role) is None:
            ledger.db.conn.execute("DELETE FROM leases WHERE role = ?", [role])
            ledger.db.conn.execute("DELETE FROM claims WHERE role = ?", [role])
