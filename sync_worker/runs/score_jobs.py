"""Scores of one source: the parts that read, attribute and send them, made where the settings ask for scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sync_worker.intervals import Interval, gaps
from sync_worker.langfuse.score_reader import score_reader
from sync_worker.ledger import DeadLetter
from sync_worker.ledger.score_notes import WAITING
from sync_worker.ledger.state_keys import (
    LAST_SCORE_SCAN,
    SIGNALS_REJECTED_IN_A_ROW,
    last_score_scan,
    running_score_scan,
)
from sync_worker.otlp.signal_delivery import SignalDelivery
from sync_worker.pipeline.attribution import Attributor
from sync_worker.pipeline.session import Session
from sync_worker.pipeline.signal_sink import LedgerSignalSink
from sync_worker.runs.opened import OpenSource
from sync_worker.runs.score_backfill import backfill_scores
from sync_worker.runs.score_configs import ScoreConfigs
from sync_worker.runs.score_explain import estimate_scores, explain_scores
from sync_worker.runs.score_preview import ScorePreview, preview_scores
from sync_worker.runs.score_scan import ScoreScans, begin_scans, forget_scores
from sync_worker.runs.score_sync import ScoreSettings, ScoreSync
from sync_worker.runs.score_verify import ScoreVerdict, verify_scores
from sync_worker.times import span_ms

#: An outage of scores or signals alone holds up the next cycle's spans for so long at most.
_OUTAGE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class ScoreJobs:
    """What is done with the scores of one source."""

    opened: OpenSource

    @property
    def _session(self) -> Session:
        return self.opened.session

    @property
    def windows(self) -> list[int]:
        """The lookback windows of scores in milliseconds."""
        return [span_ms(window) for window in self.opened.settings.score_horizons]

    def begin(self, now: int) -> None:
        """Start the lookback windows, Unix ms, before the first request, however the run ends."""
        begin_scans(self._session, self._chosen(), now)

    async def cycle(self) -> None:
        """Do the part of a live cycle. Raises as reader and delivery do."""
        clock = self._session.clock
        if not clock.is_certain:
            return
        reading, sending = self.opened.client.backoff, self._session.delivery.backoff
        with reading.limited(_OUTAGE_SECONDS), sending.limited(_OUTAGE_SECONDS):
            await self._cycle()

    async def _cycle(self) -> None:
        clock, scores = self._session.clock, self._sync()
        try:
            interval_ms = span_ms(self.opened.settings.interval)
            scans = ScoreScans(scores, self.windows, self.opened.requests_per_minute, interval_ms)
            begin_scans(self._session, scores.settings, clock.now_ms())  # responses may have made the time certain
            await scans.run(clock.now_ms())
            await scores.take_waiting()
        finally:
            self._finish(scores)
        forget_scores(scores, self.windows, clock.certain_ms())
        scores.delivery.check()

    async def backfill(self, interval: Interval, partitions: Sequence[Interval] | None) -> None:
        """Send the scores of an interval, or only of these partitions. Raises as reader and delivery do."""
        scores = self._sync()
        scores.all_due = True
        try:
            await backfill_scores(scores, interval, partitions)
        finally:
            self._finish(scores)
        scores.delivery.check()

    async def retry(self, letters: Sequence[DeadLetter]) -> None:
        """Read the scores of dead letters again by id and send them. Raises as reader and delivery do."""
        ledger, source_id = self._session.ledger, self._session.source_id
        ids = [letter.score_id for letter in letters if letter.score_id is not None]
        notes = ledger.scores(source_id, ids).values()
        ledger.store_scores(source_id, [replace(note, state=WAITING, check_ms=0, tries=0) for note in notes])
        scores = self._sync()
        try:
            await scores.send_again(ids)
        finally:
            self._finish(scores)
        scores.delivery.check()

    async def preview(self, interval: Interval, most: int) -> ScorePreview:
        """Return what the scores of an interval would become, by name; see `preview_scores`."""
        scores = self._sync()
        if not self.opened.settings.scores:  # as if they were on
            scores.settings = replace(scores.settings, wanted=("*",))
        return await preview_scores(scores, interval, most)

    async def verify(self, interval: Interval | None) -> ScoreVerdict:
        """Compare what is remembered of scores with Langfuse; see `verify_scores`."""
        return await verify_scores(self._sync(), interval, self.windows)

    def list_all_again(self) -> None:
        """Have the next cycle list all lookback windows."""
        for window in self.windows:
            self._session.state.drop(running_score_scan(window))
            self._session.state.drop(last_score_scan(window))
        self._session.state.drop(LAST_SCORE_SCAN)
        self._session.state.save()

    async def explain(self, trace_id: str) -> list[dict[str, Any]]:
        """Return the scores of a trace as JSON objects: what became of each, and as Langfuse lists it now."""
        return await explain_scores(self._sync(), trace_id)

    async def estimate(self, interval: Interval) -> int:
        """Return about how many scores are dated in an interval, of those that no backfill has read."""
        completed = self._session.ledger.completed_scores(self.opened.state.id, self._chosen().selection.as_text())
        reader = score_reader(self.opened.client, self._session.reader.api)
        return await estimate_scores(reader, gaps(interval, completed))

    def _sync(self) -> ScoreSync:
        session = self._session
        delivery = SignalDelivery(
            self.opened.receiver,
            LedgerSignalSink(session, self.opened.pauses),
            session.delivery.backoff,
            session.clock,
            rejected_in_a_row=session.state.get(SIGNALS_REJECTED_IN_A_ROW) or 0,
        )
        return ScoreSync(
            session,
            self.opened.client,
            score_reader(self.opened.client, session.reader.api),
            delivery,
            Attributor(session, self.opened.coverage.of_all, self.opened.state.sync_start_ms),
            ScoreConfigs(self.opened.client, session.state, session.clock),
            self._chosen(),
            self.opened.state.project_id,
        )

    def _chosen(self) -> ScoreSettings:
        settings = self.opened.settings
        return ScoreSettings(
            wanted=settings.scores,
            overrides=self.opened.source.scores,
            send_edits=settings.score_updates == "send",
            with_authors=settings.score_authors,
            deepest_ms=max(self.windows),
        )

    def _finish(self, scores: ScoreSync) -> None:
        """Store what is left of a run, however it ended."""
        session = self._session
        try:
            scores.delivery.finish()
        finally:
            session.state.put(SIGNALS_REJECTED_IN_A_ROW, scores.delivery.rejected_in_a_row)
        counts = session.ledger.score_counts(session.source_id)
        session.report.scores_waiting = sum(count for state, count in counts.items() if state.startswith(WAITING))
