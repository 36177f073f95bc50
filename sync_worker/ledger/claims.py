"""Claims: the intervals of start times on which a run works, so that no other run sends observations of them.

A claim is of one source, belongs to the lease of a role, and counts only while its owner is alive. A live sync
claims all time from its sync start on while it is in a cycle, and between two cycles what is not completed yet; a
backfill claims the gaps that it will fill. Each leaves out what another run claims, in the transaction that stores its
own, so an observation has one sender at a time, which commits before another run can claim the interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sync_worker.intervals import Interval, gaps, merged
from sync_worker.ledger.lease import BACKFILL, LIVE, is_owned
from sync_worker.ledger.store import Leases

if TYPE_CHECKING:
    from sync_worker.ledger.ledger import Ledger

#: The end of a claim that has none, in Unix milliseconds.
FOR_EVER = 2**62


@dataclass(frozen=True, slots=True)
class Claims:
    """Who works on a source at one moment: the claims of this run and of others, and what is completed, by role."""

    own: list[Interval]
    others: list[Interval]
    completed: dict[str, list[Interval]]

    @property
    def all_completed(self) -> list[Interval]:
        """What is completed, by whatever role."""
        return [interval for intervals in self.completed.values() for interval in intervals]


def claim(ledger: Ledger, source_id: int, intervals: Iterable[Interval], *, completed: bool = True) -> Claims:
    """Claim what of these intervals no other run claims, instead of what this run claimed so far; return it.

    Without `completed`, intervals that are completed are left out too. Needs a lease of `LIVE` or `BACKFILL`. Raises
    StateError, or LeaseHeld when the lease was taken over.
    """
    role = _role(ledger)
    with ledger.transaction() as leases:
        _drop_dead_runs(ledger, role, leases)
        before = _read(ledger, source_id, leases)
        left_out = before.others if completed else [*before.others, *before.all_completed]
        own = [part for interval in merged(intervals) for part in gaps(interval, left_out)]
        _store(ledger, source_id, role, before.own, own)
    return Claims(own, before.others, before.completed)


def claim_all(ledger: Ledger, source_id: int, intervals: Iterable[Interval]) -> None:
    """Claim these intervals whoever else does: a live sync leaves them when its next cycle begins.

    Nothing may be sent before `claimed_by_others` has none of them. Raises as `claim`.
    """
    role = _role(ledger)
    with ledger.transaction() as leases:
        _drop_dead_runs(ledger, role, leases)
        _store(ledger, source_id, role, _read(ledger, source_id, leases).own, merged(intervals))


def claimed_by_others(ledger: Ledger, source_id: int) -> list[Interval]:
    """Return the claims of other live runs on a source, in order."""
    return _read(ledger, source_id, ledger.leases()).others


def claimed_by(ledger: Ledger, source_id: int, role: str) -> list[Interval]:
    """Return what the run of a role claims of a source, alive or not, in order."""
    rows = ledger.query("SELECT from_ms, to_ms FROM claims WHERE source_id = ? AND role = ?", [source_id, role])
    return merged(Interval(*row) for row in rows)


def unclaim(ledger: Ledger, source_id: int, done: Interval) -> None:
    """Remove a completed interval from this run's claims, within the current transaction."""
    role = _role(ledger)
    own = claimed_by(ledger, source_id, role)
    _store(ledger, source_id, role, own, [part for interval in own for part in gaps(interval, [done])])


def _role(ledger: Ledger) -> str:
    if ledger.lease is None:
        raise AssertionError("only a lease owner can claim time")
    return ledger.lease.role


def _read(ledger: Ledger, source_id: int, leases: Leases) -> Claims:
    """Return claims and completed intervals as of one moment: what one run completes, it no longer claims."""
    claimed, completed = dict[str, list[Interval]](), dict[str, list[Interval]]()
    for is_claim, role, start, end in ledger.query(
        "SELECT 1, role, from_ms, to_ms FROM claims WHERE source_id = :source "
        "UNION ALL SELECT 0, role, from_ms, to_ms FROM coverage WHERE source_id = :source",
        {"source": source_id},
    ):
        (claimed if is_claim else completed).setdefault(role, []).append(Interval(start, end))
    own = claimed.pop("" if ledger.lease is None else ledger.lease.role, [])
    return Claims(
        merged(own),
        _of_live_runs(ledger, claimed, leases),
        {role: merged(intervals) for role, intervals in completed.items()},
    )


def _of_live_runs(ledger: Ledger, claimed: dict[str, list[Interval]], leases: Leases) -> list[Interval]:
    return merged(
        interval for role, intervals in claimed.items() if is_owned(ledger, leases.get(role)) for interval in intervals
    )


def _store(
    ledger: Ledger, source_id: int, role: str, before: Sequence[Interval], intervals: Sequence[Interval]
) -> None:
    if intervals != before:
        ledger.execute("DELETE FROM claims WHERE source_id = ? AND role = ?", [source_id, role])
        ledger.execute_many(
            "INSERT INTO claims VALUES (?, ?, ?, ?)",
            [(source_id, role, interval.start, interval.end) for interval in intervals],
        )


def _drop_dead_runs(ledger: Ledger, own: str, leases: Leases) -> None:
    """Delete lease and claims of dead runs: one that only slept, on another machine, cannot commit any more."""
    for role in {LIVE, BACKFILL} & leases.keys() - {own}:
        if not is_owned(ledger, leases[role]):
            ledger.execute("DELETE FROM leases WHERE role = ?", [role])
            ledger.execute("DELETE FROM claims WHERE role = ?", [role])
