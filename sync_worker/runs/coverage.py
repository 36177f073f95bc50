"""Completed intervals and claims of a source."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sync_worker.intervals import Interval, clip, contiguous_end, gaps, merged
from sync_worker.ledger import Ledger, SourceState, claims
from sync_worker.ledger.history import note_watermark
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.ledger.state_keys import FORGOTTEN_BEFORE
from sync_worker.ledger.stored_records import CompletedInterval
from sync_worker.pipeline.plan import live_view
from sync_worker.pipeline.session import Session
from sync_worker.selection import NotRead, SelectionRules, unread_environments
from sync_worker.times import iso_time

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Coverage:
    """Completed intervals and claims of one source."""

    session: Session
    name: str
    _claims: bool = False  # whether this run has claims
    _released: claims.Claims | None = None  # what was known when they were released

    @property
    def of_all(self) -> list[Interval]:
        """The completed intervals of the live sync and backfills."""
        found = self.session.ledger.completed_by_role(self.session.source_id)
        return [interval for intervals in found.values() for interval in intervals]

    def under_rules(self) -> tuple[list[Interval], list[tuple[Interval, SelectionRules]]]:
        """Return what is completed under this run's rules, or under none, and what is under others, with these.

        Counted among the others is the time of traces that rules of another time left out there.
        """
        session = self.session
        own: list[Interval] = []
        other: list[tuple[Interval, SelectionRules]] = []
        apart = merged(session.ledger.left_out_exceptionally(session.source_id, session.digest))
        for found in session.ledger.completed_with_rules(session.source_id):
            rules = SelectionRules.from_text(found.rules_text)
            if found.is_under(session.digest):
                own += gaps(found.interval, apart)
                other += [(part, rules) for part in clip(apart, found.interval)]
            else:
                other.append((found.interval, rules))
        return own, other

    def scan_view(self, now: int) -> tuple[list[Interval], NotRead]:
        """Return what `live_view` does, and which observations of completed intervals were not asked for."""
        session = self.session
        found = session.ledger.completed_with_rules(session.source_id)
        live, backfilled = (merged(one.interval for one in found if one.role == role) for role in (LIVE, BACKFILL))
        return live_view(live, backfilled, now, session.policy.deepest_ms), _not_read(found)

    def live_view(self, now: int, known: claims.Claims | None) -> list[Interval]:
        """Return what the live sync need not read: its own completed intervals, and a backfill's old ones.

        As it was when `known` was read; as it is, without.
        """
        found = self.session.ledger.completed_by_role(self.session.source_id) if known is None else known.completed
        return live_view(found.get(LIVE, ()), found.get(BACKFILL, ()), now, self.session.policy.deepest_ms)

    def watermark_ms(self, state: SourceState) -> int | None:
        """Return the watermark in Unix ms; None before the first live cycle."""
        first = state.sync_start_ms
        now = self.session.clock.now_ms()
        return None if first is None else contiguous_end(first, self.live_view(now, self._released))

    def note_watermark(self, state: SourceState) -> int | None:
        """Return the watermark; that of a live sync is noted for the history, with the next transaction."""
        ledger, watermark = self.session.ledger, self.watermark_ms(state)
        if ledger.is_live and watermark is not None:
            note_watermark(ledger, self.session.source_id, ledger.clock.now_ms(), watermark)
        return watermark

    def reopen_after(self, end: int, known: claims.Claims) -> claims.Claims:
        """Reopen what the live sync completed after `end`, Unix ms; return what is known then.

        What was sent before `FORGOTTEN_BEFORE` is no longer known, so there it would be sent again: that stays.
        """
        completed = known.completed.get(LIVE)
        if not completed or completed[-1].end <= end:
            return known
        session = self.session
        after = max(end, session.state.get(FORGOTTEN_BEFORE, fresh=True) or 0)
        if completed[-1].end > after:
            session.ledger.reopen(session.source_id, LIVE, Interval(after, completed[-1].end))
        return replace(known, completed=session.ledger.completed_by_role(session.source_id))

    def claim(self, intervals: Sequence[Interval]) -> claims.Claims:
        """Claim intervals for this run; return what it and others claim then, and what is completed."""
        self._claims = True
        return claims.claim(self.session.ledger, self.session.source_id, intervals)

    def claim_gaps(self, intervals: Sequence[Interval]) -> list[Interval]:
        """Claim gaps for a backfill, except those claimed by a running live sync, which syncs them itself."""
        own = self.claim(intervals).own
        left = [part for interval in intervals for part in gaps(interval, own)]
        if left:
            log.info(
                "%s: a live sync is running from %s on: the backfill leaves that to it",
                self.name, iso_time(left[0].start), extra={"action": "plan"},
            )  # fmt: skip
        return own

    def mark_claimed(self) -> None:
        """Record that claims were made which are to be released."""
        self._claims = True

    def release_claims(self, state: SourceState) -> None:
        """Reduce the claims to what this run keeps between cycles: for a live sync, what is not completed yet."""
        ledger, first = self.session.ledger, state.sync_start_ms
        if not self._claims or ledger.lease is None:
            return
        self._claims = False
        whole = [] if ledger.lease.role != LIVE or first is None else [Interval(first, claims.FOR_EVER)]
        self._released = claims.claim(ledger, self.session.source_id, whole, completed=False)


def not_read(ledger: Ledger, source_id: int) -> NotRead:
    """Return which observations of a source's completed intervals were not asked for."""
    return _not_read(ledger.completed_with_rules(source_id))


def _not_read(completed: Iterable[CompletedInterval]) -> NotRead:
    found: list[tuple[Interval, frozenset[str]]] = []
    for one in completed:
        if one.rules:
            left = unread_environments(SelectionRules.from_text(one.rules_text), has_lookback=one.role == LIVE)
            if left:
                found.append((one.interval, frozenset(left)))
    return NotRead(found)
