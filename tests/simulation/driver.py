"""Runs the worker through a seed's bad luck: cycles, pauses, deaths, restarts, and a calm end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import shutil
import sqlite3
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from sync_worker.clock import Stopped
from sync_worker.errors import ExitCode, StateError, Stop
from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger, copies, lease, open_ledger
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.ledger.pauses import Pause, active_pauses, delete_pauses, store_pauses
from sync_worker.pipeline.limits import Limits
from sync_worker.pipeline.report import SourceReport
from sync_worker.runs.estimate import estimate
from sync_worker.runs.progress import Progress
from sync_worker.runs.verify import Verdict, verify
from sync_worker.settings import Settings, Source, load
from sync_worker.sync.engine import Engine
from sync_worker.sync.opening import Transports
from sync_worker.sync.schedule import REJECTED_KEYS_PAUSE, Worker
from sync_worker.sync.source_sync import SourceSync
from tests.simulation import kelet as receiver
from tests.simulation import langfuse as server
from tests.simulation.checks import Checks
from tests.simulation.history import FILTERS, REDACTION, Author, RowStory
from tests.simulation.keys import Keys
from tests.simulation.moments import DAY, HOUR, MINUTE, SECOND, Loop, Moments, SimulatedClock, Stuck
from tests.simulation.plan import Plan, draw
from tests.simulation.scores import last_change, write_scores
from tests.simulation.signals import SignalChecks
from tests.simulation.weather import Killed, Weather, connection_of

_MOST_TRIES = 200  # of a backfill, before it counts as stuck
_DONE = (ExitCode.OK, ExitCode.DEAD_LETTERS)
#: The role of a process that holds no lease.
ASKING = "asking"
#: How much longer than planned all may take where the spans of a day are limited.
_LONGEST_LIMITED = 60 * DAY
#: A cycle takes no longer, in calm weather and where no more goes wrong than that a limit is reached.
_LONGEST_CYCLE = 2 * HOUR
Result = tuple[list[SourceReport], int]


class _Found(Exception):
    """What was waited for is found."""


class _WatchedEngine(Engine):
    """An engine whose live cycles on a schedule are watched."""

    watch: Callable[[Callable[[], Awaitable[Result]]], Awaitable[Result]] | None = None

    async def live(self, source: Source, progress: Progress | None = None) -> tuple[SourceReport, int]:
        """Run one live cycle of a source."""

        async def cycle() -> Result:
            report, code = await Engine.live(self, source, progress)
            return [report], code

        if self.watch is None:
            return await Engine.live(self, source, progress)
        (report,), code = await self.watch(cycle)
        return report, code


class Process:
    """The worker in one role: what dies with the machine."""

    def __init__(self, simulation: Simulation, role: str, clock: SimulatedClock | None = None) -> None:
        self.role = role
        plan = simulation.plan
        self.clock = clock or SimulatedClock(simulation.moments, simulation.weather.chance, simulation.weather.alive)
        with mock.patch.object(sqlite3, "connect", simulation.connect):
            self.ledger = open_ledger(simulation.state, self.clock)
            self.ledger.unflushed()  # its commits are subject to the weather too
        self.lease: lease.Lease | None = None
        try:
            if role != ASKING:
                self.lease = lease.take(self.ledger, role)
                copies.check_latest(self.ledger)
                copies.adopt(self.ledger)
        except BaseException:
            if self.lease is not None:
                self.lease.lock.close()
            self.ledger.close()
            raise
        simulation.checks.listen(self.ledger, role, simulation.daily_limit)
        simulation.signals.listen(self.ledger, role)
        ways = Transports(simulation.langfuse.transport(), simulation.kelet.transport(role))
        limits = _SMALL if plan.small else Limits()
        patience = None if role == LIVE and plan.has("run") else plan.patience
        self.engine = _WatchedEngine(simulation.settings, self.ledger, self.clock, patience, ways, limits=limits)
        if role == LIVE and plan.has("run"):
            self.engine.watch = simulation.watch
        self.worker: asyncio.Task[int] | None = None

    def end(self, *, dead: bool) -> None:
        """Close the state file, by the book or as it happens."""
        if self.lease is not None and dead:
            self.lease.lock.close()
        elif self.lease is not None:
            lease.release(self.ledger, self.lease)
        with contextlib.suppress(sqlite3.Error):
            self.ledger.close()


class Simulation:
    """One seed, from the first cycle to the verdict. `checks.wrong` tells what went wrong."""

    def __init__(self, seed: int, folder: Path, worlds: frozenset[str] | None = None, until: str | None = None) -> None:
        self._ends_at = until
        self.plan: Plan = draw(seed, worlds)
        self.moments = Moments(self.plan.begin)
        self.author = Author(self.plan)
        self.history = self.author.write()
        self.scores = write_scores(self.plan, self.history) if self.plan.has("scores") else []
        self.weather = Weather(self.plan, self.moments)
        self.keys = Keys(self.plan, folder, self.moments)
        self.langfuse = server.Langfuse(self.plan, self.history, self.weather, self.keys, self.moments, self.scores)
        self.kelet = receiver.Kelet(self.plan, self.history, self.weather, self.keys, self.moments)
        self.checks = Checks(self.plan, self.history, self.weather, self.langfuse, self.kelet, self.moments)
        self.signals = SignalChecks(self.plan, self.scores, self.weather, self.kelet, self.moments)
        self.chance = random.Random(f"driver {seed}")
        #: Spans of a day, of each source.
        self.daily_limit = (
            max(2, len(self.history.rows) // (self.plan.sources * self.plan.days)) if self.plan.days else 0
        )
        self.folder = folder
        self.state = folder / "state.db"
        self.settings = self._settings()
        self.loop: Loop | None = None
        self.processes: dict[str, Process] = {}
        self.lives = 0
        self.reports: list[SourceReport] = []
        self._connection = connection_of(self.weather)
        self._connect = sqlite3.connect
        self._filling: asyncio.Task[Result] | None = None
        self._filled = not self.plan.backfill
        self._tries = 0
        self._may_fill = True
        self._gone = False  # the state file is taken away in this cycle
        self._dying: asyncio.Event | None = None
        self._cycle_ended: int | None = None  # when the last cycle of this worker's life ended
        self.weather.on_death = self._die

    def _die(self) -> None:
        self.checks.died(self.kelet.book.lose())
        self.signals.died(len(self.processes))
        if self._dying is not None:
            self._dying.set()

    def connect(self, database: Any, **kwargs: Any) -> sqlite3.Connection:
        """Open the state file with a connection that is subject to the weather; what is in memory alone is not."""
        factory = sqlite3.Connection if database == ":memory:" else self._connection
        return self._connect(database, **kwargs, factory=factory)

    def run(self) -> Sequence[str]:
        """Run it all; return what is wrong."""
        try:
            self._all()
        except Stuck as stuck:
            self.checks.wrong.append(str(stuck))
        except _Found:
            pass
        finally:
            self._shut(dead=self.weather.dead)
        return self.checks.wrong

    def _all(self) -> None:
        if self.plan.backfill == "before":
            while not self._filled and self._tries < _MOST_TRIES:
                self._cycle(None)
                self._pass(self.moments.true_ms() + MINUTE)
        for number, moment in enumerate(self.plan.cycles):
            self._pass(moment)
            self._jump()
            self._backups(number)
            self._pause(number)
            self._may_fill = self.plan.backfill != "now" or number >= self.plan.first_fill
            self._gone = number in self.plan.gone
            self._cycle(LIVE)
            if number in self.plan.estimates:
                self._cycle(ASKING)
        self._calm()

    def _jump(self) -> None:
        """Let clocks go wrong, or right again."""
        for process in self.processes.values():
            if self.plan.has("clocks") and self.chance.random() < 0.3:
                process.clock.jump(self.chance, far=True)
            elif self.chance.random() < self.plan.jumps:
                process.clock.jump(self.chance, far=False)

    def _pause(self, number: int) -> None:
        """Have an operator pause everything, or end that; in calm weather, as a command that is typed again is."""
        for first, last, by_project, by_itself in self.plan.pauses:
            if number == first:
                until = self.plan.cycles[last] if by_itself else None
                pause = Pause(None, "simulated" if by_project else None, self.moments.true_ms(), until)
                if self._operate(functools.partial(store_pauses, pauses=[pause])):
                    self.checks.paused = pause
            elif number == last:
                self._resume(by_itself=by_itself)

    def _resume(self, *, by_itself: bool) -> None:
        self.checks.paused = None
        if not by_itself:
            self._operate(lambda ledger: delete_pauses(ledger, active_pauses(ledger)))

    def _operate(self, command: Callable[[Ledger], None]) -> bool:
        """Run a command on the state file, if there is one, beside whatever runs."""
        if not self.state.exists() or _size_of(self.state) == 0:
            return False
        ledger = open_ledger(self.state, SimulatedClock(self.moments, self.weather.chance, lambda: None))
        try:
            command(ledger)
        finally:
            ledger.close()
        return True

    def _calm(self) -> None:
        self.weather.calm = True
        self.moments.note("CALM")
        # What backs up while a day has no spans left takes as many days, and what changes is sent again.
        limited_until = self.moments.true_ms() + (2 * self.plan.days + 2) * DAY if self.daily_limit else 0
        last = max(self.history.last_moment, self.moments.true_ms(), self.plan.end, limited_until)
        last += self.plan.deepest + self.plan.deepest // 12 + self.plan.max_open + 2 * self.plan.quiet_step
        latest = last + _LONGEST_LIMITED
        if self.scores:
            deepest = max(self.plan.score_horizons)
            last = max(last, last_change(self.scores)) + deepest // 12 + 2 * self.plan.quiet_step + 2 * HOUR
        while self.moments.true_ms() < last or (not self._filled and self._tries < _MOST_TRIES):
            if self.daily_limit and self.moments.true_ms() > latest:
                break
            for process in self.processes.values():
                process.clock.set_right()
            self._pass(self.moments.true_ms() // SECOND * SECOND + self._calm_step(limited_until))
            self._cycle(LIVE)
        if self.plan.has("run"):  # what follows asks beside no cycle
            self._shut(dead=False)
            self._cycle(None, fill=False)
        # A span at which Kelet fails is proven by others; a backfill that has none left ends with 1 each time.
        if not self._filled and not (self.history.stuck or self.kelet.book.blocked):
            self.checks.wrong.append("the backfill does not come to its end")
        if self.processes.get(LIVE) is None:
            self.checks.wrong.append("the last cycle, in calm weather, ended the worker")
        else:
            self.checks.final(self.processes[LIVE].ledger, self.reports)
            self.checks.wrong += self.signals.final(self.processes[LIVE].ledger)
            if not self.checks.wrong:
                self._verify()

    def _calm_step(self, limited_until: int) -> int:
        """Return the time to the next cycle: until a time they are seldom, and on a day without spans left more so."""
        if self.moments.true_ms() >= limited_until:
            return self.plan.quiet_step
        is_busy = any(report.spans_sent and not report.error for report in self.reports)
        return max(self.plan.quiet_step, HOUR if is_busy else 6 * HOUR)

    def _verify(self) -> None:
        """Ask `verify`, which finds nothing; and once more when something has come late."""
        with self._fates():
            assert self.loop is not None
            missing: list[RowStory] = []
            for _ in range(1 if self.plan.has("v1") or self.history.stuck else 2):
                found = self.loop.run_until_complete(_verdicts(self.processes[LIVE].engine))
                self.checks.verified(found, missing)
                now = self.moments.true_ms()
                missing = [self.author.come_late(now - self.plan.deepest // 2, now)]

    def _backups(self, number: int) -> None:
        """Make a backup of the state file, or put one back that is old by now."""
        for backed_up, restored in self.plan.restores:
            backup = self.folder / f"backup-{backed_up}"
            if number == backed_up and self.state.exists():
                self._shut(dead=False)
                if self.state.exists():  # it may be taken away at the last moment
                    backup.mkdir()
                    shutil.copy(self.state, backup)
            elif number == restored and backup.exists():
                self._shut(dead=False)
                self._restore(backup / self.state.name)

    def _restore(self, backup: Path) -> None:
        """Put an old state file into the place of the newest one, where the worker notices; then undo it."""
        before = self.state.with_name("newest.db")
        if self.state.name != backup.name or not backup.exists() or _size_of(self.state) == 0:
            return
        with sqlite3.connect(backup) as old, sqlite3.connect(self.state) as now:
            is_same = _written(old) == _written(now)
            is_empty = not _written(old)
        old.close()
        now.close()
        if is_empty:
            return  # nothing tells it from one that somebody made anew
        self.state.rename(before)
        shutil.copy(backup, self.state)
        self.moments.note("an old state file is put back")
        calm, self.weather.calm = self.weather.calm, True
        try:
            Process(self, LIVE).end(dead=False)
            if not is_same:
                self.checks.wrong.append("an old state file was taken for the newest")
        except StateError as fault:
            self.moments.note(f"the worker says: {fault}")
        finally:
            self.weather.calm = calm
        before.rename(self.state)

    # One machine

    def _pass(self, moment: int) -> None:
        """Let time pass between cycles; a backfill goes on meanwhile."""
        tasks: set[asyncio.Task[Any]] = {task for task in (self._filling, self._worker) if task is not None}
        if tasks and self.loop is not None:
            with self._fates():
                self.loop.run_until_complete(self._until(tasks, (moment - self.moments.true_ms()) / 1000))
        self.moments.reach(moment)

    @property
    def _worker(self) -> asyncio.Task[int] | None:
        live = self.processes.get(LIVE)
        return None if live is None else live.worker

    async def _until(self, tasks: set[asyncio.Task[Any]], seconds: float) -> None:
        """Let tasks run for so long, or until the worker ends; how a backfill ended is looked at later."""
        assert self._dying is not None
        end = self.moments.seconds + seconds
        dying = asyncio.ensure_future(self._dying.wait())
        waiting = {*tasks, dying}
        while self.moments.seconds < end and waiting != {dying}:
            done, waiting = await asyncio.wait(
                waiting, timeout=end - self.moments.seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if self.weather.dead or any(isinstance(task.exception(), Killed) for task in done):
                raise Killed
            if self._worker in done:
                code = self._worker.result()
                if not self.processes[LIVE].clock.stopping or code != ExitCode.OK:
                    self.checks.wrong.append(f"the worker ended by itself, with {code}")
                raise Stopped
        dying.cancel()

    def _cycle(self, role: str | None, *, fill: bool = True) -> None:
        """Do a cycle of the live sync, if any, on a machine that is up."""
        with self._fates():
            if self.loop is None:
                self.loop = Loop(self.moments)
                self._dying = asyncio.Event()
                self.lives += 1
            self.loop.run_until_complete(self._work(self.loop, role) if fill else self._open())
        if self._ends_at is not None and any(self._ends_at in finding for finding in self.checks.wrong):
            raise _Found

    async def _open(self) -> None:
        self._process(LIVE)

    async def _work(self, loop: Loop, role: str | None) -> None:
        if role == LIVE:
            live = self._process(LIVE)
            await self._fill(wait=False)
            if self.plan.has("run"):
                if live.worker is None:
                    assert live.lease is not None
                    self.moments.note("the worker starts")
                    self._cycle_ended = None
                    worker = Worker(live.engine, live.engine.settings.sources, live.clock, live.lease)
                    live.worker = loop.create_task(worker.run())
                await self._until({live.worker}, self.chance.uniform(0, 2 * self.plan.interval_seconds))
            else:
                await self.watch(functools.partial(live.engine.each, live.engine.settings.sources, live.engine.live))
        elif role == ASKING:
            await self._estimate()
        else:
            await self._fill(wait=True)

    async def watch(self, cycle: Callable[[], Awaitable[Result]]) -> Result:
        """Let a cycle of the live sync happen, and look at it."""
        self.moments.note("cycle")
        began = self.kelet.cycles[LIVE] = self.moments.true_ms()
        self._check_pause(began)
        self._upset(asyncio.get_running_loop(), self.processes[LIVE])
        try:
            self.reports, code = await cycle()
        finally:
            self._cycle_ended = self.moments.true_ms()
        for report in self.reports:
            self.moments.note(f"cycle done, {code}: {report.error or report.line()}")
        self.checks.cycle_done()
        if self.daily_limit:
            self.checks.day_is_used(self.processes[LIVE].ledger, self.reports, self.daily_limit)
        took = self.moments.true_ms() - began
        if took > _LONGEST_CYCLE and (self.weather.calm or self.plan.rate_limit is not None):
            self.checks.wrong.append(f"a cycle took {took} ms")
        return self.reports, code

    def _check_pause(self, began: int) -> None:
        """Check that a long-running worker does not pause for longer than its interval, or than for rejected keys."""
        longest = (self.plan.interval_seconds + REJECTED_KEYS_PAUSE) * SECOND
        if self._worker is not None and self._cycle_ended is not None and began - self._cycle_ended > longest:
            self.checks.wrong.append(f"the worker did nothing for {began - self._cycle_ended} ms")

    def _upset(self, loop: asyncio.AbstractEventLoop, live: Process) -> None:
        """Plan what happens to a cycle from outside: a stop, a clock, a state file taken away."""
        if self.weather.calm:
            return
        if self.chance.random() < self.plan.stops:
            loop.call_later(self.chance.uniform(0, 3), self._stop, live)
        if self.plan.has("clocks") and self.chance.random() < 0.15:
            loop.call_later(self.chance.uniform(0, 3), functools.partial(live.clock.jump, self.chance, far=True))
        if self._gone:
            loop.call_later(self.chance.uniform(0, 2), self._take_state)

    def _take_state(self) -> None:
        """Take the state file away under the worker, as a cleaning job does."""
        if self.state.exists() and not self.weather.dead:
            self.moments.note("the state file is taken away")
            self.state.rename(self.state.with_name("taken.db"))

    async def _estimate(self) -> None:
        """Ask beside the others what a backfill would cost."""
        process = self._process(ASKING)

        async def look(sync: SourceSync) -> None:
            start = self.plan.interval[0]
            await estimate(sync, Interval(start - 40 * DAY, start))

        try:
            engine = process.engine
            _, code = await engine.each(engine.settings.sources, lambda source: engine.work(source, look))
            self.moments.note(f"estimated, {code}")
        finally:
            if not self.weather.dead:
                process.end(dead=False)
                del self.processes[ASKING]

    def _process(self, role: str) -> Process:
        if role not in self.processes:
            self.processes[role] = Process(self, role)
        return self.processes[role]

    def _stop(self, process: Process) -> None:
        self.moments.note("asked to stop")
        process.clock.stop()

    async def _fill(self, *, wait: bool) -> None:
        """Begin the backfill, or go on with it; note when it is done."""
        if not self._may_fill:
            return
        if self._filling is not None and (wait or self._filling.done()):
            filling, self._filling = self._filling, None
            try:
                reports, code = await filling
            finally:
                if not self.weather.dead and BACKFILL in self.processes:
                    self.processes[BACKFILL].end(dead=False)
                    del self.processes[BACKFILL]
            for report in reports:
                self.moments.note(f"backfill done, {code}: {report.error or report.line()}")
            self._filled = code in _DONE
            self._tries -= code == ExitCode.PAUSED and self.daily_limit > 0  # which goes on the next day
            if wait:
                return
        if not self._filled and self._filling is None:
            self._tries += 1
            process = self._process(BACKFILL)
            self.checks.backfill_began()
            self.kelet.cycles[BACKFILL] = self.moments.true_ms()
            engine = process.engine
            self._filling = asyncio.get_running_loop().create_task(
                engine.each(engine.settings.sources, lambda source: self._backfill(engine, source))
            )
            if wait:
                await self._fill(wait=True)

    async def _backfill(self, engine: Engine, source: Source) -> tuple[SourceReport, int]:
        """Run the backfill; in some seeds its scores are asked for alone before, when their traces are not there."""
        interval = Interval(*self.plan.interval)
        if self.plan.has("scores") and self.plan.seed % 2:
            await engine.backfill(source, interval, scores="only")
        return await engine.backfill(source, interval)

    @contextlib.contextmanager
    def _fates(self) -> Iterator[None]:
        """Let a machine run, and see how that ends."""
        try:
            yield
            if self.weather.dead:
                self.checks.wrong.append("the worker lived on after its death")
                raise Killed
        except Killed:
            self._shut(dead=True)
            away = self.chance.choice([5 * SECOND, MINUTE, MINUTE, 10 * MINUTE, HOUR])
            if self.chance.random() < 0.03:
                away = min(3 * DAY, 2 * self.plan.deepest)
            self.moments.reach(self.moments.true_ms() // SECOND * SECOND + away)
        except Stopped:
            self.moments.note("stopped")
            self._shut(dead=False)
        except Stop as fault:
            self.moments.note(f"ended: {fault}")
            taken = self.state.with_name("taken.db")
            if taken.exists() and fault.exit_code == ExitCode.USAGE:
                self.kelet.book.lose()
                self.kelet.signals.lose()
                self._shut(dead=True)
                return
            if not self.weather.disk_failed or fault.exit_code != ExitCode.TRANSIENT:
                self.checks.wrong.append(f"the worker gave up: {fault}")
            self.kelet.book.lose()
            self.kelet.signals.lose()
            if self.chance.random() < 0.5:
                self._shut(dead=False)
        except Stuck:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, it is a finding
            self.checks.wrong.append(f"the worker broke: {traceback.format_exc(limit=-3)}")
            self._shut(dead=False)

    def _shut(self, *, dead: bool) -> None:
        """End the machine, which may die over it."""
        try:
            if not dead:
                self._end_worker()
            self._end(dead=dead)
        except Killed:
            self._end(dead=True)

    def _end_worker(self) -> None:
        """Ask a long-running worker to stop, and wait until it has."""
        worker = self._worker
        if worker is not None and not worker.done() and self.loop is not None:
            self.processes[LIVE].clock.stop()
            with contextlib.suppress(Stopped, Stop):
                self.loop.run_until_complete(self._until({worker}, _LONGEST_CYCLE / 1000))

    def _end(self, *, dead: bool) -> None:
        """End the machine. After a death the state file is taken up as it was left, its log not folded in."""
        left = self._left() if dead else None
        cut_off = self._filling is not None and not self._filling.done()
        self._filling = None
        loop, self.loop = self.loop, None
        if loop is not None:
            with contextlib.suppress(Killed):
                loop.end()
            self.checks.wrong += [f"nobody heard of {fault}" for fault in loop.unheard]
        if cut_off:  # a backfill dies when its machine goes down with the live sync
            self.kelet.book.lose(BACKFILL)
            self.kelet.signals.lose(BACKFILL)
        while self.processes:
            role, process = next(iter(self.processes.items()))
            process.end(dead=dead)
            del self.processes[role]
        if left is not None:
            _put_back(left)
            self.weather.dead = False

    def _left(self) -> dict[Path, bytes | None]:
        """Return what a dead machine leaves on its disk: the state file, its log, the note beside it."""
        taken = self.state.with_name("taken.db")
        if taken.exists():
            taken.rename(self.state)
        name = self.state.name
        files = [self.state.with_name(other) for other in (name, f"{name}-wal", f"{name}-shm", f".{name}.owner")]
        kept = {file: file.read_bytes() if file.exists() else None for file in files}
        return kept | {self.state.with_name(f"{name}-shm"): None}

    def _settings(self) -> Settings:
        plan = self.plan
        environ = {
            "LANGFUSE_BASE_URL": server.URL, "KELET_API_URL": receiver.URL, "KELET_PROJECT": "simulated",
            "KELET_API_KEY_FILE": str(self.keys.file("kelet")),
            "SYNC_STATE_PATH": str(self.state), "SYNC_START": _seconds(plan.look_back),
            "SYNC_SETTLE": _seconds(plan.settle), "SYNC_MAX_OPEN": _seconds(plan.max_open),
            "SYNC_LATE_HORIZONS": ",".join(_seconds(horizon) for horizon in plan.horizons),
            "SYNC_INTERVAL": f"{plan.interval_seconds}s",
            "SYNC_SCORES": "true" if plan.has("scores") else "false",
            "SYNC_SCORE_HORIZONS": ",".join(_seconds(horizon) for horizon in plan.score_horizons),
            "SYNC_UPDATES": "resend" if plan.resend else "ignore", "SYNC_MAX_BATCH_SPANS": str(plan.batch_spans),
        }  # fmt: skip
        if plan.has("filters"):
            environ |= FILTERS
        if plan.has("redaction"):
            environ |= REDACTION
        if self.daily_limit:
            environ["SYNC_MAX_SPANS_PER_DAY"] = str(self.daily_limit)
        if plan.requests_per_minute is not None:
            environ["SYNC_REQUESTS_PER_MINUTE"] = str(plan.requests_per_minute)
        if plan.sources == 1:
            environ["LANGFUSE_PUBLIC_KEY"] = "pk-lf-simulated-0"
            environ["LANGFUSE_SECRET_KEY_FILE"] = str(self.keys.file("langfuse-0"))
        else:
            lines = [
                f'[[sources]]\nname = "source-{number}"\nlangfuse_public_key = "pk-lf-simulated-{number}"\n'
                f'langfuse_secret_key_file = "{self.keys.file(f"langfuse-{number}")}"\n'
                for number in range(plan.sources)
            ]
            self.folder.joinpath("sync.toml").write_text("\n".join(lines))
        return load(environ=environ, directory=self.folder)


def _put_back(left: Mapping[Path, bytes | None]) -> None:
    """Let files hold what they held, and be the same files."""
    for file, content in left.items():
        if content is None:
            file.unlink(missing_ok=True)
        else:
            with file.open("r+b" if file.exists() else "wb") as opened:
                opened.truncate()
                opened.write(content)


async def _verdicts(engine: Engine) -> dict[str, Verdict]:
    """Return what `verify` finds, by source."""
    found: dict[str, Verdict] = {}

    async def look(sync: SourceSync) -> None:
        found[sync.source.name] = await verify(sync, None, repair=False)

    await engine.each(engine.settings.sources, lambda source: engine.work(source, look))
    return found


def _size_of(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _written(state: sqlite3.Connection) -> list[Any]:
    """Return what tells how far a state file is: what was sent, and when the last run ended."""
    tables = {name for (name,) in state.execute("SELECT name FROM sqlite_master")}
    if "state_keys" not in tables or not state.execute("SELECT 1 FROM state_keys WHERE scope = 'file'").fetchall():
        return []
    return state.execute("SELECT count(*), max(sent_ms) FROM sent").fetchall()


#: Limits of memory and of requests scaled down to the size of a history, so that they are met.
_SMALL = Limits(
    held_bytes=6_000, interval_observations=12, pending_traces=3, forgotten_traces=2, lookback_requests=3,
    assumed_per_minute=8, filter_bytes=150,
)  # fmt: skip


def _seconds(length_ms: int) -> str:
    return f"{length_ms // 1000}s"
