"""Runs cycles and backfills over all sources: one failing source stops no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from sync_worker.clock import Clock, Stopped
from sync_worker.errors import ExitCode, Stop, SyncError
from sync_worker.langfuse.budget import Allowance, Budgets
from sync_worker.langfuse.client import EndpointMissing
from sync_worker.langfuse.pace import Paces
from sync_worker.ledger import DeadLetter, Ledger
from sync_worker.settings import Settings, Source
from sync_worker.sync.opening import Transports, ask_time, keys_hash, open_source
from sync_worker.sync.provisional import Starts
from sync_worker.sync.report import SourceReport
from sync_worker.sync.source import Progress, SourceSync
from sync_worker.sync.timekeeping import Clocks, last_certain_ms
from sync_worker.windows import Window

#: Sources worked on at once.
SOURCES_AT_ONCE = 4

#: Which exit code tells more, when sources end differently.
_RANK = (
    ExitCode.CREDENTIALS,
    ExitCode.USAGE,
    ExitCode.PAUSED,
    ExitCode.TRANSIENT,
    ExitCode.GAPS,
    ExitCode.DEAD_LETTERS,
    ExitCode.OK,
)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Engine:
    """What a run of any kind needs. `patience` is how long an outage may last, in seconds; None means for ever.

    `parts` is given where a piece of work is divided over so many processes with a state file each, which cannot know
    of each other's requests: each takes that part of the limit, be it set or learnt.
    """

    settings: Settings
    ledger: Ledger
    clock: Clock
    patience: float | None
    transports: Transports = field(default_factory=Transports)
    parts: int = 1
    clocks: Clocks = field(init=False)
    starts: Starts = field(init=False)
    budgets: Budgets = field(init=False)
    paces: Paces = field(init=False)

    def __post_init__(self) -> None:
        allowance = Allowance(self.settings.requests_per_minute, self.settings.budget_share, self.parts)
        self.budgets = Budgets(self.clock, allowance, self.ledger.requests)
        self.paces = Paces(self.clock)
        self.ledger.max_dead_letters = self.settings.max_dead_letters
        self.clocks = self.ledger.clock = Clocks(self.clock, self.ledger)
        self.starts = Starts(self.ledger)

    def open(self, source: Source, report: SourceReport) -> AbstractAsyncContextManager[SourceSync]:
        """Connect a source."""
        return open_source(
            source, self.settings, self.ledger, self.clocks.of(source), report,
            patience=self.patience, budgets=self.budgets, paces=self.paces, transports=self.transports,
        )  # fmt: skip

    async def now_ms(self, sources: Sequence[Source]) -> int:
        """Return what time it is, in Unix milliseconds, by what the sources' servers say. Raises as requests do."""
        now = max(self.clock.now_ms(), last_certain_ms(self.ledger))
        for source in sources:
            clock = self.clocks.of(source)
            if not clock.needs_langfuse:
                return clock.now_ms()
            await ask_time(source, self.ledger, clock, self.patience, self.budgets, self.transports)
            if clock.langfuse.now_ms() is not None:
                return clock.now_ms()
        return now

    async def live(self, source: Source, progress: Progress | None = None) -> tuple[SourceReport, int]:
        """Do one live cycle of a source; return its report and exit code."""
        known, clock = self.ledger.source_by_key(keys_hash(source)), self.clocks.of(source)
        if known is None or known.first_edge_ms is None:
            self.starts.note(source.name, clock)

        async def cycle(sync: SourceSync) -> None:
            self.starts.correct(source.name, clock)
            await sync.live_cycle(progress)

        try:
            return await self.work(source, cycle)
        finally:
            self.starts.correct(source.name, clock)  # also where the keys are refused: that is an answer too

    async def backfill(
        self, source: Source, stretch: Window, progress: Progress | None = None, parts: Sequence[Window] | None = None
    ) -> tuple[SourceReport, int]:
        """Backfill a source, or only these parts of the stretch; return its report and exit code."""
        return await self.work(source, lambda sync: sync.backfill(stretch, progress, parts))

    async def retry(self, source: Source, letters: Sequence[DeadLetter]) -> tuple[SourceReport, int]:
        """Fetch a source's dead letters again and send them; return its report and exit code."""
        return await self.work(source, lambda sync: sync.retry(letters))

    async def each(
        self, sources: Iterable[Source], work: Callable[[Source], Awaitable[tuple[SourceReport, int]]]
    ) -> tuple[list[SourceReport], int]:
        """Do the same with several sources, a few at once; return all reports and the exit code that tells most."""
        slots = asyncio.Semaphore(SOURCES_AT_ONCE)

        async def one(source: Source) -> tuple[SourceReport, int]:
            async with slots:
                return await work(source)

        results = await asyncio.gather(*(one(source) for source in sources), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        done = [result for result in results if not isinstance(result, BaseException)]
        return [report for report, _ in done], overall(code for _, code in done)

    async def work(self, source: Source, work: Callable[[SourceSync], Awaitable[None]]) -> tuple[SourceReport, int]:
        """Run work on a source. Raises Stopped and Stop; what concerns the source alone ends in its report.

        Where what was read is gone because the server speaks another generation of the API now, the work is begun anew.
        """
        report = SourceReport(source.name)
        try:
            if not await self._attempt(source, report, work):
                await self._attempt(source, report, work)
        except (Stop, Stopped) as fault:
            if not isinstance(fault, Stopped):
                report.error = str(fault)
            raise
        except SyncError as fault:
            report.error = str(fault)
            log.error("%s: %s", source.name, fault, extra={"action": "stop", "source": source.name})  # noqa: TRY400
            return report, fault.exit_code
        return report, ExitCode.DEAD_LETTERS if report.dead_letters else ExitCode.OK

    async def _attempt(
        self, source: Source, report: SourceReport, work: Callable[[SourceSync], Awaitable[None]]
    ) -> bool:
        """Run work once; False when it ended because the source is to be read by another generation of the API."""
        async with self.open(source, report) as sync:
            try:
                self.clocks.keep(sync.clock)
                await work(sync)
            except EndpointMissing as missing:
                if self.settings.langfuse_api != "auto":
                    raise EndpointMissing(f"{missing}. Try: SYNC_LANGFUSE_API=auto") from missing
                if not await sync.speaks_another():
                    raise
                return False
            finally:
                self.clocks.keep(sync.clock)
                self.clocks.warn(sync.clock)
                sync.finish()
        return True


def overall(codes: Iterable[int]) -> int:
    """Return the exit code that tells most among those of several sources."""
    found = set(codes)
    return next((code for code in _RANK if code in found), ExitCode.OK)
