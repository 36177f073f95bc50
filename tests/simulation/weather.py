"""What goes wrong and when: faults by chance, spells of them, full disks and deaths."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable

from tests.simulation.moments import Moments
from tests.simulation.plan import Plan


class Killed(BaseException):
    """The machine stops dead. Nothing in the worker may catch it."""


class Weather:
    """Says at each request and commit what goes wrong; nothing does once it is calm."""

    def __init__(self, plan: Plan, moments: Moments) -> None:
        self._plan = plan
        self._moments = moments
        self.chance = random.Random(f"weather {plan.seed}")
        self.calm = False
        self.dead = False
        self.disk_failed = 0  # how often a commit failed
        self.on_death: Callable[[], None] = lambda: None

    def hits(self, kind: str) -> bool:
        """Whether something goes wrong now."""
        rate = self._plan.rates.get(kind, 0.0)
        return bool(rate) and not self.calm and self.chance.random() < rate

    def spell(self, kind: str) -> bool:
        """Whether something is wrong for a while."""
        return not self.calm and self._plan.holds(kind, self._moments.true_ms())

    def alive(self) -> None:
        """Raise Killed in what a dead process still tries to do."""
        if self.dead:
            raise Killed

    def point(self, where: str) -> None:
        """Pass a point at which the machine may die."""
        self.alive()
        if not self.calm and self._plan.deaths and self.chance.random() * 100 < self._plan.deaths:
            self.dead = True
            self._moments.note(f"DEATH {where}")
            self.on_death()
            raise Killed

    def committing(self) -> None:
        """Pass the point before a commit: the machine may die, or its disk be full."""
        self.point("before a commit")
        if self.spell("disk full"):
            self.disk_failed += 1
            self._moments.note("disk full")
            fault = sqlite3.OperationalError("database or disk is full")
            fault.sqlite_errorname = "SQLITE_FULL"
            raise fault


def connection_of(weather: Weather) -> type[sqlite3.Connection]:
    """Return a connection whose commits are subject to the weather."""

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, parameters: object = (), /) -> sqlite3.Cursor:
            word = sql.lstrip()[:8].upper()
            if not word.startswith("ROLLBACK"):
                weather.alive()
            if not word.startswith("COMMIT"):
                return super().execute(sql, parameters)  # type: ignore[arg-type]
            weather.committing()
            cursor = super().execute(sql)
            weather.point("after a commit")
            return cursor

    return Connection
