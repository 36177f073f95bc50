"""One cycle of the live sync: due intervals, lookback scans, pending traces, forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sync_worker.intervals import Interval
from sync_worker.ledger import SourceState, claims
from sync_worker.ledger.lease import LIVE
from sync_worker.ledger.records import Waiting, is_due
from sync_worker.ledger.state_keys import ARRIVAL_DELAY, INTERVAL_LENGTH
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.lanes import Lanes
from sync_worker.pipeline.plan import IntervalPlanner, due
from sync_worker.runs.arrival_delay import ArrivalDelay
from sync_worker.runs.coverage import Coverage
from sync_worker.runs.forget import forget
from sync_worker.runs.interval import IntervalJob
from sync_worker.runs.lookback import LookbackScans
from sync_worker.runs.open_traces import OpenTraces
from sync_worker.runs.pending import PendingTraces
from sync_worker.runs.progress import Progress
from sync_worker.runs.retry import Retries
from sync_worker.runs.second_read import SecondReads
from sync_worker.runs.whole_traces import WholeTraces


class Scores(Protocol):
    """The scores of the source, where the settings ask for them."""

    def begin(self, now: int) -> None:
        """Start the lookback windows, Unix ms, before the first request, however the run ends."""

    async def cycle(self) -> None:
        """Send what is due. Raises as reader and delivery do."""


@dataclass(frozen=True, slots=True)
class LiveSync:
    """The live sync of one source. `windows` (ms) are its lookback windows, `requests_per_minute` its limit."""

    pipeline: Pipeline
    coverage: Coverage
    state: SourceState
    windows: Sequence[int]
    interval_ms: int
    requests_per_minute: int | None
    scores: Scores | None = None

    async def cycle(self, now: int, sync_start_ms: int, progress: Progress | None) -> None:
        """Do one cycle. Raises as reader and delivery do."""
        session = self.pipeline.session
        state, clock = session.state, session.clock
        end = now - session.readiness_limits.quiet_period
        known = self.coverage.claim([Interval(sync_start_ms, claims.FOR_EVER)])
        session.claimed = known.others
        if clock.is_certain:
            known = self.coverage.reopen_after(end, known)  # completed while this machine's clock was ahead
        delay = ArrivalDelay.from_counts(state.get(ARRIVAL_DELAY))
        scans = LookbackScans(
            self.pipeline, self.windows, sync_start_ms, self.requests_per_minute, self.interval_ms, delay
        )
        if clock.is_certain:
            scans.begin(now)
            if self.scores is not None:
                self.scores.begin(now)
        gaps = due(sync_start_ms, end, self.coverage.live_view(now, known), known.others)
        await self._sync(gaps, delay, progress)
        if clock.is_certain:
            now = min(now, clock.now_ms())  # the responses since then may have corrected the clock
            scans.begin(now)
            await scans.run(now, *self.coverage.scan_view(now))
        state.put(ARRIVAL_DELAY, delay.counts)
        waiting = await self.read_again()
        pending = PendingTraces(self.pipeline, sync_start_ms)
        await pending.send_ready(Lanes(session.ledger, session.source_id, session.delivery))
        await OpenTraces(self.pipeline, pending).look_up(waiting)
        await WholeTraces(self.pipeline).send()
        forget(session, self.coverage, self.windows, min(now, clock.certain_ms()))
        if self.scores is not None:
            await self.scores.cycle()
        session.delivery.check()

    async def read_again(self, role: str = LIVE) -> Waiting:
        """Do the second reads that are due, and retry what could not be read; return what waited before."""
        ledger = self.pipeline.session.ledger
        waiting = ledger.waiting(self.pipeline.session.source_id)
        if is_due(waiting.second_read_ms, ledger.clock.now_ms()):
            await SecondReads(self.pipeline, role, self.requests_per_minute, self._length()).run()
        if is_due(waiting.retry_ms, ledger.clock.now_ms()):
            await Retries(self.pipeline).run()
        return waiting

    async def _sync(self, gaps: Sequence[Interval], delay: ArrivalDelay, progress: Progress | None) -> None:
        """Sync what is due and what no other run claims."""
        if progress is not None:
            progress.plan(gaps)
        session = self.pipeline.session
        planner = IntervalPlanner(self._length(), session.limits.interval_observations)
        for number, interval in enumerate(planner.split(gaps)):
            session.clock.check()
            if number:  # a long way to catch up is seen to get shorter; the end of the cycle is noted with its claims
                self.coverage.note_watermark(self.state)
            job = IntervalJob(self.pipeline, LIVE, interval, progress, delay)
            await self.pipeline.run(job)
            planner.adjust(interval, job.count)
            if progress is not None:
                progress.complete(interval)
        session.state.put(INTERVAL_LENGTH, planner.length)

    def _length(self) -> int | None:
        """Return the last length of an interval of the target size, in milliseconds."""
        return self.pipeline.session.state.get(INTERVAL_LENGTH)
