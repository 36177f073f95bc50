"""One source at work: a live cycle or a backfill of it, and what can be asked of it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from sync_worker.corrected import CorrectedClock
from sync_worker.kelet.client import KeletClient
from sync_worker.kelet.delivery import Delivery
from sync_worker.langfuse.client import LangfuseClient
from sync_worker.langfuse.reader import Reader
from sync_worker.ledger import DeadLetter, Ledger, SourceState, claims, source_scope
from sync_worker.ledger.lease import BACKFILL, LIVE, holder
from sync_worker.settings import Settings, Source
from sync_worker.spans.context import trace_of
from sync_worker.spans.model import Conversion
from sync_worker.sync.assemble import MAX_HELD_BYTES, Assembly, Patience
from sync_worker.sync.estimate import Estimate, estimate
from sync_worker.sync.explain import Explanation
from sync_worker.sync.generation import Generations
from sync_worker.sync.lanes import Lanes
from sync_worker.sync.late import FORGOTTEN, LateScans, looks_back_to
from sync_worker.sync.lateness import Lateness
from sync_worker.sync.open_traces import OpenTraces
from sync_worker.sync.parked import ParkedSync
from sync_worker.sync.plan import PERIODS, Cutter, due, live_view
from sync_worker.sync.preview import Preview, preview, rows_of_trace
from sync_worker.sync.provisional import noted_ms, start_scope, sync_start_ms
from sync_worker.sync.release import Policy, Releaser
from sync_worker.sync.report import SourceReport
from sync_worker.sync.resend import Resend
from sync_worker.sync.retry import Retries
from sync_worker.sync.second_read import SecondReads
from sync_worker.sync.sink import DELIVERY
from sync_worker.sync.start import remember_start
from sync_worker.sync.verify import Verdict, Verification
from sync_worker.sync.window import WindowSync
from sync_worker.times import iso_time, span_ms
from sync_worker.windows import Window, contiguous_end, gaps, merged, within

#: Windows of a backfill worked on at once: one is read while others are sent.
BACKFILL_WINDOWS = 2
_FORGOTTEN_AT_ONCE = 5_000

log = logging.getLogger(__name__)

#: Hears how far a stretch of time is done: (done up to Unix ms, the whole stretch).
Progress = Callable[[int, Window], None]


class SourceSync:
    """Works on one source. Made by `open_source`."""

    def __init__(
        self, source: Source, settings: Settings, state: SourceState, ledger: Ledger, client: LangfuseClient,
        kelet: KeletClient, delivery: Delivery, generations: Generations, reader: Reader, report: SourceReport,
        clock: CorrectedClock,
    ) -> None:  # fmt: skip
        self.source = source
        self.state = state
        self.report = report
        self.clock = clock
        self._settings = settings
        self._ledger = ledger
        self._client = client
        self._kelet = kelet
        self._delivery = delivery
        self._patience = Patience(span_ms(settings.settle), span_ms(settings.max_open))
        self._deepest = span_ms(max(settings.late_horizons))
        policy = Policy(
            project=source.kelet_project,
            routes=source.routes,
            conversion=Conversion(
                attributes=settings.attributes,
                max_value_bytes=settings.max_value_bytes,
                max_attributes=settings.max_attributes,
                langfuse_url=source.langfuse_base_url,
            ),
            resend_changed=settings.updates == "resend",
            max_batch_spans=settings.max_batch_spans,
            max_batch_bytes=settings.max_batch_bytes,
            deepest_ms=self._deepest,
        )
        self._claims = False  # whether it holds claims of a piece of work
        self._generations = generations
        self._reader = reader
        self._releaser = Releaser(state.id, policy, ledger, reader, delivery, report, clock)

    async def live_cycle(self, progress: Progress | None = None) -> None:
        """Do one cycle: what is due, what may be late, what is parked, what may be forgotten."""
        now = self.clock.now_ms()
        first = self._first_edge(now)
        end = now - self._patience.settle
        if self.clock.is_certain:
            self._take_back(end)
        seen = Lateness.from_text(self._ledger.fact(self._scope, "lateness"))
        windows = WindowSync(self._releaser, LIVE, self._patience, lateness=seen)
        scans = self._late_scans(windows, first, seen)
        if self.clock.is_certain:
            scans.begin(now)
        cutter = Cutter(self._learnt_length())
        self._claim([Window(first, claims.FOR_EVER)])
        self._releaser.taken = claims.claimed_by_others(self._ledger, self.state.id)
        stretches = due(first, end, self._live_view(now), self._releaser.taken)
        for window in cutter.cut(stretches):
            self.clock.check()
            cutter.learn(window, await windows.bring_over(window))
            if progress is not None:
                progress(window.end, Window(stretches[0].start, end))
        self._ledger.learn(self._scope, "window_ms", str(cutter.length))
        if self.clock.is_certain:
            now = min(now, self.clock.now_ms())  # what was read since came behind the one, and may have told the other
            scans.begin(now)
            await scans.look(now, self._live_view(now))
        self._ledger.learn(self._scope, "lateness", seen.as_text())
        await self._read_again(windows)
        lanes = Lanes(self._ledger, self.state.id, self._delivery)
        parked = ParkedSync(self._releaser, self._patience, first, lanes)
        await parked.look_after()
        await OpenTraces(self._releaser, parked).look_up()
        self._forget(min(now, self.clock.certain_ms()))
        self._delivery.check()

    async def backfill(
        self, stretch: Window, progress: Progress | None = None, parts: Sequence[Window] | None = None
    ) -> None:
        """Bring over what of the stretch is not covered, several windows at once; a rerun goes on where it stopped.

        With `parts`, only what of the stretch lies in them.
        """
        windows = WindowSync(self._releaser, BACKFILL, self._patience, MAX_HELD_BYTES // BACKFILL_WINDOWS)
        covered = [*self._covered(LIVE), *self._covered(BACKFILL)]
        own = [stretch] if parts is None else within(parts, stretch)
        stretches = self._claim_gaps([gap for part in own for gap in due(part.start, part.end, covered)])
        cutter = Cutter()
        todo = cutter.cut(stretches)
        done = 0
        error: BaseException | None = None
        tasks: dict[asyncio.Task[int], Window] = {}
        while tasks or error is None:
            while error is None and len(tasks) < (BACKFILL_WINDOWS if done else 1):
                window = next(todo, None)
                if window is None:
                    break
                tasks[asyncio.create_task(windows.bring_over(window))] = window
            if not tasks:
                break
            finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                window = tasks.pop(task)
                fault = task.exception()
                error = error or fault
                if fault is None:
                    done += 1
                    cutter.learn(window, task.result())
                    if progress is not None:
                        progress(window.end, stretch)
        if error is not None:
            raise error
        self._tell_unseen(stretch)
        if holder(self._ledger, LIVE) is None:
            await self._read_again(windows)
        self._tell_of_second_reads()
        self._forget(self.clock.certain_ms())
        self._delivery.check()

    async def retry(self, letters: Sequence[DeadLetter]) -> None:
        """Fetch dead letters of this source again by id, and send them whatever was noted of them."""
        own = {item.row_id: item for item in letters if item.source_id == self.state.id and item.row_id is not None}
        if not own:
            return
        starts = [item.start_ms for item in own.values() if item.start_ms is not None]
        known = len(starts) == len(own)
        around = Window(min(starts) if known else 0, (max(starts) if known else self.clock.now_ms()) + 1)
        assembly = Assembly()
        async for page in self._reader.rows(list(own), around):
            self.report.rows_read += len(page.rows)
            wanted = [row for row in page.rows if own[row.id].trace_id in {None, trace_of(row)}]
            assembly.add(wanted, page.size)
        traces = await self._releaser.introduce(assembly.take(), Window(0, 2**62), again=True)
        await self._releaser.send(traces, parked=False)
        self._delivery.finish()
        self._delivery.check()

    async def verify(self, stretch: Window | None, *, repair: bool = False) -> Verdict:
        """Compare covered time with Langfuse; `repair` opens what lacks rows again. See `verify`."""
        check = self._verification()
        found = await check.run(stretch)
        if repair:
            found.reopened = check.reopen(found.hours)
        return found

    async def resend(self, stretch: Window | None, found: Verdict, *, again: bool) -> Verdict:
        """Send what a verification of the same stretch found to be missing, and return what is missing then.

        Hours whose rows were forgotten are sent only with `again`, all of them: see `resend`. Needs a backfill's lease.
        """
        hours = [hour for hour in found.hours if again or not hour.forgotten]
        sent: list[Window] = []
        if hours:
            self._claims = True
            resend = Resend(self._releaser, self._patience, self.state.first_edge_ms)
            before = self.report.spans_sent
            sent = await resend.send(hours, self._verification().covered())
            found = await self._verification().run(stretch)
            found.spans_sent = self.report.spans_sent - before
        found.resent, found.refused = sent, 0 if again else sum(hour.forgotten for hour in found.hours)
        return found

    def _verification(self) -> Verification:
        look_back = self._deepest + self._deepest // PERIODS
        return Verification(self.source.name, self.state, self._ledger, self._releaser.reader, self.clock, look_back)

    async def explain(self, trace_id: str) -> dict[str, Any]:
        """Say where a trace stands; see `explain`."""
        now = self.clock.now_ms()
        told = Explanation(self.state, self._ledger, self._releaser.reader, self._patience, now, self._settings.updates)
        return await told.of(trace_id)

    async def preview(self, trace_id: str) -> Preview:
        """Return the spans of a trace as it is in Langfuse, and as these settings make them; nothing is sent."""
        rows = await rows_of_trace(self._releaser.reader, trace_id, self.clock.now_ms())
        policy = self._releaser.policy
        return preview(rows, policy.project, policy.conversion, policy.routes)

    async def estimate(self, stretch: Window) -> Estimate:
        """Say what a backfill of the stretch would cost; see `estimate`."""
        stretches = due(stretch.start, stretch.end, [*self._covered(LIVE), *self._covered(BACKFILL)])
        batch = (self._settings.max_batch_spans, self._settings.max_batch_bytes)
        return await estimate(self.source.name, self._client, self._releaser.reader, stretches, batch)

    async def speaks_another(self) -> bool:
        """Whether the server, asked anew, is to be read by another generation of the API. Raises as the reader does."""
        return await self._generations.is_another(self._client, self._reader.api)

    def _tell_unseen(self, stretch: Window) -> None:
        """Tell in the report which part of a backfilled stretch no late scan of the live sync goes over."""
        (first,) = (state.first_edge_ms for state in self._ledger.sources() if state.id == self.state.id)
        looked_from = stretch.end if first is None else max(first, self.clock.now_ms() - self._deepest)
        end = min(stretch.end, looked_from)
        if stretch.start < end:
            self.report.late_unseen_from_ms, self.report.late_unseen_to_ms = stretch.start, end

    def finish(self) -> None:
        """Complete the report, give free what is worked on no longer, and store what was learnt for the next run."""
        self._give_free()
        self._learn()
        self.report.langfuse_requests += self._client.requests
        self.report.kelet_requests += self._kelet.traffic.requests
        self.report.bytes_sent += self._kelet.traffic.bytes_sent
        self.report.traces_parked = self._ledger.parked(self.state.id).count
        self.report.complete_to_ms = self.edge_ms()

    def edge_ms(self) -> int | None:
        """Return the end of the contiguous live coverage; None before the first live cycle."""
        first = self.state.first_edge_ms
        return None if first is None else contiguous_end(first, self._live_view(self.clock.now_ms()))

    def _learn(self) -> None:
        if self._kelet.gzip_refused:
            self._ledger.learn(self._destination, "gzip_refused", "1")
        self._ledger.learn(self._scope, "page limits", json.dumps(self._reader.limits))
        self._ledger.learn(self._scope, "refused_in_a_row", str(self._delivery.refused_in_a_row))
        self._ledger.learn(self._scope, DELIVERY, self._delivery.to_remember)

    @property
    def _scope(self) -> str:
        return source_scope(self.state.id)

    @property
    def _destination(self) -> str:
        return f"kelet {self.source.kelet_api_url}"

    def _take_back(self, end: int) -> None:
        """Take back coverage of what is yet to come: it was noted while this machine's clock ran ahead.

        What was sent of time before `FORGOTTEN` is not known any more, so there it would be sent again.
        """
        end = max(end, int(self._ledger.fact(self._scope, FORGOTTEN) or 0))
        covered = self._covered(LIVE)
        if covered and covered[-1].end > end:
            self._ledger.uncover(self.state.id, LIVE, Window(end, covered[-1].end))

    def _late_scans(self, windows: WindowSync, first: int, seen: Lateness) -> LateScans:
        return LateScans(
            self._releaser,
            windows,
            [span_ms(horizon) for horizon in self._settings.late_horizons],
            first,
            self._client.budget.per_minute(self._reader.api),
            span_ms(self._settings.interval),
            seen,
        )

    async def _read_again(self, windows: WindowSync) -> None:
        """Read once more what may have been half old, and try what could not be read."""
        reads = SecondReads(
            self._releaser, windows, self._client.budget.per_minute(self._reader.api), self._learnt_length()
        )
        await reads.look()
        await Retries(self._releaser, self._patience).look()

    def _tell_of_second_reads(self) -> None:
        """Say after a backfill what somebody has yet to read once more."""
        left = self._ledger.count_second_reads(self.state.id)
        if left:
            log.info(
                "%s: %d rows were written less than ten minutes before they were sent: the next `once`, `run` or "
                "`backfill` after that time reads them once more",
                self.source.name, left, extra={"action": "plan"},
            )  # fmt: skip

    def _first_edge(self, now: int) -> int:
        """Return where the live sync begins: stored before the first request, and never computed again."""
        noted = noted_ms(self._ledger, self.source.name)
        if self.state.first_edge_ms is not None:
            if noted is not None:  # of keys that turned out to be those of a project that is known
                self._ledger.set_first_edge(self.state.id, self.state.first_edge_ms, start_scope(self.source.name))
            return self.state.first_edge_ms
        first = sync_start_ms(self._settings.start, now if noted is None else noted, now)
        if not self.clock.is_certain:
            return first  # a guess, and stored when it is none
        first = self._ledger.set_first_edge(self.state.id, first, start_scope(self.source.name))
        remember_start(self._ledger, self.state.id, self._settings)
        self.state = next(state for state in self._ledger.sources() if state.id == self.state.id)
        log.info("%s: syncing what starts at or after %s", self.source.name, iso_time(first), extra={"action": "start"})
        return first

    def _learnt_length(self) -> int | None:
        stored = self._ledger.fact(self._scope, "window_ms")
        return int(stored) if stored else None

    def _covered(self, role: str) -> list[Window]:
        return self._ledger.coverage(self.state.id, role)

    def _live_view(self, now: int) -> list[Window]:
        """Return what the live sync need not read: its own coverage, and a backfill's old windows."""
        return live_view(self._covered(LIVE), self._covered(BACKFILL), now, self._deepest)

    def _claim(self, windows: Sequence[Window]) -> list[Window]:
        self._claims = True
        return claims.claim(self._ledger, self.state.id, windows)

    def _claim_gaps(self, stretches: Sequence[Window]) -> list[Window]:
        """Claim gaps for a backfill, but for those that a live sync at work has claimed: it fills them itself."""
        own = self._claim(stretches)
        left = [part for stretch in stretches for part in gaps(stretch, own)]
        if left:
            log.info(
                "%s: a live sync is at work from %s on: the backfill leaves that to it",
                self.source.name, iso_time(left[0].start), extra={"action": "plan"},
            )  # fmt: skip
        return own

    def _give_free(self) -> None:
        """Claim what is still this run's between two pieces of work: for a live sync, what is not covered yet."""
        lease, first = self._ledger.lease, self.state.first_edge_ms
        if not self._claims or lease is None:
            return
        self._claims = False
        whole = [] if lease.role != LIVE or first is None else [Window(first, claims.FOR_EVER)]
        covered = [*self._covered(LIVE), *self._covered(BACKFILL)]
        claims.claim(self._ledger, self.state.id, [gap for part in whole for gap in gaps(part, covered)])

    def _forget(self, now: int) -> None:
        """Forget what no look to come can meet: one that an outage made wait still needs what was sent before it."""
        before = now - self._deepest - self._deepest // PERIODS
        horizons = [span_ms(horizon) for horizon in self._settings.late_horizons]
        scanned = looks_back_to(self._ledger, self.state.id, horizons)
        before = before if scanned is None else min(before, scanned)
        covered = merged([*self._covered(LIVE), *self._covered(BACKFILL)])
        newest = self._ledger.newest_released(self.state.id, before)
        if newest is not None and newest >= int(self._ledger.fact(self._scope, FORGOTTEN) or 0):
            # Not `before`: were that ever wrong, time would count as forgotten that is yet to come.
            self._ledger.learn(self._scope, FORGOTTEN, str(newest + 1))
        while self._ledger.forget(self.state.id, before, covered, _FORGOTTEN_AT_ONCE) == _FORGOTTEN_AT_ONCE:
            self.clock.check()
