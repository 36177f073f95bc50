"""Forgets sent observations that no future lookback scan can list."""

from __future__ import annotations

from sync_worker.intervals import merged
from sync_worker.ledger.state_keys import FORGOTTEN_BEFORE
from sync_worker.pipeline.plan import SCANS_PER_WINDOW
from sync_worker.runs.lookback import earliest_scanned
from sync_worker.runs.opened import OpenSource


def forget(opened: OpenSource, now: int) -> None:
    """Forget what is older than the longest lookback window before now (Unix ms), and than any scan still needs."""
    session, ledger, source = opened.session, opened.ledger, opened.session.source_id
    deepest = session.policy.deepest_ms
    before = now - deepest - deepest // SCANS_PER_WINDOW
    scanned = earliest_scanned(session.state, opened.windows, fresh=not ledger.is_live)
    before = before if scanned is None else min(before, scanned)
    newest = ledger.newest_flushed(source, before)
    if newest is None:
        return
    if newest >= (session.state.get(FORGOTTEN_BEFORE, fresh=True) or 0):
        # Not `before`: if that were wrong, future time would count as forgotten.
        session.state.put(FORGOTTEN_BEFORE, newest + 1)
        session.state.save()
    completed = merged(opened.coverage.of_all)
    at_once = session.limits.forgotten_traces
    while ledger.forget(source, before, completed, at_once) == at_once:
        session.clock.check()
