"""Runs the worker through a seed's bad luck: cycles, pauses, deaths, restarts, and a calm end."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from sync_worker.clock import Stopped
from sync_worker.errors import ExitCode, Stop
from sync_worker.langfuse import filters
from sync_worker.ledger import lease, open_ledger
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.settings import Settings, load
from sync_worker.sync import late, parked, window
from sync_worker.sync import plan as planning
from sync_worker.sync import source as sources
from sync_worker.sync.assemble import MAX_HELD_BYTES
from sync_worker.sync.engine import Engine
from sync_worker.sync.opening import Transports
from sync_worker.sync.report import SourceReport
from sync_worker.windows import Window
from tests.simulation import kelet as receiver
from tests.simulation import langfuse as server
from tests.simulation.checks import Checks
from tests.simulation.history import Author
from tests.simulation.moments import DAY, HOUR, MINUTE, SECOND, Loop, Moments, SimulatedClock, Stuck
from tests.simulation.plan import Plan, draw
from tests.simulation.weather import Killed, Weather, connection_of

_MOST_TRIES = 200  # of a backfill, before it counts as stuck
_DONE = (ExitCode.OK, ExitCode.DEAD_LETTERS)
Result = tuple[SourceReport, int]


class Process:
    """The worker in one role: what dies with the machine."""

    def __init__(self, simulation: Simulation, role: str) -> None:
        self.role = role
        plan = simulation.plan
        self.clock = SimulatedClock(simulation.moments, simulation.weather.chance, simulation.weather.alive)
        with mock.patch.object(sqlite3, "connect", simulation.connect):
            self.ledger = open_ledger(simulation.state, self.clock)
            self.ledger.light()  # its commits are subject to the weather too
        self.lease: lease.Lease | None = None
        try:
            self.lease = lease.take(self.ledger, role)
        except BaseException:
            self.ledger.close()
            raise
        simulation.checks.listen(self.ledger, role)
        ways = Transports(simulation.langfuse.transport(), simulation.kelet.transport(role))
        self.engine = Engine(simulation.settings, self.ledger, self.clock, plan.patience, ways)

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

    def __init__(self, seed: int, folder: Path) -> None:
        self.plan: Plan = draw(seed)
        self.moments = Moments(self.plan.begin)
        self.history = Author(self.plan).write()
        self.weather = Weather(self.plan, self.moments)
        self.langfuse = server.Langfuse(self.plan, self.history, self.weather, self.moments)
        self.kelet = receiver.Kelet(self.plan, self.history, self.weather, self.moments)
        self.checks = Checks(self.plan, self.history, self.weather, self.langfuse, self.kelet, self.moments)
        self.chance = random.Random(f"driver {seed}")
        self.folder = folder
        self.state = folder / "state.db"
        self.settings = self._settings()
        self.loop: Loop | None = None
        self.processes: dict[str, Process] = {}
        self.lives = 0
        self.report: SourceReport | None = None
        self._connection = connection_of(self.weather)
        self._connect = sqlite3.connect
        self._filling: asyncio.Task[Result] | None = None
        self._filled = not self.plan.backfill
        self._tries = 0
        self.weather.on_death = lambda: self.checks.died(self.kelet.book.lose())

    def connect(self, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        """Open the state file with a connection that is subject to the weather."""
        return self._connect(*args, **kwargs, factory=self._connection)

    def run(self) -> Sequence[str]:
        """Run it all; return what is wrong."""
        with _scaled(small=self.plan.small):
            try:
                self._all()
            except Stuck as stuck:
                self.checks.wrong.append(str(stuck))
            finally:
                self._shut(dead=self.weather.dead)
        return self.checks.wrong

    def _all(self) -> None:
        if self.plan.backfill == "before":
            while not self._filled and self._tries < _MOST_TRIES:
                self._cycle(None)
                self._pass(self.moments.true_ms() + MINUTE)
        for moment in self.plan.cycles:
            self._pass(moment)
            if self.chance.random() < self.plan.jumps:
                self.moments.skew_ms = self.chance.choice([0, self.chance.randint(-120, 120) * SECOND])
                self.moments.note(f"the machine's clock is wrong by {self.moments.skew_ms} ms")
            self._cycle(LIVE)
        self._calm()

    def _calm(self) -> None:
        self.weather.calm = True
        self.moments.skew_ms = 0
        self.moments.note("CALM")
        last = max(self.history.last_moment, self.moments.true_ms(), self.plan.end)
        last += self.plan.deepest + self.plan.deepest // 12 + self.plan.max_open + 2 * self.plan.quiet_step
        while self.moments.true_ms() < last or (not self._filled and self._tries < _MOST_TRIES):
            self._pass(self.moments.true_ms() // SECOND * SECOND + self.plan.quiet_step)
            self._cycle(LIVE)
        if not self._filled:
            self.checks.wrong.append("the backfill does not come to its end")
        if self.processes.get(LIVE) is None:
            self.checks.wrong.append("the last cycle, in calm weather, ended the worker")
        else:
            self.checks.final(self.processes[LIVE].ledger, self.report)

    # One machine

    def _pass(self, moment: int) -> None:
        """Let time pass between cycles; a backfill goes on meanwhile."""
        if self._filling is not None and self.loop is not None:
            with self._fates():
                self.loop.run_until_complete(_until(self._filling, (moment - self.moments.true_ms()) / 1000))
        self.moments.reach(moment)

    def _cycle(self, role: str | None) -> None:
        """Do a cycle of the live sync, if any, on a machine that is up."""
        with self._fates():
            if self.loop is None:
                self.loop = Loop(self.moments)
                self.lives += 1
            self.loop.run_until_complete(self._work(self.loop, role))

    async def _work(self, loop: Loop, role: str | None) -> None:
        if role == LIVE:
            live = self._process(LIVE)
            await self._fill(wait=False)
            self.moments.note("cycle")
            self.kelet.cycles[LIVE] = self.moments.true_ms()
            if not self.weather.calm and self.chance.random() < self.plan.stops:
                loop.call_later(self.chance.uniform(0, 3), self._stop, live)
            self.report, code = await live.engine.live(live.engine.settings.sources[0])
            self.moments.note(f"cycle done, {code}: {self.report.error or self.report.line()}")
            self.checks.cycle_done(live.ledger)
        else:
            await self._fill(wait=True)

    def _process(self, role: str) -> Process:
        if role not in self.processes:
            self.processes[role] = Process(self, role)
        return self.processes[role]

    def _stop(self, process: Process) -> None:
        self.moments.note("asked to stop")
        process.clock.stop()

    async def _fill(self, *, wait: bool) -> None:
        """Begin the backfill, or go on with it; note when it is done."""
        if self._filling is not None and (wait or self._filling.done()):
            filling, self._filling = self._filling, None
            try:
                report, code = await filling
            finally:
                if not self.weather.dead and BACKFILL in self.processes:
                    self.processes[BACKFILL].end(dead=False)
                    del self.processes[BACKFILL]
            self.moments.note(f"backfill done, {code}: {report.error or report.line()}")
            self._filled = code in _DONE
        if not self._filled and self._filling is None:
            self._tries += 1
            process = self._process(BACKFILL)
            self.checks.backfill_began()
            self.kelet.cycles[BACKFILL] = self.moments.true_ms()
            engine = process.engine
            self._filling = asyncio.get_running_loop().create_task(
                engine.backfill(engine.settings.sources[0], Window(*self.plan.stretch))
            )
            if wait:
                await self._fill(wait=True)

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
            if not self.weather.disk_failed or fault.exit_code != ExitCode.TRANSIENT:
                self.checks.wrong.append(f"the worker gave up: {fault}")
            self.kelet.book.lose()
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
            self._end(dead=dead)
        except Killed:
            self._end(dead=True)

    def _end(self, *, dead: bool) -> None:
        """End the machine. After a death the state file is taken up as it was left, its log not folded in."""
        if dead:
            self._rescue()
        cut_off = self._filling is not None and not self._filling.done()
        self._filling = None
        loop, self.loop = self.loop, None
        if loop is not None:
            with contextlib.suppress(Killed):
                loop.end()
            self.checks.wrong += [f"nobody heard of {fault}" for fault in loop.unheard]
        if cut_off:  # a backfill dies when its machine goes down with the live sync
            self.kelet.book.lose(BACKFILL)
        while self.processes:
            role, process = next(iter(self.processes.items()))
            process.end(dead=dead)
            del self.processes[role]
        if dead:
            self.weather.dead = False

    def _rescue(self) -> None:
        self.folder.joinpath(str(self.lives)).mkdir(exist_ok=True)
        left = self.folder / str(self.lives) / "state.db"
        for ending in ("", "-wal"):
            file = self.state.with_name(self.state.name + ending)
            if file.exists():
                shutil.copyfile(file, left.with_name(left.name + ending))
        self.state = left

    def _settings(self) -> Settings:
        plan = self.plan
        environ = {
            "LANGFUSE_BASE_URL": server.URL, "LANGFUSE_PUBLIC_KEY": "pk-lf-simulated",
            "LANGFUSE_SECRET_KEY": "sk-lf-simulated", "KELET_API_URL": receiver.URL,
            "KELET_API_KEY": "secret-of-the-simulation", "KELET_PROJECT": "simulated",
            "SYNC_STATE_PATH": str(self.state), "SYNC_START": _seconds(plan.look_back),
            "SYNC_SETTLE": _seconds(plan.settle), "SYNC_MAX_OPEN": _seconds(plan.max_open),
            "SYNC_LATE_HORIZONS": ",".join(_seconds(horizon) for horizon in plan.horizons),
            "SYNC_UPDATES": "resend" if plan.resend else "ignore", "SYNC_MAX_BATCH_SPANS": str(plan.batch_spans),
        }  # fmt: skip
        if plan.requests_per_minute is not None:
            environ["SYNC_REQUESTS_PER_MINUTE"] = str(plan.requests_per_minute)
        return load(environ=environ, directory=self.folder)


async def _until(task: asyncio.Task[Result], seconds: float) -> None:
    """Let a task run for so long; its end is looked at later, its death at once."""
    done, _ = await asyncio.wait({task}, timeout=max(0.0, seconds))
    if done and isinstance(task.exception(), Killed):
        raise Killed


@contextlib.contextmanager
def _scaled(*, small: bool) -> Iterator[None]:
    """Scale limits of memory and of requests down to the size of a history, so that they are met."""
    if not small:
        yield
        return
    with contextlib.ExitStack() as stack:
        held = 6_000
        for module, name, value in (
            (late, "MAX_HELD_BYTES", held), (parked, "MAX_HELD_BYTES", held), (sources, "MAX_HELD_BYTES", held),
            (parked, "_AT_ONCE", 3), (planning, "TARGET_ROWS", 12), (sources, "_FORGOTTEN_AT_ONCE", 2),
            (late, "_LEAST_REQUESTS", 3), (late, "_ASSUMED_PER_MINUTE", 8), (filters, "MAX_FILTER_BYTES", 150),
        ):  # fmt: skip
            stack.enter_context(mock.patch.object(module, name, value))
        usual: tuple[Any, ...] = window.WindowSync.__init__.__defaults__ or ()
        scaled = tuple(held if value == MAX_HELD_BYTES else value for value in usual)
        stack.enter_context(mock.patch.object(window.WindowSync.__init__, "__defaults__", scaled))
        yield


def _seconds(length_ms: int) -> str:
    return f"{length_ms // 1000}s"
