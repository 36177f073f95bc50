"""Cycles on a schedule, until the worker is asked to stop. A cycle that fails is followed by the next one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from sync_worker.clock import RunClock, Stopped
from sync_worker.errors import ExitCode, Stop
from sync_worker.ledger import lease as leases
from sync_worker.settings import Source
from sync_worker.sync.engine import Engine
from sync_worker.sync.scheduler import MonotonicScheduler

#: A source whose keys were refused is tried again after so long, in seconds.
_REFUSED_PAUSE = 300.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Worker:
    """The long-running worker: one job a source, so that an outage of one delays no other."""

    engine: Engine
    sources: Sequence[Source]
    clock: RunClock
    lease: leases.Lease
    _refused_at: dict[str, float] = field(default_factory=dict)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _fault: Stop | None = None
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> int:
        """Run until stopped; returns the exit code. Raises Stop when nothing can be done without the operator."""
        self.engine.note_starts(self.sources)
        await self.engine.identities.meet(self.sources)
        interval = self.engine.settings.interval.total_seconds()
        scheduler = MonotonicScheduler(self.clock)
        # One cycle of a source at a time; cycles missed while one ran long, or while the machine slept, become one.
        for source in self.sources:
            scheduler.every(interval, self._cycle, f"source {source.name}", [source], at_once=True)
        scheduler.every(leases.HEARTBEAT, self._heartbeat, "lease", at_once=False)
        logging.getLogger("apscheduler").setLevel(logging.ERROR)  # a cycle longer than its interval is no warning
        scheduler.start()
        try:
            while not self.clock.stopping and not self._ended.is_set():
                stop = asyncio.create_task(self.clock.stopped())
                end = asyncio.create_task(self._ended.wait())
                await asyncio.wait((stop, end), return_when=asyncio.FIRST_COMPLETED)
                stop.cancel()
                end.cancel()
        finally:
            scheduler.pause()
            self.clock.stop()
            if self._running:
                await asyncio.wait(self._running)
            scheduler.shutdown(wait=False)
        if self._fault is not None:
            raise self._fault
        return ExitCode.CREDENTIALS if self._all_refused() else ExitCode.OK

    async def _cycle(self, source: Source) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._running.add(task)
        try:
            await self._guarded(source)
        finally:
            if task is not None:
                self._running.discard(task)

    async def _guarded(self, source: Source) -> None:
        refused = self._refused_at.get(source.name)
        waits = refused is not None and self.clock.monotonic() - refused < _REFUSED_PAUSE
        if self.clock.stopping or (waits and not self.engine.keys_changed(source)):
            return
        started = self.clock.monotonic()
        try:
            report, code = await self.engine.live(source)
        except Stopped:
            return
        except Stop as fault:
            self._stop_for(fault, "cycle")
            return
        except Exception:
            log.exception("the cycle of %s failed", source.name, extra={"action": "cycle", "source": source.name})
            self._end_if_damaged()
            return
        if code == ExitCode.CREDENTIALS:
            self._note_refusal(source)
        else:
            self._refused_at.pop(source.name, None)
        if report.spans_sent or report.dead_letters or report.error:
            log.info("%s", report.line(), extra={"action": "cycle", "source": source.name})
        else:
            log.debug("%s", report.line(), extra={"action": "cycle", "source": source.name})
        began_ms = self.engine.ledger.clock.now_ms() - round((self.clock.monotonic() - started) * 1000)
        try:
            self.engine.ledger.store_run("run", began_ms, code, {"sources": [report.as_json()]})
        except Stop as fault:
            self._stop_for(fault, "cycle")

    def _note_refusal(self, source: Source) -> None:
        if source.key_files and source.name not in self._refused_at:
            log.warning(
                "%s: goes on when a file holds another key; the files are looked at each cycle",
                source.name, extra={"action": "keys", "source": source.name},
            )  # fmt: skip
        self._refused_at[source.name] = self.clock.monotonic()
        if self._all_refused():
            self._ended.set()

    async def _heartbeat(self) -> None:
        try:
            leases.heartbeat(self.engine.ledger, self.lease)
        except Stop as fault:
            self._stop_for(fault, "lease")

    def _end_if_damaged(self) -> None:
        """End where a cycle broke over what stands in the state file: each one to come would."""
        try:
            self.engine.ledger.check_damage()
        except Stop as fault:
            self._stop_for(fault, "cycle")

    def _stop_for(self, fault: Stop, action: str) -> None:
        """End for a fault, unless it may pass, such as a full disk: then the next cycle tries again."""
        if fault.exit_code == ExitCode.TRANSIENT:
            log.error("%s", fault, extra={"action": action})
        else:
            self._fault = self._fault or fault
            self._ended.set()

    def _all_refused(self) -> bool:
        """Whether no source is left that may go on; one whose keys stand in files may, when they are replaced."""
        return all(source.name in self._refused_at and not source.key_files for source in self.sources)
