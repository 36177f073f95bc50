"""The operations of one source: a live cycle, a backfill, retry, verify, explain and others."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from sync_worker.corrected import CorrectedClock
from sync_worker.intervals import Interval
from sync_worker.langfuse.client import LangfuseClient
from sync_worker.langfuse.reader import Reader
from sync_worker.ledger import DeadLetter, Ledger, SourceState, claims
from sync_worker.ledger.lease import BACKFILL, LIVE, lease_owner
from sync_worker.ledger.state_keys import DELIVERY, GZIP_REFUSED, PAGE_LIMITS, REJECTED_IN_A_ROW
from sync_worker.otlp.client import TargetClient
from sync_worker.otlp.delivery import Delivery
from sync_worker.pipeline.daily_limit import DailyLimit
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.limits import Limits
from sync_worker.pipeline.pauses import Pauses
from sync_worker.pipeline.plan import SCANS_PER_WINDOW, due
from sync_worker.pipeline.readiness import ReadinessLimits
from sync_worker.pipeline.report import SourceReport
from sync_worker.pipeline.session import Policy, Session
from sync_worker.records import Observation
from sync_worker.redaction.protection import Protection
from sync_worker.runs.backfill import backfill
from sync_worker.runs.coverage import Coverage
from sync_worker.runs.division import Jobs, Synced, sync_interval
from sync_worker.runs.explain import Explanation
from sync_worker.runs.forget import forget
from sync_worker.runs.live import LiveSync
from sync_worker.runs.progress import Progress
from sync_worker.runs.resend import Resend
from sync_worker.runs.retry import ManualRetry
from sync_worker.runs.route_test import RouteTest, count_by_rule
from sync_worker.runs.send import SendResult, TraceSend
from sync_worker.runs.verify import Verdict, Verification
from sync_worker.settings import Settings, Source
from sync_worker.spans.model import Conversion
from sync_worker.sync.audit import Audit
from sync_worker.sync.generation import Generations
from sync_worker.sync.policy import overrides_of, rules_of
from sync_worker.sync.protection import protection_of
from sync_worker.sync.provisional import provisional_start_ms, start_scope, sync_start_ms
from sync_worker.sync.start import remember_start
from sync_worker.targets import Target
from sync_worker.times import iso_time, span_ms

if TYPE_CHECKING:
    from sync_worker.runs.estimate import Estimate
    from sync_worker.runs.preview import Preview
    from sync_worker.runs.privacy_test import PrivacyTest
    from sync_worker.runs.score_preview import ScorePreview
    from sync_worker.sync.scores import ScoreJobs

_SCORES_A_REQUEST = 100
_SIGNALS_PER_MINUTE = 300
#: Whether a backfill sends scores: beside the spans where scores are on, alone, or not.
ScoreChoice = Literal["too", "only", "none"]

log = logging.getLogger(__name__)


def receiver_scope(target: Target) -> str:
    """Return the ledger's key for what was found of a target's server."""
    return f"target {target.url}"


def conversion_of(settings: Settings, source: Source, target: Target, protection: Protection) -> Conversion:
    """Return how the observations of a source become spans of a target."""
    return Conversion(
        attributes=settings.attributes,
        max_value_bytes=settings.max_value_bytes,
        max_attributes=settings.max_attributes,
        langfuse_url=source.langfuse_base_url,
        project_attribute=target.preset.project_attribute,
        kelet=target.kelet_attributes,
        overrides=overrides_of(settings),
        show_id=protection.identifier,
    )


class SourceSync:
    """One source, opened by `open_source`."""

    def __init__(
        self, source: Source, settings: Settings, state: SourceState, ledger: Ledger, client: LangfuseClient,
        receiver: TargetClient, delivery: Delivery, generations: Generations, reader: Reader, report: SourceReport,
        clock: CorrectedClock, limits: Limits, protection: Protection, pauses: Pauses,
        audit: Audit, daily_limit: DailyLimit | None,
    ) -> None:  # fmt: skip
        self.source = source
        self.pauses = pauses
        self.audit = audit
        self.state = state
        self.report = report
        self.clock = clock
        self._settings = settings
        self._ledger = ledger
        self._client = client
        self._receiver = receiver
        self._generations = generations
        self._windows = [span_ms(window) for window in settings.late_horizons]
        policy = Policy(
            project=source.kelet_project,
            routes=source.routes,
            conversion=conversion_of(settings, source, receiver.target, protection),
            resend_changed=settings.updates == "resend",
            max_batch_spans=settings.max_batch_spans,
            max_batch_bytes=settings.max_batch_bytes,
            deepest_ms=max(self._windows),
            rules=rules_of(settings, source.routes),
        )
        readiness_limits = ReadinessLimits(span_ms(settings.settle), span_ms(settings.max_open))
        self._session = Session(
            state.id, policy, readiness_limits, limits, ledger, reader, delivery, report, clock, daily_limit,
            protection,
        )  # fmt: skip
        self._pipeline = Pipeline(self._session)
        self._coverage = Coverage(self._session, source.name)
        takes_scores = receiver.target.preset.takes_signals or settings.score_events
        self._scores = self._score_jobs() if settings.scores and takes_scores else None

    @property
    def quiet_period_ms(self) -> int:
        """How long a trace must have had no new observation before it is sent."""
        return self._session.readiness_limits.quiet_period

    async def live_cycle(self, progress: Progress | None = None, jobs: Callable[[], Jobs] | None = None) -> None:
        """Run one cycle of the live sync; `jobs` as of `LiveSync`. Raises as reader and delivery do."""
        self._store_rules()
        now = self.clock.now_ms()
        first = self._sync_start(now)
        await self._live(jobs).cycle(now, first, progress)

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
        if scores != "none" and self._scores is not None:
            await self._scores.backfill(interval, partitions)
        self._session.delivery.check()
        if jobs is not None:
            jobs.check()

    def completed(self) -> list[Interval]:
        """Return what a run of this lease does not read: of a backfill, under the rules of this run or under none."""
        if self._ledger.is_live:
            return self._coverage.live_view(self.clock.now_ms(), None)
        return self._coverage.under_rules()[0]

    def begin_job(self) -> None:
        """Get ready to sync intervals that another process hands out."""
        if self._ledger.is_live:
            self._session.claimed = claims.claimed_by_others(self._ledger, self.state.id)
        else:
            _, self._session.reread = self._coverage.under_rules()

    async def sync_interval(self, interval: Interval, progress: Progress) -> Synced:
        """Sync an interval that another process handed out. Raises as reader and delivery do."""
        role = LIVE if self._ledger.is_live else BACKFILL
        return await sync_interval(self._pipeline, role, interval, progress, hands_back=True)

    def check(self) -> None:
        """Raise for what is left undelivered: SourcePaused or TransientError."""
        self._session.delivery.check()

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
        await backfill(self._pipeline, self._coverage, interval, partitions, progress, jobs)
        self._report_unscanned(interval)
        if lease_owner(self._ledger, LIVE) is None:
            await self._live().read_again(BACKFILL)
        self._log_second_reads()
        forget(self._session, self._coverage, self._windows, self.clock.certain_ms())

    async def retry(self, letters: Sequence[DeadLetter]) -> None:
        """Fetch dead letters of this source again by id, and send them regardless of what was sent before."""
        own = [letter for letter in letters if letter.source_id == self.state.id and letter.observation_id is not None]
        if own:
            await self._pipeline.run(ManualRetry(self._pipeline, own))
            self._session.delivery.check()
        of_scores = [letter for letter in letters if letter.source_id == self.state.id and letter.score_id is not None]
        if of_scores:
            await self._score_jobs().retry(of_scores)

    async def send(self, trace_ids: Sequence[str], *, again: bool) -> list[SendResult]:
        """Send traces by id now; see `TraceSend`. Raises as reader and delivery do."""
        job = TraceSend(self._pipeline, self.source.name, trace_ids, again=again)
        await self._pipeline.run(job)
        self._session.delivery.check()
        return list(job.results.values())

    async def verify(self, interval: Interval | None, *, repair: bool = False) -> Verdict:
        """Compare completed intervals with Langfuse; `repair` reopens those with missing observations. See `verify`."""
        check = self._verification()
        found = await check.run(interval)
        if self._scores is not None:
            found.scores = await self._scores.verify(interval)
        if repair:
            found.reopened = check.reopen(found.hours)
            if self._scores is not None and found.scores is not None and found.scores.missing:
                self._scores.list_all_again()
        return found

    async def resend(self, interval: Interval | None, found: Verdict, *, again: bool) -> Verdict:
        """Send what a verification of the same interval found missing, and return what is missing then.

        Hours whose records were forgotten are sent only with `again`, all of them: see `resend`. Needs a backfill's
        lease.
        """
        hours = [hour for hour in found.hours if again or not hour.forgotten]
        sent: list[Interval] = []
        if hours:
            self._coverage.mark_claimed()
            before = self.report.spans_sent
            resend = Resend(self._pipeline, self.state.sync_start_ms)
            sent = await resend.send(hours, self._verification().completed())
            scores, found = found.scores, await self._verification().run(interval)
            found.scores = scores
            found.spans_sent = self.report.spans_sent - before
        found.resent, found.refused = sent, 0 if again else sum(hour.forgotten for hour in found.hours)
        return found

    async def explain(self, trace_id: str) -> dict[str, Any]:
        """Return the state of a trace; see `explain`."""
        session, now = self._session, self.clock.now_ms()
        explanation = Explanation(
            self.state, self._ledger, session.reader, session.readiness_limits, now, self._settings.updates,
            session.policy.rules,
        )  # fmt: skip
        found = await explanation.of(trace_id)
        return {**found, "scores": [] if self._scores is None else await self._scores.explain(trace_id)}

    async def preview_scores(self, interval: Interval, most: int) -> ScorePreview:
        """Return what the newest scores of an interval, about `most`, would become; nothing is sent."""
        return await self._score_jobs().preview(interval, most)

    async def preview(self, trace_id: str) -> Preview:
        """Return the spans of a trace in Langfuse, as these settings convert it; nothing is sent."""
        from sync_worker.runs.preview import observations_of_trace, preview  # noqa: PLC0415 - converts, as no start does

        observations = await observations_of_trace(self._session.reader, trace_id, self.clock.now_ms())
        policy = self._session.policy
        return preview(observations, policy.project, policy.conversion, policy.routes, self._session.protection)

    async def test_privacy(self, trace_ids: Sequence[str], most: int) -> PrivacyTest:
        """Return what these settings would replace and leave out of these traces, or of the newest observations.

        Nothing is sent or stored. Raises as the reader does.
        """
        from sync_worker.runs.privacy_test import PrivacyTest  # noqa: PLC0415

        found = PrivacyTest(self.source.name)
        found.by(protection_of(self._settings, self._ledger, found.watch), self._settings.rules)
        await found.read(self._session.reader, trace_ids, self.clock.now_ms(), most)
        return found

    async def test_routes(self, interval: Interval, most: int) -> RouteTest:
        """Return which rules would take the newest traces of the interval, about `most`; see `route_test`."""
        return await count_by_rule(self.source.name, self._session, interval, most)

    async def estimate(self, interval: Interval) -> Estimate:
        """Estimate the cost of a backfill of the interval; see `estimate`."""
        from sync_worker.runs.estimate import estimate  # noqa: PLC0415
        from sync_worker.runs.preview import preview  # noqa: PLC0415
        from sync_worker.spans.encode import to_proto  # noqa: PLC0415

        completed, _ = self._coverage.under_rules()
        intervals = due(interval.start, interval.end, completed)
        session, policy = self._session, self._session.policy

        def size_of(observations: Sequence[Observation]) -> int:
            spans = preview(observations, policy.project, policy.conversion, policy.routes).spans
            return sum(len(to_proto(span).SerializeToString()) for span in spans)

        batch = (policy.max_batch_spans, policy.max_batch_bytes)
        found = await estimate(
            self.source.name, self._client, session.reader, intervals, batch, session.limits, size_of
        )
        if self._scores is None:
            return found
        scores = await self._scores.estimate(interval)
        return found.with_scores(scores, -(-scores // _SCORES_A_REQUEST), _SIGNALS_PER_MINUTE)

    async def uses_another_api(self) -> bool:
        """Whether the server, asked again, needs another generation of the API. Raises as the reader does."""
        return await self._generations.is_another(self._client, self._session.reader.api)

    def finish(self) -> None:
        """Complete the report, release claims, and store what was discovered for the next run."""
        self._put_findings()
        self.audit.log_if_due(at_end=True)
        self._coverage.release_claims(self.state)
        self._ledger.save()
        self._count_requests(self.report)
        self.report.traces_pending = self._ledger.pending(self.state.id).count
        self.report.complete_to_ms = self._coverage.note_watermark(self.state)

    def _count_requests(self, report: SourceReport) -> None:
        report.langfuse_requests += self._client.requests
        report.kelet_requests += self._receiver.traffic.requests
        report.bytes_sent += self._receiver.traffic.bytes_sent

    def _store_rules(self) -> None:
        """Store the rules of this run, so that later ones know what they left out."""
        self._ledger.store_rules(self._session.digest, self._session.policy.rules.as_text())

    def _live(self, jobs: Callable[[], Jobs] | None = None) -> LiveSync:
        return LiveSync(
            self._pipeline,
            self._coverage,
            self.state,
            self._windows,
            span_ms(self._settings.interval),
            self._client.rate_limits.per_minute(self._session.reader.api),
            self._scores,
            jobs,
        )

    def _score_jobs(self) -> ScoreJobs:
        from sync_worker.sync.scores import ScoreJobs  # noqa: PLC0415 - the start of a run without scores is quicker

        return ScoreJobs(
            self.source,
            self._settings,
            self.state,
            self._session,
            self._coverage,
            self._client,
            self._receiver,
            self.pauses,
        )

    def _verification(self) -> Verification:
        deepest = self._session.policy.deepest_ms
        return Verification(
            self.source.name,
            self.state,
            self._ledger,
            self._session.reader,
            self.clock,
            deepest + deepest // SCANS_PER_WINDOW,
        )

    def _report_unscanned(self, interval: Interval) -> None:
        """Report which part of a backfilled interval no lookback scan of the live sync reaches."""
        (first,) = (state.sync_start_ms for state in self._ledger.sources() if state.id == self.state.id)
        seen_from = interval.end if first is None else max(first, self.clock.now_ms() - self._session.policy.deepest_ms)
        end = min(interval.end, seen_from)
        if interval.start < end:
            self.report.late_unseen_from_ms, self.report.late_unseen_to_ms = interval.start, end

    def _log_second_reads(self) -> None:
        """Log after a backfill how many second reads are left."""
        left = self._ledger.count_second_reads(self.state.id)
        if left:
            log.info(
                "%s: %d observations were updated less than ten minutes before they were sent: the next `once`, `run` "
                "or `backfill` after that time reads them once more",
                self.source.name, left, extra={"action": "plan"},
            )  # fmt: skip

    def _put_findings(self) -> None:
        state, delivery = self._session.state, self._session.delivery
        if self._receiver.gzip_refused:
            self._ledger.state(receiver_scope(self._receiver.target)).put(GZIP_REFUSED, 1)
        state.put(PAGE_LIMITS, self._session.reader.limits)
        state.put(REJECTED_IN_A_ROW, delivery.rejected_in_a_row)
        state.put(DELIVERY, delivery.delivery_state)

    def _sync_start(self, now: int) -> int:
        """Return where the live sync begins: stored before the first request, and never computed again."""
        noted = provisional_start_ms(self._ledger, self.source.name)
        if self.state.sync_start_ms is not None:
            if noted is not None:  # of keys that turned out to belong to a known project
                self._ledger.set_sync_start(self.state.id, self.state.sync_start_ms, start_scope(self.source.name))
            return self.state.sync_start_ms
        first = sync_start_ms(self._settings.start, now if noted is None else noted, now)
        if not self.clock.is_certain:
            return first  # a guess: stored when the time is certain
        if self._scores is not None:
            self._scores.begin(now if noted is None else min(noted, now))
        first = self._ledger.set_sync_start(self.state.id, first, start_scope(self.source.name))
        remember_start(self._ledger, self.state.id, self._settings)
        self.state = next(state for state in self._ledger.sources() if state.id == self.state.id)
        log.info("%s: syncing what starts at or after %s", self.source.name, iso_time(first), extra={"action": "start"})
        return first
