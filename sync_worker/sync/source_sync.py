"""One source in a run: the live sync and backfills, the intervals that another process hands out, and its end."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sync_worker.intervals import Interval
from sync_worker.ledger import claims
from sync_worker.ledger.lease import BACKFILL, LIVE, lease_owner
from sync_worker.ledger.state_keys import DELIVERY, GZIP_REJECTED, PAGE_LIMITS, REJECTED_IN_A_ROW
from sync_worker.pipeline.report import SourceReport
from sync_worker.runs.backfill import ScoreChoice, backfill
from sync_worker.runs.division import Jobs, Synced, sync_interval
from sync_worker.runs.forget import forget
from sync_worker.runs.live import LiveSync
from sync_worker.runs.opened import OpenSource
from sync_worker.runs.progress import Progress
from sync_worker.sync.audit import Audit
from sync_worker.sync.provisional import provisional_start_ms, start_scope, sync_start_ms
from sync_worker.sync.start import remember_start
from sync_worker.sync.stored_generation import Generations
from sync_worker.targets import Target
from sync_worker.times import iso_time
from sync_worker.wording import counted

log = logging.getLogger(__name__)


def receiver_scope(target: Target) -> str:
    """Return the ledger's key for what was found of a target's server."""
    return f"target {target.url}"


@dataclass(slots=True, kw_only=True)
class SourceSync(OpenSource):
    """A source that `open_source` opened, and that syncs. Other runs take it as an `OpenSource`."""

    generations: Generations
    audit: Audit

    async def live_cycle(self, progress: Progress | None = None, jobs: Callable[[], Jobs] | None = None) -> None:
        """Run one cycle of the live sync; `jobs` as of `LiveSync`. Raises as reader and delivery do."""
        self._store_rules()
        now = self.clock.now_ms()
        first = self._sync_start(now)
        await LiveSync(self, jobs).cycle(now, first, progress)

    async def backfill(
        self,
        interval: Interval,
        progress: Progress | None = None,
        partitions: Sequence[Interval] | None = None,
        scores: ScoreChoice = "too",
        jobs: Jobs | None = None,
    ) -> None:
        """Sync what of the interval is not completed; a rerun resumes. With `partitions`, only in them.

        `scores` says whether the scores of the interval are sent too, after the spans, or alone, or not. With `jobs`,
        they sync the intervals where these have many observations.
        """
        if scores != "only":
            await self._backfill_spans(interval, progress, partitions, jobs)
        if scores != "none" and self.scores is not None:
            await self.scores.backfill(interval, partitions)
        self.session.delivery.check()
        if jobs is not None:
            jobs.check()

    def completed(self) -> list[Interval]:
        """Return what a run of this lease does not read: of a backfill, under the rules of this run or under none."""
        if self.ledger.is_live:
            return self.coverage.live_view(self.clock.now_ms(), None)
        return self.coverage.under_rules()[0]

    def begin_job(self) -> None:
        """Get ready to sync intervals that another process hands out."""
        if self.ledger.is_live:
            self.session.claimed = claims.claimed_by_others(self.ledger, self.state.id)
        else:
            _, self.session.reread = self.coverage.under_rules()

    async def sync_interval(self, interval: Interval, progress: Progress) -> Synced:
        """Sync an interval that another process handed out. Raises as reader and delivery do."""
        role = LIVE if self.ledger.is_live else BACKFILL
        return await sync_interval(self.pipeline, role, interval, progress, hands_back=True)

    def counts(self) -> SourceReport:
        """Return the report as it stands, with the requests of now."""
        report = replace(self.report, notes=Counter(self.report.notes), filtered=Counter(self.report.filtered))
        self._count_requests(report)
        return report

    async def _backfill_spans(
        self,
        interval: Interval,
        progress: Progress | None,
        partitions: Sequence[Interval] | None,
        jobs: Jobs | None,
    ) -> None:
        self._store_rules()
        await backfill(self, interval, partitions, progress, jobs)
        self._report_unscanned(interval)
        if lease_owner(self.ledger, LIVE) is None:
            await LiveSync(self).read_again(BACKFILL)
        self._log_second_reads()
        forget(self, self.clock.certain_ms())

    async def uses_another_api(self) -> bool:
        """Whether the server, asked again, needs another generation of the API. Raises as the reader does."""
        return await self.generations.is_another(self.client, self.session.reader.api)

    def finish(self) -> None:
        """Complete the report, release claims, and store what was discovered for the next run."""
        self._put_findings()
        self.coverage.release_claims(self.state)
        self.ledger.save()
        self._count_requests(self.report)
        self.report.traces_pending = self.ledger.pending(self.state.id).count
        self.report.complete_to_ms = self.coverage.note_watermark(self.state)
        self.audit.log_if_due(at_end=True)

    def _count_requests(self, report: SourceReport) -> None:
        report.langfuse_requests += self.client.requests
        report.kelet_requests += self.receiver.traffic.requests
        report.bytes_sent += self.receiver.traffic.bytes_sent

    def _store_rules(self) -> None:
        """Store the rules of this run, so that later ones know what they left out."""
        self.ledger.store_rules(self.session.digest, self.session.policy.rules.as_text())

    def _report_unscanned(self, interval: Interval) -> None:
        """Report which part of a backfilled interval no lookback scan of the live sync reaches."""
        (first,) = (state.sync_start_ms for state in self.ledger.sources() if state.id == self.state.id)
        seen_from = interval.end if first is None else max(first, self.clock.now_ms() - self.session.policy.deepest_ms)
        end = min(interval.end, seen_from)
        if interval.start < end:
            self.report.late_unseen_from_ms, self.report.late_unseen_to_ms = interval.start, end

    def _log_second_reads(self) -> None:
        """Log after a backfill how many second reads are left."""
        left = self.ledger.count_second_reads(self.state.id)
        if left:
            log.info(
                "%s: %s updated less than ten minutes before being sent: the next `once`, `run` or `backfill` after "
                "that time reads them once more",
                self.source.name, counted(left, "observation"), extra={"action": "plan"},
            )  # fmt: skip

    def _put_findings(self) -> None:
        state, delivery = self.session.state, self.session.delivery
        if self.receiver.gzip_rejected:
            self.ledger.state(receiver_scope(self.receiver.target)).put(GZIP_REJECTED, 1)
        state.put(PAGE_LIMITS, self.session.reader.limits)
        state.put(REJECTED_IN_A_ROW, delivery.rejected_in_a_row)
        state.put(DELIVERY, delivery.delivery_state)

    def _sync_start(self, now: int) -> int:
        """Return where the live sync begins: stored before the first request, and never computed again."""
        noted = provisional_start_ms(self.ledger, self.source.name)
        if self.state.sync_start_ms is not None:
            if noted is not None:  # of keys that turned out to belong to a known project
                self.ledger.set_sync_start(self.state.id, self.state.sync_start_ms, start_scope(self.source.name))
            return self.state.sync_start_ms
        first = sync_start_ms(self.settings.start, now if noted is None else noted, now)
        if not self.clock.is_certain:
            return first  # a guess: stored when the time is certain
        if self.scores is not None:
            self.scores.begin(now if noted is None else min(noted, now))
        first = self.ledger.set_sync_start(self.state.id, first, start_scope(self.source.name))
        remember_start(self.ledger, self.state.id, self.settings)
        self.state = next(state for state in self.ledger.sources() if state.id == self.state.id)
        log.info("%s: syncing what starts at or after %s", self.source.name, iso_time(first), extra={"action": "start"})
        return first
