"""Trace claims: the traces that a run is sending, so that no other run sends them at the same time.

Claims of intervals keep a live sync and a backfill apart for hours; `send` and `dead-letters retry` take single traces
of any time. A claim belongs to the lease of a role, counts only while its owner is alive, and is released when the
traces are sent. Within a run it belongs to a `Holder`: intervals that are worked on at the same time may have a trace
in common, each with observations of its own, so they do not wait for each other, and neither releases for the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sync_worker.ledger.lease import forget_sending, lease_owner
from sync_worker.ledger.store import in_lists, storable

if TYPE_CHECKING:
    from sync_worker.ledger.ledger import Ledger

#: What of a process holds a claim: a number of its own choice.
Holder = int


def claim_traces(ledger: Ledger, source_id: int, trace_ids: Iterable[str], holder: Holder) -> set[str]:
    """Claim traces for this holder, instead of those it claimed so far; return those that other runs are sending.

    Within the current transaction. A run without a lease claims nothing and waits for nobody.
    """
    if ledger.lease is None:
        return set()
    own, job = ledger.lease.role, ledger.lease.job
    release_traces(ledger, source_id, holder)
    ids = [storable(trace_id) for trace_id in trace_ids]
    held: dict[str, list[str]] = {}
    for marks, part in in_lists(ids):
        for role, trace_id in ledger.execute(
            f"SELECT DISTINCT role, trace_id FROM trace_claims "
            f"WHERE source_id = ? AND trace_id IN ({marks}) AND role != ?",
            [source_id, *part, own],
        ):
            held.setdefault(role, []).append(trace_id)
    for role in [role for role in held if lease_owner(ledger, role) is None]:
        ledger.execute("DELETE FROM trace_claims WHERE role = ?", [role])
        del held[role]
    others = {trace_id for of_role in held.values() for trace_id in of_role}
    ledger.execute_many(
        "INSERT OR IGNORE INTO trace_claims VALUES (?, ?, ?, ?, ?)",
        [(source_id, trace_id, own, job, holder) for trace_id in ids if trace_id not in others],
    )
    return others


def release_traces(ledger: Ledger, source_id: int, holder: Holder) -> None:
    """Release the traces of a source that a holder of this process claims, within the current transaction."""
    if ledger.lease is not None:
        ledger.execute(
            "DELETE FROM trace_claims WHERE source_id = ? AND role = ? AND job = ? AND holder = ?",
            [source_id, ledger.lease.role, ledger.lease.job, holder],
        )


def release_job(ledger: Ledger, job: int) -> None:
    """Release all traces that a job of this run claimed before it died, and forget what it was sending.

    Raises StateError or LeaseHeld.
    """
    if ledger.lease is not None:
        with ledger.transaction():
            ledger.execute("DELETE FROM trace_claims WHERE role = ? AND job = ?", [ledger.lease.role, job])
            forget_sending(ledger, ledger.lease.role, job)
