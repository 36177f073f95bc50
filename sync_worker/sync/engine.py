"""Runs cycles and backfills over all sources: one failing source does not stop the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial

from sync_worker.clock import Clock, Stopped
from sync_worker.errors import (
    CredentialsRejected,
    DailyLimitReached,
    ExitCode,
    LeaseHeld,
    PausedByOperator,
    StateError,
    Stop,
    SyncError,
    TransientError,
    describe_unexpected,
)
from sync_worker.intervals import Interval
from sync_worker.langfuse.buckets import RateLimiters
from sync_worker.langfuse.concurrency import ConcurrencyLimits, ServerSlots
from sync_worker.langfuse.langfuse_client import EndpointMissing
from sync_worker.langfuse.rate_limiter import Quota
from sync_worker.ledger import DeadLetter, Ledger
from sync_worker.ledger.state_keys import CYCLES, last_cycle
from sync_worker.measurements import CYCLE_SECONDS
from sync_worker.measurements import CYCLES as CYCLE_COUNTS
from sync_worker.pipeline.daily_limit import DailyLimit
from sync_worker.pipeline.limits import Limits
from sync_worker.pipeline.pause_check import Pauses
from sync_worker.pipeline.report import SourceReport
from sync_worker.runs.backfill import ScoreChoice
from sync_worker.runs.division import Jobs
from sync_worker.runs.progress import Progress
from sync_worker.runs.retry import retry
from sync_worker.runs.stored_protection import check_key
from sync_worker.settings import Settings, Source, reread, target_of
from sync_worker.sync.identities import Identities
from sync_worker.sync.keys import keys_of
from sync_worker.sync.opening import Transports, ask_time, open_source, projects_of
from sync_worker.sync.provisional import ProvisionalStarts
from sync_worker.sync.source_sync import SourceSync
from sync_worker.sync.timekeeping import Clocks, last_certain_ms
from sync_worker.times import iso_time

#: Sources between the same two servers that are processed at once. Others never wait for them.
SOURCES_AT_ONCE = 4

#: When a key is rejected, its file is reread so often, after so many seconds each.
_REREADS, _REREAD_INTERVAL = 5, 1.0
#: How often the keys may be rejected and replaced in one run.
_MAX_ROTATIONS = 5

#: Seconds to wait before each request for the time, while no server responds and this machine's clock may be wrong.
_ASK_AFTER = (0.0, 1.0, 3.0)

#: Precedence of exit codes, when sources end differently.
_PRECEDENCE = (
    ExitCode.CREDENTIALS,
    ExitCode.USAGE,
    ExitCode.PAUSED,
    ExitCode.TRANSIENT,
    ExitCode.GAPS,
    ExitCode.SIGINT,
    ExitCode.SIGTERM,
    ExitCode.DEAD_LETTERS,
    ExitCode.OK,
)

#: Exit codes of a cycle that did its work.
GOOD = frozenset({ExitCode.OK, ExitCode.DEAD_LETTERS})
#: What metrics call the exit codes of a cycle.
OUTCOMES = {
    ExitCode.OK: "ok",
    ExitCode.TRANSIENT: "transient",
    ExitCode.USAGE: "settings",
    ExitCode.DEAD_LETTERS: "dead_letters",
    ExitCode.CREDENTIALS: "credentials",
    ExitCode.PAUSED: "paused",
}
#: What they call a cycle that ended for a pause of an operator or the daily limit alone.
PAUSED_ON_PURPOSE = "paused_on_purpose"

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Engine:
    """What a run of any kind needs. `max_elapsed` is how long an outage is retried, in seconds; None means no limit.

    `parts` is the number of processes, with a state file each, that share the work and cannot know of each other's
    requests: each uses that fraction of the rate limit, set or discovered. `jobs_of` gives the jobs that may help with
    a backfill or a live cycle of an open source; a job has `server_slots` from the process that leads it.
    """

    settings: Settings
    ledger: Ledger
    clock: Clock
    max_elapsed: float | None
    transports: Transports = field(default_factory=Transports)
    parts: int = 1
    limits: Limits = field(default_factory=Limits)
    server_slots: ServerSlots | None = None
    jobs_of: Callable[[SourceSync], Jobs] | None = None
    clocks: Clocks = field(init=False)
    starts: ProvisionalStarts = field(init=False)
    rate_limiters: RateLimiters = field(init=False)
    concurrency_limits: ServerSlots = field(init=False)
    identities: Identities = field(init=False)
    _started: set[tuple[str, str]] = field(init=False, default_factory=set)  # keys and target
    _current: dict[str, Source] = field(init=False, default_factory=dict)
    _pauses: dict[str, Pauses] = field(init=False, default_factory=dict)  # by source
    _paused: dict[str, str] = field(init=False, default_factory=dict)  # what was logged of a pause, by source
    _on_purpose: set[str] = field(init=False, default_factory=set)  # sources whose last work ended for such a pause

    def __post_init__(self) -> None:
        if self.parts > 1:
            check_key(self.settings)
        quota = Quota(self.settings.requests_per_minute, self.settings.budget_share, self.parts)
        self.rate_limiters = RateLimiters(self.clock, quota, self.ledger.requests)
        self.concurrency_limits = self.server_slots or ConcurrencyLimits(self.clock)
        self.ledger.max_dead_letters = self.settings.max_dead_letters
        self.clocks = self.ledger.clock = Clocks(self.clock, self.ledger)
        self.starts = ProvisionalStarts(self.ledger)
        self.identities = Identities(
            self.settings, self.ledger, self.clocks, self.rate_limiters.of_keys, self.transports.langfuse
        )

    def keys_changed(self, source: Source) -> bool:
        """Whether a file has another key of the source than was used last."""
        return bool(reread(self._current.get(source.name, source)).changed)

    def open(self, source: Source, report: SourceReport) -> AbstractAsyncContextManager[SourceSync]:
        """Connect a source."""
        return open_source(
            source, self.settings.of(source), self.ledger, self.clocks.of(source), report,
            max_elapsed=self.max_elapsed, rate_limiters=self.rate_limiters,
            concurrency_limits=self.concurrency_limits, transports=self.transports,
            identities=self.identities, limits=self.limits, pauses=self._pauses_of(source),
        )  # fmt: skip

    async def now_ms(self, sources: Sequence[Source]) -> int:
        """Return the time in Unix milliseconds, by the sources' servers.

        Raises as requests do, and TransientError if no server responds and this machine's clock may be wrong: relative
        times would give another interval than was meant.
        """
        now = max(self.clock.now_ms(), last_certain_ms(self.ledger))
        for pause in _ASK_AFTER:
            await self.clock.sleep(pause)
            is_known = False
            for source in sources:
                clock = self.clocks.of(source)
                if pause or clock.needs_langfuse:
                    await ask_time(
                        source, self.settings.of(source), self.ledger, clock, self.max_elapsed, self.rate_limiters,
                        self.concurrency_limits, self.transports,
                    )  # fmt: skip
                elif clock.is_certain:
                    return clock.now_ms()
                if clock.langfuse.now_ms() is not None:
                    return clock.now_ms()
                is_known = is_known or clock.langfuse.omits_date or clock.is_certain
            if is_known:
                return now
        raise TransientError(
            f"Langfuse's time is unknown, and this machine's clock, at {iso_time(now)}, may be "
            "wrong. Try: run again, nothing was started"
        )

    def note_starts(self, sources: Iterable[Source]) -> None:
        """Record that sources which were never synced live start now: before the first request."""
        for source in sources:
            keys = keys_of(source), source.target
            if keys in self._started:
                continue  # a sync start is set once
            known = self.ledger.source_by_key(*keys)
            if known is None or known.sync_start_ms is None:
                self.starts.note(source.name, self.clocks.of(source))
            else:
                self._started.add(keys)

    async def live(self, source: Source, progress: Progress | None = None) -> tuple[SourceReport, int]:
        """Run one live cycle of a source; return its report and exit code."""
        clock = self.clocks.of(source)
        self.note_starts([source])

        async def cycle(sync: SourceSync) -> None:
            self.starts.correct(source.name, clock)
            jobs_of = self.jobs_of
            await sync.live_cycle(progress, None if jobs_of is None else partial(jobs_of, sync))

        began = self.clock.monotonic()
        try:
            report, code = await self.work(source, cycle, unless_paused=True)
        except Stopped:
            raise
        except Exception:
            self._count_cycle(source, "error", self.clock.monotonic() - began)
            raise
        finally:
            self.starts.correct(source.name, clock)  # also if the keys are rejected: that response has a date too
        on_purpose = source.name in self._on_purpose
        self._count_cycle(source, outcome_of(code, on_purpose=on_purpose), self.clock.monotonic() - began)
        self._note_cycle(source, code, on_purpose=on_purpose)
        return report, code

    def _count_cycle(self, source: Source, outcome: str, seconds: float) -> None:
        """Count a cycle that ended."""
        self.transports.measurements.count(CYCLE_COUNTS, source.name, outcome)
        self.transports.measurements.observe(CYCLE_SECONDS, seconds, source.name)

    def _note_cycle(self, source: Source, code: int, *, on_purpose: bool) -> None:
        """Note how a cycle ended, with the next commit: the next process still knows it."""
        cycles, key, now = self.ledger.state(CYCLES), last_cycle(source.name), self.ledger.clock.now_ms()
        before = cycles.get(key) or {}
        good = now if code in GOOD else before.get("good_ms")
        cycles.put(key, {"ended_ms": now, "exit_code": code, "good_ms": good, "on_purpose": on_purpose})

    async def backfill(
        self,
        source: Source,
        interval: Interval,
        progress: Progress | None = None,
        partitions: Sequence[Interval] | None = None,
        scores: ScoreChoice = "too",
    ) -> tuple[SourceReport, int]:
        """Backfill a source, or only these partitions of the interval; return its report and exit code."""

        async def work(sync: SourceSync) -> None:
            jobs = None if self.jobs_of is None else self.jobs_of(sync)
            await sync.backfill(interval, progress, partitions, scores, jobs)

        return await self.work(source, work, unless_paused=True)

    def check_pauses(self, source: Source) -> None:
        """Raise PausedByOperator or DailyLimitReached where a source is paused. Raises StateError.

        A pause ends by the best guess of the time, and the limit of a day is left to what sends where the day is
        uncertain: no response would ever correct the time of a source that is paused.
        """
        self.ledger.check_place()  # a pause in a file that is gone is ended by no `resume`
        clock = self.clocks.of(source)
        self._pauses_of(source).check(clock.now_ms())
        limit = self.settings.of(source).max_spans_per_day
        known = self.ledger.source_by_key(keys_of(source), source.target) if limit else None
        if known is not None and clock.is_certain:
            DailyLimit(self.ledger, known.id, limit).check_day()

    def _pauses_of(self, source: Source) -> Pauses:
        if source.name not in self._pauses:
            self._pauses[source.name] = Pauses(self.ledger, source.name, projects_of(source))
        return self._pauses[source.name]

    async def retry(self, source: Source, letters: Sequence[DeadLetter]) -> tuple[SourceReport, int]:
        """Fetch a source's dead letters again and send them; return its report and exit code."""
        return await self.work(source, lambda sync: retry(sync, letters))

    async def each(
        self, sources: Iterable[Source], work: Callable[[Source], Awaitable[tuple[SourceReport, int]]]
    ) -> tuple[list[SourceReport], int]:
        """Run work on several sources, a few at once between the same servers, so that a slow one delays no others.

        Returns all reports and the exit code of highest precedence.
        """
        sources = list(sources)
        await self.identities.identify(sources)
        slots: dict[tuple[str, str], asyncio.Semaphore] = {}

        async def one(source: Source) -> tuple[SourceReport, int]:
            servers = source.langfuse_base_url, target_of(source).url
            async with slots.setdefault(servers, asyncio.Semaphore(SOURCES_AT_ONCE)):
                try:
                    return await work(source)
                except (Stopped, StateError, LeaseHeld):  # these concern all sources
                    raise
                except Exception as error:  # noqa: BLE001 - the reports of the others are still needed
                    if not isinstance(error, SyncError):
                        self.ledger.check_damage()
                    return _unexpected(source, error)

        results = await asyncio.gather(*(one(source) for source in sources), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        done = [result for result in results if not isinstance(result, BaseException)]
        return [report for report, _ in done], overall(code for _, code in done)

    async def work(
        self, source: Source, work: Callable[[SourceSync], Awaitable[None]], *, unless_paused: bool = False
    ) -> tuple[SourceReport, int]:
        """Run work on a source, with `unless_paused` only where it is not. Raises Stopped and Stop.

        Other errors are in its report; a pause is logged once, not in each cycle. The work is restarted if the server
        now has another generation of the API, and if a key is rejected and its file has a new one.
        """
        report = SourceReport(source.name, source.target)
        self._on_purpose.discard(source.name)
        try:
            if unless_paused:
                self.check_pauses(source)
            await self.attempt(source, report, work)
        except (Stop, Stopped) as error:
            if not isinstance(error, Stopped):
                report.error = str(error)
            raise
        except SyncError as error:
            report.error = str(error)
            if isinstance(error, PausedByOperator | DailyLimitReached):
                self._on_purpose.add(source.name)
                self._log_pause(source, str(error))
            else:
                log.error("%s: %s", source.name, error, extra={"action": "stop", "source": source.name})  # noqa: TRY400
            return report, error.exit_code
        if self._paused.pop(source.name, None) is not None:
            log.info("%s: resumed", source.name, extra={"action": "resume", "source": source.name})
        return report, ExitCode.DEAD_LETTERS if report.dead_letters else ExitCode.OK

    def _log_pause(self, source: Source, message: str) -> None:
        if self._paused.get(source.name) != message:
            self._paused[source.name] = message
            log.warning("%s", message, extra={"action": "pause", "source": source.name})

    async def attempt(
        self, source: Source, report: SourceReport, work: Callable[[SourceSync], Awaitable[None]]
    ) -> None:
        """Run work on a source, as `work` does; all errors are raised."""
        current = self._reread_keys(self._current.get(source.name, source))
        for _ in range(_MAX_ROTATIONS):
            try:
                if not await self._attempt(current, report, work):
                    await self._attempt(current, report, work)
            except CredentialsRejected:
                await self._await_new_keys(current)
                before, current = current, self._reread_keys(current)
                if current is before:
                    raise
            else:
                return
        raise CredentialsRejected(f"the keys of {source.name} were rejected, and changed, {_MAX_ROTATIONS} times")

    async def _await_new_keys(self, source: Source) -> None:
        """Wait a little for new keys in the source's files: they may be being written."""
        for _ in range(_REREADS if source.key_files else 0):
            found = reread(source)
            if found.changed and found.complete:
                return
            await self.clock.sleep(_REREAD_INTERVAL)

    def _reread_keys(self, source: Source) -> Source:
        found = reread(source)
        if found.changed:
            files = ", ".join(str(file) for file in found.changed)
            log.info("%s: a new key was read from %s", source.name, files, extra={"action": "keys"})
        self._current[source.name] = found.source
        return found.source

    async def _attempt(
        self, source: Source, report: SourceReport, work: Callable[[SourceSync], Awaitable[None]]
    ) -> bool:
        """Run work once; False if it ended because the source is to be read by another generation of the API."""
        async with self.open(source, report) as sync:
            try:
                self.clocks.keep(sync.clock)
                await work(sync)
            except EndpointMissing as missing:
                if self.settings.of(source).langfuse_api != "auto":
                    raise EndpointMissing(f"{missing}. Try: SYNC_LANGFUSE_API=auto") from missing
                if not await sync.uses_another_api():
                    raise
                return False
            finally:
                self.clocks.keep(sync.clock)
                self.clocks.warn(sync.clock)
                sync.finish()
        return True


def _unexpected(source: Source, error: Exception) -> tuple[SourceReport, int]:
    """Report what ended the work on one source: an error in its settings, or in the program."""
    code = error.exit_code if isinstance(error, SyncError) else ExitCode.TRANSIENT
    message = str(error)
    if not isinstance(error, SyncError):
        message = describe_unexpected(error)
        log.debug("unexpected", exc_info=error)
    log.error("%s: %s", source.name, message, extra={"action": "stop", "source": source.name})
    return SourceReport(source.name, source.target, error=message), code


def outcome_of(code: int, *, on_purpose: bool) -> str:
    """Return what metrics call the end of a cycle, by its exit code and whether only a pause on purpose ended it."""
    return PAUSED_ON_PURPOSE if on_purpose else OUTCOMES.get(code, "error")


def overall(codes: Iterable[int]) -> int:
    """Return the exit code of highest precedence."""
    found = set(codes)
    return next((code for code in _PRECEDENCE if code in found), ExitCode.OK)
