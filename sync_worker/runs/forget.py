"""Forgets sent observations that no future lookback scan can list."""

from __future__ import annotations

from collections.abc import Sequence

from sync_worker.intervals import merged
from sync_worker.ledger.state_keys import FORGOTTEN_BEFORE
from sync_worker.pipeline.plan import SCANS_PER_WINDOW
from sync_worker.pipeline.session import Session
from sync_worker.runs.coverage import Coverage
from sync_worker.runs.lookback import earliest_scanned


def forget(session: Session, coverage: Coverage, windows: Sequence[int], now: int) -> None:
    """Forget what is older than the longest lookback window (`windows`, ms), and than any scan still needs."""
    ledger, source = session.ledger, session.source_id
    deepest = session.policy.deepest_ms
    before = now - deepest - deepest // SCANS_PER_WINDOW
    scanned = earliest_scanned(session.state, windows, fresh=not ledger.is_live)
    before = before if scanned is None else min(before, scanned)
    newest = ledger.newest_flushed(source, before)
    if newest is None:
        return
    if newest >= (session.state.get(FORGOTTEN_BEFORE, fresh=True) or 0):
        # Not `before`: if that were wrong, future time would count as forgotten.
        session.state.put(FORGOTTEN_BEFORE, newest + 1)
        session.state.save()
    completed = merged(coverage.of_all)
    at_once = session.limits.forgotten_traces
    while ledger.forget(source, before, completed, at_once) == at_once:
        session.clock.check()
