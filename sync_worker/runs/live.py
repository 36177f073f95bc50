"""One cycle of the live sync: due intervals, pending traces, lookback scans, forgetting.

Where a first run or an outage left much to do, jobs sync the part of it whose traces are not pending any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sync_worker.errors import SyncError
from sync_worker.intervals import Interval
from sync_worker.ledger import claims
from sync_worker.ledger.lease import LIVE
from sync_worker.ledger.state_keys import ARRIVAL_DELAY, INTERVAL_LENGTH
from sync_worker.ledger.stored_records import Waiting, is_due
from sync_worker.pipeline.lanes import Lanes
from sync_worker.pipeline.plan import Density, DueTime, IntervalPlanner, due
from sync_worker.runs.arrival_delay import ArrivalDelay
from sync_worker.runs.division import Division, Jobs, Synced, note_synced
from sync_worker.runs.forget import forget
from sync_worker.runs.interval import IntervalWork
from sync_worker.runs.lookback import LookbackScans
from sync_worker.runs.open_traces import look_up_open_traces
from sync_worker.runs.opened import OpenSource
from sync_worker.runs.pending import PendingTraces
from sync_worker.runs.progress import Progress
from sync_worker.runs.retry import Retries
from sync_worker.runs.second_read import SecondReading
from sync_worker.runs.whole_traces import send_whole_traces
from sync_worker.times import span_ms


@dataclass(frozen=True, slots=True)
class LiveSync:
    """The live sync of one source. `jobs` makes the jobs that may help; None: this process does all."""

    opened: OpenSource
    jobs: Callable[[], Jobs] | None = None

    async def cycle(self, now: int, sync_start_ms: int, progress: Progress | None) -> None:
        """Do one cycle. Raises as reader and delivery do."""
        opened, pipeline, coverage = self.opened, self.opened.pipeline, self.opened.coverage
        session, scores = opened.session, opened.scores
        state, clock = session.state, session.clock
        end = now - session.readiness_limits.quiet_period
        known = coverage.claim([Interval(sync_start_ms, claims.FOR_EVER)])
        session.claimed = known.others
        if clock.is_certain:
            known = coverage.reopen_after(end, known)  # completed while this machine's clock was ahead
        delay = ArrivalDelay.from_counts(state.get(ARRIVAL_DELAY))
        per_minute, interval_ms = opened.requests_per_minute, span_ms(opened.settings.interval)
        scans = LookbackScans(pipeline, opened.windows, sync_start_ms, per_minute, interval_ms, delay)
        if clock.is_certain:
            scans.begin(now)
            if scores is not None:
                scores.begin(now)
        gaps = due(sync_start_ms, end, coverage.live_view(now, known), known.others)
        pending = PendingTraces(pipeline, sync_start_ms)
        lanes = Lanes(session.ledger, session.source_id, session.delivery)
        if session.daily_limit is not None:
            await pending.send_ready(lanes)  # or new traces would leave too little of each day for a large one
        helpers = await self._sync(gaps, delay, Progress() if progress is None else progress)
        await pending.send_ready(lanes)  # first of all that follows: these have waited for their quiet period
        if clock.is_certain:
            now = min(now, clock.now_ms())  # the responses since then may have corrected the clock
            scans.begin(now)
            await scans.run(now, *coverage.scan_view(now))
        state.put(ARRIVAL_DELAY, delay.counts)
        waiting = await self.read_again()
        if waiting.has_due(session.clock.now_ms()):
            await pending.send_ready(lanes)  # what became due since then: traces in which the scans found something
        await look_up_open_traces(session, pending, waiting)
        await send_whole_traces(pipeline)
        try:
            if scores is not None:  # before what they belong to is forgotten: after an outage, what was sent just now
                await scores.cycle()
        except SyncError:
            forget(opened, min(now, clock.certain_ms()))
            raise
        forget(opened, min(now, clock.certain_ms()))
        session.delivery.check()
        for jobs in helpers:
            jobs.check()

    async def read_again(self, role: str = LIVE) -> Waiting:
        """Do the second reads that are due, and retry what could not be read; return what waited before."""
        pipeline, ledger = self.opened.pipeline, self.opened.ledger
        waiting = ledger.waiting(self.opened.session.source_id)
        if is_due(waiting.second_read_ms, ledger.clock.now_ms()):
            await SecondReading(pipeline, role, self.opened.requests_per_minute, self._length()).run()
        if is_due(waiting.retry_ms, ledger.clock.now_ms()):
            await Retries(pipeline).run()
        return waiting

    async def _sync(self, gaps: Sequence[Interval], delay: ArrivalDelay, progress: Progress) -> list[Jobs]:
        """Sync what is due and what no other run claims; return the jobs that took part."""
        pipeline, session, helpers = self.opened.pipeline, self.opened.session, list[Jobs]()
        progress.plan(gaps)
        planner, density = IntervalPlanner(self._length(), session.limits.interval_observations), Density()
        left = DueTime(gaps, planner)

        async def here(interval: Interval) -> Synced:
            work = IntervalWork(pipeline, LIVE, interval, progress, delay, hands_back=self.jobs is not None)
            await pipeline.run(work)
            return Synced(work.done_to, work.count)

        def note() -> None:  # a long way to catch up is seen to get shorter
            self.opened.coverage.note_watermark(self.opened.state)

        while left:
            session.clock.check()
            if density.is_known:  # the end of the cycle is noted with its claims
                note()
            old = [] if self.jobs is None else self._worth_jobs(left, density)
            if self.jobs is not None and old:
                helpers.append(self.jobs())
                left.remove(old)
                await Division(
                    DueTime(old, planner), density, progress, helpers[-1], here, at_once=1, note=note
                ).sync_all()
            else:
                interval = left.take()
                note_synced(interval, await here(interval), left, density, progress)
        session.state.put(INTERVAL_LENGTH, planner.length)
        return helpers

    def _worth_jobs(self, left: DueTime, density: Density) -> list[Interval]:
        """Return what of the time that is left is older than SYNC_MAX_OPEN, if that is worth jobs.

        It is if it has enough observations, should they be as dense as those read in this cycle. No trace that starts
        there is pending for its end, so that several processes may send parts of it.
        """
        session = self.opened.session
        if not session.clock.is_certain:
            return []
        old = left.before(session.clock.certain_ms() - session.readiness_limits.max_open)
        expected = density.average * sum(interval.length for interval in old)
        return old if expected > session.limits.jobs_above else []

    def _length(self) -> int | None:
        """Return the last length of an interval of the target size, in milliseconds."""
        return self.opened.session.state.get(INTERVAL_LENGTH)
