"""Sends what a verification found to be missing, hour by hour, in the same run.

Where observations are still known by id, only what is missing is sent. Where the records were forgotten, the missing
observations cannot be identified, so all observations of the hour are sent, those sent before under the same ids.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sync_worker.clock import Stopped
from sync_worker.errors import SourcePaused, TransientError
from sync_worker.intervals import Interval, clip
from sync_worker.langfuse.reader import Page
from sync_worker.ledger import claims
from sync_worker.ledger.hourly_counts import HOUR_MS
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.pipeline.driver import Pipeline
from sync_worker.records import Observation
from sync_worker.runs.interval import LateWork
from sync_worker.runs.opened import OpenSource
from sync_worker.runs.verify import Hour, Verdict, Verification
from sync_worker.spans.context import trace_of
from sync_worker.times import iso_time
from sync_worker.wording import counted

#: How often to check whether a live sync has released its claims, in seconds.
_POLL_SECONDS = 1.0

log = logging.getLogger(__name__)


async def resend(opened: OpenSource, interval: Interval | None, found: Verdict, *, again: bool) -> Verdict:
    """Send what a verification of the same interval found missing, and return what is missing then.

    Hours whose records were forgotten are sent only with `again`, all of them. Needs a backfill's lease. Raises as
    reader and delivery do; what was sent by then is committed, and the hours that are left are reopened.
    """
    hours = [hour for hour in found.hours if again or not hour.forgotten]
    sent: list[Interval] = []
    if hours:
        opened.coverage.mark_claimed()
        before = opened.report.spans_sent
        completed = Verification(opened).completed()
        try:
            await Resend(opened.pipeline, opened.state.sync_start_ms, sent).send(hours, completed)
        except (SourcePaused, TransientError, Stopped):
            _reopen(opened, [hour for hour in hours if not any(clip(sent, _interval(hour)))])
            raise
        scores, found = found.scores, await Verification(opened).run(interval)
        found.scores = scores
        found.spans_sent = opened.report.spans_sent - before
    found.resent, found.hours_not_sent = sent, 0 if again else sum(hour.forgotten for hour in found.hours)
    return found


def _reopen(opened: OpenSource, hours: Sequence[Hour]) -> None:
    """Reopen hours that could not be sent now, as without `--resend`: whatever ended this is waited for by others."""
    reopened = Verification(opened).reopen(hours)
    if reopened:
        log.warning(
            "%s: %s are reopened, from %s to %s: the next run sends what is missing; before the sync start, the next "
            "backfill does",
            opened.name, counted(len(reopened), "interval"), iso_time(reopened[0].start), iso_time(reopened[-1].end),
            extra={"action": "resend"},
        )  # fmt: skip
    if any(hour.forgotten for hour in hours):
        log.warning(
            "%s: %s of which only counts are kept are not sent. Try: the same command again", opened.name,
            counted(sum(hour.forgotten for hour in hours), "hour"), extra={"action": "resend"},
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resend:
    """Sends missing observations of one source, under the lease of a backfill. `sync_start_ms` is the live sync's.

    `done` gets the intervals that were sent.
    """

    pipeline: Pipeline
    sync_start_ms: int | None
    done: list[Interval]

    async def send(self, hours: Sequence[Hour], completed: Sequence[Interval]) -> None:
        """Send what is missing in the completed intervals of these hours.

        Raises as reader and delivery do; what was sent by then is committed.
        """
        parts = [(hour, list(clip(completed, _interval(hour)))) for hour in hours]
        await self._take_over([part for _, of_hour in parts for part in of_hour])
        session = self.pipeline.session
        for hour, of_hour in parts:
            if hour.forgotten:
                # First: after a kill, observations that were not sent again must not count as done.
                session.ledger.delete_hourly_count(session.source_id, hour.start_ms // HOUR_MS)
            for part in of_hour:
                for role, interval in self._split_at_sync_start(part):
                    log.info("sending what starts from %s to %s", iso_time(interval.start), iso_time(interval.end))
                    await self.pipeline.run(_Missing(self.pipeline, role, interval, hour))
                self.done.append(part)

    async def _take_over(self, parts: Sequence[Interval]) -> None:
        """Claim these intervals, and wait until a live sync in a cycle has released them."""
        session = self.pipeline.session
        claims.claim_all(session.ledger, session.source_id, parts)
        logged = False
        while any(clip(claims.claimed_by_others(session.ledger, session.source_id), part) for part in parts):
            if not logged:
                log.info("waiting for the cycle of the live sync to end", extra={"action": "resend"})
                logged = True
            await session.clock.sleep(_POLL_SECONDS)

    def _split_at_sync_start(self, part: Interval) -> Iterable[tuple[str, Interval]]:
        """Split at the sync start: after it traces may be pending, before it nobody would send them later."""
        first = part.end if self.sync_start_ms is None else self.sync_start_ms
        yield from ((BACKFILL, interval) for interval in clip([part], Interval(0, first)))
        yield from ((LIVE, interval) for interval in clip([part], Interval(first, claims.FOR_EVER)))


class _Missing(LateWork):
    """Reads what is missing of an hour: by id if known, else all of it."""

    def __init__(self, pipeline: Pipeline, role: str, interval: Interval, hour: Hour) -> None:
        self._wanted = hour.observations if hour.observations and not hour.forgotten else None
        reader = pipeline.session.reader
        ids = (
            None if self._wanted is None else list(dict.fromkeys(observation_id for _, observation_id in self._wanted))
        )
        super().__init__(
            pipeline, role, interval, reader.interval(interval) if ids is None else reader.observations(ids, interval)
        )

    def take(self, page: Page) -> Sequence[Observation]:
        """Take what is missing, except of pending traces, which send it themselves."""
        session = self._session
        session.clock.check()
        self._pipeline.dead_letters.add_unreadable(page.unreadable)
        observations = [
            observation
            for observation in page.observations
            if self._interval.contains(observation.start_ms)
            and (self._wanted is None or (trace_of(observation), observation.id) in self._wanted)
        ]
        notes = session.ledger.traces(session.source_id, {trace_of(observation) for observation in observations})
        pending = {trace_id for trace_id, note in notes.items() if note.pending}
        return [observation for observation in observations if trace_of(observation) not in pending]


def _interval(hour: Hour) -> Interval:
    return Interval(hour.start_ms, hour.start_ms + HOUR_MS)
