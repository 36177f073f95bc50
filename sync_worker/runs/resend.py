"""Sends what a verification found to be missing, hour by hour, in the same run.

Where observations are still known by name, what is missing goes, and nothing else. Where the records were forgotten,
which observations are missing cannot be told, so all observations of the hour go, those that were sent before under the
ids that they had.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sync_worker.intervals import Interval, within
from sync_worker.langfuse.reader import Page
from sync_worker.ledger import claims
from sync_worker.ledger.hourly_counts import HOUR_MS
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.pipeline.driver import Pipeline
from sync_worker.records import Observation
from sync_worker.runs.interval import LateJob
from sync_worker.runs.verify import Hour
from sync_worker.spans.context import trace_of
from sync_worker.times import iso_time

#: How often it is looked whether a live sync has left what it was at work on, in seconds.
_LOOK_EVERY = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resend:
    """Sends hours of one source again, under the lease of a backfill. `sync_start_ms` is that of the live sync."""

    pipeline: Pipeline
    sync_start_ms: int | None

    async def send(self, hours: Sequence[Hour], covered: Sequence[Interval]) -> list[Interval]:
        """Send what is missing of these hours where they are covered; return the intervals that were sent.

        Raises as reader and delivery do; what was done by then counts.
        """
        parts = [(hour, list(within(covered, _interval(hour)))) for hour in hours]
        await self._take_over([part for _, of_hour in parts for part in of_hour])
        done: list[Interval] = []
        session = self.pipeline.session
        for hour, of_hour in parts:
            if hour.forgotten:
                # First: after a kill, observations that were not sent again must not count as done.
                session.ledger.delete_hourly_count(session.source_id, hour.start_ms // HOUR_MS)
            for part in of_hour:
                for role, piece in self._by_edge(part):
                    log.info("sending what starts from %s to %s", iso_time(piece.start), iso_time(piece.end))
                    await self.pipeline.run(_Missing(self.pipeline, role, piece, hour))
                done.append(part)
        return done

    async def _take_over(self, parts: Sequence[Interval]) -> None:
        """Claim these intervals, and wait until a live sync that is in a cycle has left them."""
        session = self.pipeline.session
        claims.claim_all(session.ledger, session.source_id, parts)
        told = False
        while any(within(claims.claimed_by_others(session.ledger, session.source_id), part) for part in parts):
            if not told:
                log.info("waiting for the cycle of the live sync to end", extra={"action": "resend"})
                told = True
            await session.clock.sleep(_LOOK_EVERY)

    def _by_edge(self, part: Interval) -> Iterable[tuple[str, Interval]]:
        """Cut at the sync start: after it traces wait as the live sync's do, before it nobody would send them later."""
        first = part.end if self.sync_start_ms is None else self.sync_start_ms
        yield from ((BACKFILL, piece) for piece in within([part], Interval(0, first)))
        yield from ((LIVE, piece) for piece in within([part], Interval(first, claims.FOR_EVER)))


class _Missing(LateJob):
    """Reads what is missing of an hour: by id where that is known, else all of it."""

    def __init__(self, pipeline: Pipeline, role: str, interval: Interval, hour: Hour) -> None:
        self._rows = hour.observations if hour.observations and not hour.forgotten else None
        reader = pipeline.session.reader
        ids = None if self._rows is None else list(dict.fromkeys(observation_id for _, observation_id in self._rows))
        super().__init__(
            pipeline, role, interval, reader.interval(interval) if ids is None else reader.observations(ids, interval)
        )

    def take(self, page: Page) -> Sequence[Observation]:
        """Take what is missing of traces that are not pending, which send it themselves."""
        session = self._session
        session.clock.check()
        self._pipeline.dead_letters.add_unreadable(page.unreadable)
        observations = [
            observation
            for observation in page.observations
            if self._interval.holds(observation.start_ms)
            and (self._rows is None or (trace_of(observation), observation.id) in self._rows)
        ]
        notes = session.ledger.traces(session.source_id, {trace_of(observation) for observation in observations})
        pending = {trace_id for trace_id, note in notes.items() if note.pending}
        return [observation for observation in observations if trace_of(observation) not in pending]


def _interval(hour: Hour) -> Interval:
    return Interval(hour.start_ms, hour.start_ms + HOUR_MS)
