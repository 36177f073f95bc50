"""Completed intervals and claims of a source."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sync_worker.intervals import Interval, contiguous_end, gaps
from sync_worker.ledger import SourceState, claims
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.pipeline.plan import live_view
from sync_worker.pipeline.session import Session
from sync_worker.times import iso_time

log = logging.getLogger(__name__)


class Coverage:
    """Completed intervals and claims of one source."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name
        self._claims = False  # whether this run has claims

    def of(self, role: str) -> list[Interval]:
        """Return the completed intervals of a role."""
        return self._session.ledger.completed_intervals(self._session.source_id, role)

    @property
    def of_all(self) -> list[Interval]:
        """The completed intervals of the live sync and backfills."""
        found = self._session.ledger.completed_by_role(self._session.source_id)
        return [interval for intervals in found.values() for interval in intervals]

    def live_view(self, now: int) -> list[Interval]:
        """Return what the live sync need not read: its own completed intervals, and a backfill's old ones."""
        found = self._session.ledger.completed_by_role(self._session.source_id)
        return live_view(found.get(LIVE, ()), found.get(BACKFILL, ()), now, self._session.policy.deepest_ms)

    def watermark_ms(self, state: SourceState) -> int | None:
        """Return the watermark in Unix ms; None before the first live cycle."""
        first = state.sync_start_ms
        return None if first is None else contiguous_end(first, self.live_view(self._session.clock.now_ms()))

    def reopen_after(self, end: int) -> None:
        """Reopen what the live sync completed after `end`, Unix ms."""
        completed = self.of(LIVE)
        if completed and completed[-1].end > end:
            interval = Interval(end, completed[-1].end)
            self._session.ledger.reopen(self._session.source_id, LIVE, interval)

    def claim(self, intervals: Sequence[Interval]) -> list[Interval]:
        """Claim intervals for this run, and return those that were granted."""
        self._claims = True
        return claims.claim(self._session.ledger, self._session.source_id, intervals)

    def claim_gaps(self, intervals: Sequence[Interval]) -> list[Interval]:
        """Claim gaps for a backfill, except those claimed by a running live sync, which syncs them itself."""
        own = self.claim(intervals)
        left = [part for interval in intervals for part in gaps(interval, own)]
        if left:
            log.info(
                "%s: a live sync is running from %s on: the backfill leaves that to it",
                self._name, iso_time(left[0].start), extra={"action": "plan"},
            )  # fmt: skip
        return own

    def mark_claimed(self) -> None:
        """Record that claims were made which are to be released."""
        self._claims = True

    def release_claims(self, state: SourceState) -> None:
        """Reduce the claims to what this run keeps between cycles: for a live sync, what is not completed yet."""
        ledger, first = self._session.ledger, state.sync_start_ms
        if not self._claims or ledger.lease is None:
            return
        self._claims = False
        whole = [] if ledger.lease.role != LIVE or first is None else [Interval(first, claims.FOR_EVER)]
        completed = self.of_all
        claims.claim(ledger, self._session.source_id, [gap for part in whole for gap in gaps(part, completed)])
