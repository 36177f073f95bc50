"""Runs cycles on a schedule, until the worker is asked to stop. After a failed cycle, the next one runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sync_worker.clock import RunClock, Stopped, first_of
from sync_worker.errors import ExitCode, Stop
from sync_worker.ledger import lease as leases
from sync_worker.settings import Source
from sync_worker.sync.engine import GOOD, Engine
from sync_worker.sync.scheduler import MonotonicScheduler

#: A source whose keys were rejected is retried after this time, in seconds.
REJECTED_KEYS_PAUSE = 300.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Worker:
    """The long-running worker: one job a source, so that an outage of one delays no other.

    `after_cycle` is called with the name of a source and the exit code of its cycle, None for an unexpected error.
    """

    engine: Engine
    sources: Sequence[Source]
    clock: RunClock
    lease: leases.Lease
    after_cycle: Callable[[str, int | None], None] = lambda *_: None
    _rejected_at: dict[str, float] = field(default_factory=dict)
    _errors: dict[str, str | None] = field(default_factory=dict)  # of the last cycle of a source
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _error: Stop | None = None
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> int:
        """Run until stopped; returns the exit code. Raises Stop when nothing can be done without the operator."""
        self.engine.note_starts(self.sources)
        await self.engine.identities.identify(self.sources)
        scheduler = MonotonicScheduler(self.clock)
        # One cycle of a source at a time; cycles missed while one ran long, or while the machine slept, become one.
        for source in self.sources:
            interval = self.engine.settings.of(source).interval.total_seconds()
            scheduler.every(interval, self._cycle, f"source {source.name}", [source], at_once=True)
        scheduler.every(leases.HEARTBEAT, self._heartbeat, "lease", at_once=False)
        logging.getLogger("apscheduler").setLevel(logging.ERROR)  # a cycle longer than its interval is no warning
        scheduler.start()
        try:
            async with first_of(self.clock.stopped(), self._ended.wait()):
                pass
        finally:
            scheduler.pause()
            self.clock.stop()
            if self._running:
                await asyncio.wait(self._running)
            scheduler.shutdown(wait=False)
        if self._error is not None:
            raise self._error
        return ExitCode.CREDENTIALS if self._all_keys_rejected() else ExitCode.OK

    async def _cycle(self, source: Source) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._running.add(task)
        interval = self.engine.settings.of(source).interval.total_seconds()
        try:
            began = self.clock.monotonic()
            while await self._run_cycle(source) and self.clock.monotonic() - began >= interval:
                began = self.clock.monotonic()  # so much has become due in the cycle that the next begins at once
        finally:
            if task is not None:
                self._running.discard(task)

    async def _run_cycle(self, source: Source) -> bool:
        """Run a cycle; returns whether it did its work."""
        rejected_at = self._rejected_at.get(source.name)
        waits = rejected_at is not None and self.clock.monotonic() - rejected_at < REJECTED_KEYS_PAUSE
        if self.clock.stopping or (waits and not self.engine.keys_changed(source)):
            return False
        started = self.clock.monotonic()
        try:
            report, code = await self.engine.live(source)
        except Stopped:
            return False
        except Stop as error:
            self.after_cycle(source.name, error.exit_code)
            self._stop_for(error, "cycle")
            return False
        except Exception:
            log.exception("the cycle of %s failed", source.name, extra={"action": "cycle", "source": source.name})
            self.after_cycle(source.name, None)
            self._end_if_damaged()
            return False
        if code == ExitCode.CREDENTIALS:
            self._record_rejected_keys(source)
        else:
            self._rejected_at.pop(source.name, None)
        is_new = report.error != self._errors.get(source.name)
        self._errors[source.name] = report.error
        if report.spans_sent or report.dead_letters or (report.error and is_new):
            log.info("%s", report.line(), extra={"action": "cycle", "source": source.name})
        else:
            log.debug("%s", report.line(), extra={"action": "cycle", "source": source.name})
        self.after_cycle(source.name, code)
        began_ms = self.engine.ledger.clock.now_ms() - round((self.clock.monotonic() - started) * 1000)
        try:
            self.engine.ledger.store_run("run", began_ms, code, {"sources": [report.as_json()]})
        except Stop as error:
            self._stop_for(error, "cycle")
            return False
        return code in GOOD

    def _record_rejected_keys(self, source: Source) -> None:
        if source.key_files and source.name not in self._rejected_at:
            log.warning(
                "%s: resumes when a file has a new key; the files are reread each cycle",
                source.name, extra={"action": "keys", "source": source.name},
            )  # fmt: skip
        self._rejected_at[source.name] = self.clock.monotonic()
        if self._all_keys_rejected():
            self._ended.set()

    async def _heartbeat(self) -> None:
        try:
            leases.heartbeat(self.engine.ledger, self.lease)
        except Stop as error:
            self._stop_for(error, "lease")

    def _end_if_damaged(self) -> None:
        """End if a cycle failed because the state file is damaged: every later one would."""
        try:
            self.engine.ledger.check_damage()
        except Stop as error:
            self._stop_for(error, "cycle")

    def _stop_for(self, error: Stop, action: str) -> None:
        """End for an error, unless it is transient, such as a full disk: then the next cycle retries."""
        if error.exit_code == ExitCode.TRANSIENT:
            log.error("%s", error, extra={"action": action})
        else:
            self._error = self._error or error
            self._ended.set()

    def _all_keys_rejected(self) -> bool:
        """Whether no source can continue; one with key files can, when they are replaced."""
        return all(source.name in self._rejected_at and not source.key_files for source in self.sources)
