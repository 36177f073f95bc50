"""Whether a row costs the same when the state file, the look back or the backlog is ten times as large."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.machine import ClientFailed
from bench.programs import Worker, live
from bench.report import Report
from bench.servers import Reported, Servers, servers
from bench.shape import HOUR_MS, Shape, recent

_TIMES = 10
_GOAL = 1.3  # times the cost of a row
_GOAL_START = 0.7  # seconds
_LATER = 4 * 3600 + 300.0  # seconds: the deepest look at late rows is due again
_MORE_HOURS = 5  # of rows that are brought over on top of a state file


@dataclass(frozen=True, slots=True)
class Cost:
    """What the measured part took."""

    rows: int  # that were there before, were looked at, or waited
    each: float  # CPU in milliseconds for a row
    requests: int
    first: float | None = None  # seconds from the start to the first request, where a program was started


def growth(scale: float, folder: Path) -> Report:
    """Measure each at one size and at ten times that."""
    columns = ("what grows", "rows", "CPU ms/row", "Langfuse requests", "seconds to the first request")
    report = Report("growth", {"scale": scale}, columns)
    series: tuple[tuple[str, Callable[[int, float, Path], Cost]], ...] = (
        ("state file: rows sent before", _ledger),
        ("look back: rows listed again", _look_back),
        ("backlog: rows in one run of once", _backlog),
    )
    for name, measure in series:
        costs: list[Cost] = []
        for times in (1, _TIMES):
            room = folder / f"{measure.__name__} {times}"
            room.mkdir()
            cost = measure(times, scale, room)
            costs.append(cost)
            report.rows.append((name, cost.rows, cost.each, cost.requests, "" if cost.first is None else cost.first))
        report.at_most(f"{name}, cost of a row when {_TIMES} times as many", costs[1].each / costs[0].each, _GOAL)
        if costs[1].first is not None:
            report.at_most(f"{name}, seconds to the first request", costs[1].first, _GOAL_START)
    return report


def _ledger(times: int, scale: float, room: Path) -> Cost:
    """Bring over the same number of rows on top of few or many that were sent in the last two days."""
    block_rows = int(2_000 * scale)
    before = 4 * times
    shape = _hours(before + _MORE_HOURS, block_rows)
    with servers(shape) as both:
        worker = Worker(both, room)
        here = shape.start_of(before)
        worker.backfill(shape.first_ms, here)
        _arrived(both, before * block_rows)
        used = worker.backfill(here, shape.end_ms)
        reported = _arrived(both, _MORE_HOURS * block_rows)
    first = None if reported.first is None else reported.first - used.started
    return Cost(before * block_rows, _each(used.cpu, _MORE_HOURS * block_rows), reported.listings, first)


def _look_back(times: int, scale: float, room: Path) -> Cost:
    """Look at a day of rows again, as each of the deepest looks at late rows does."""
    shape = _hours(24, int(400 * scale * times))
    with servers(shape) as both:
        worker = Worker(both, room)
        worker.once()
        _arrived(both, shape.rows)
        (cycle,) = live(worker, [_LATER])
        reported = _arrived(both, 0)
        listed = int(cycle["observations_read"])
        if cycle["code"] or listed < shape.rows:
            raise ClientFailed(f"the look at late rows listed {listed} of {shape.rows}")
    return Cost(listed, _each(cycle["cpu"], listed), reported.listings)


def _backlog(times: int, scale: float, room: Path) -> Cost:
    """Bring over so many rows in one run of `once`."""
    shape = _hours(10 * times, int(500 * scale))
    with servers(shape) as both:
        used = Worker(both, room).once()
        reported = _arrived(both, shape.rows)
    return Cost(shape.rows, _each(used.cpu, shape.rows), reported.listings)


def _hours(count: int, block_rows: int) -> Shape:
    return recent(count * block_rows, block_rows=block_rows, period_ms=HOUR_MS)


def _arrived(both: Servers, rows: int) -> Reported:
    reported = both.reported()
    if not reported.exactly_once(rows):
        raise ClientFailed(f"not every row arrived exactly once: {reported.kelet} of {rows}")
    return reported


def _each(cpu: float, rows: int) -> float:
    return cpu / rows * 1_000
