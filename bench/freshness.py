"""How long after its end a trace is acknowledged at Kelet while `run` syncs a steady flow, and what idling costs.

A trace has ended when its last observation, but for late ones, is listed. From then on it waits for its quiet period,
then for the next cycle, and the rest is work: of that cycle, and of later ones where a trace is sent by one of these.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any

from bench.flow import Comes, Flow
from bench.machine import ClientFailed, cores, cpu_of
from bench.outstanding import SCAN_EVERY_MS, Reason, progress, reasons
from bench.programs import Worker, live
from bench.report import Report, Table, middle
from bench.servers import Servers, servers
from bench.shape import HOUR_MS, iso, recent

_QUIET_MS = 30_000  # the default of SYNC_SETTLE
_GOAL_WORK = (1.0, 3.0)  # seconds: median, 99th percentile
_GOAL_IDLE = 0.3  # % of a core
_LEAD_MS = 12_000  # until the flow begins: the servers and the worker are up by then
_PROGRESS_EVERY = 15.0  # seconds
_LATER = [120.0 * number for number in range(1, 13)]  # seconds from the end of `run` to cycles that bring the rest
_IDLE_ROWS = 6_000
#: What the kinds of listings, as the server counts them, are for.
_PURPOSES = {
    "pages": "intervals",
    "roots": "pending traces: their roots",
    "traces": "pending traces, whole",
    "light pages": "lookback scans",
    "ended lately": "lookback scans: what ended lately",
    "rows by id": "late observations and second reads, by id",
    "second reads": "second reads, as intervals",
    "light rows by id": "observations that may be unmerged",
}
_BETWEEN = 30.0  # seconds that a worker is watched between two cycles


@dataclass(frozen=True, slots=True)
class Wait:
    """What the time from a trace's end to its acknowledgement consists of, in seconds."""

    whole: float
    quiet: float
    interval: float
    work: float


def freshness(rate: float, minutes: float, interval: float, folder: Path) -> Report:
    """Run `run` on a flow in real time, then on a project into which nothing comes.

    Raises ClientFailed when an observation is lost or sent twice.
    """
    report = Report("freshness",
                    {"observations a second": rate, "minutes": minutes, "SYNC_INTERVAL": f"{interval:g}s",
                     "SYNC_SETTLE": f"{_QUIET_MS // 1000}s", "cores": len(cores())},
                    ("seconds", "count", "median", "99th percentile", "maximum"))  # fmt: skip
    flow = Flow(rate, minutes * 60, time.time_ns() // 1_000_000 + _LEAD_MS)
    shape = flow.shape
    room = _room(folder, "flow")
    bound = arrival_bound(interval)
    _say(f"{len(flow.all):,} observations in {flow.seconds:g} s; after the last is listed, the rest has {bound:.0f} s")
    with servers(shape, flow) as both:
        settings = {"SYNC_INTERVAL": f"{interval:g}s", "SYNC_START": iso(flow.first_ms - _LEAD_MS)}
        worker = Worker(both, room, settings)
        used = worker.run(lambda _: _await_all(worker.state, flow, bound))
        stopped_ms = time.time_ns() // 1_000_000
        reported = both.reported(anew=False)
        arrived = both.arrivals()
        missing = [one for one in flow.all if not arrived[one.number]]
        left = reasons(worker.state, flow, missing, stopped_ms)
        cycles = _cycles(worker.state)
        for reason in left:
            _say(f"had not arrived: {reason.describe(stopped_ms)}")
        if missing:
            _say(f"{len(_LATER)} cycles more, by a clock that is put forward, have to bring them")
            live(worker, _LATER)
        _check(flow, both, left)
    waits = trace_waits(flow.all, arrived, cycles) if cycles else []
    if not waits:
        raise ClientFailed("no trace ended while the worker ran: try more minutes")
    for name in ("whole", "quiet", "interval", "work"):
        words = {"whole": "a trace's end to its acknowledgement", "quiet": "of it: quiet period (SYNC_SETTLE)",
                 "interval": "of it: until the next cycle (SYNC_INTERVAL)", "work": "of it: work"}  # fmt: skip
        _add(report, words[name], [getattr(wait, name) for wait in waits])
    late = [one for one in flow.all if one.is_late and arrived[one.number]]
    _add(report, "a late observation's appearance to its acknowledgement",
         [(arrived[one.number] - one.written_ms) / 1_000 for one in late])  # fmt: skip
    work = [wait.work for wait in waits]
    report.at_most("work, median in seconds", middle(work), _GOAL_WORK[0])
    report.at_most("work, 99th percentile in seconds", _percentile(work), _GOAL_WORK[1])
    _say("the flow is measured; now a worker into whose project nothing comes, for an hour by its clock")
    idle = _idle(folder)
    report.at_most("idle, % of a core", idle["cycles"] + idle["between cycles"], _GOAL_IDLE)
    report.details = {
        "had not arrived": {reason.text: reason.count for reason in left},
        "CPU ms an observation": used.cpu / reported.spans * 1_000,
        "CPU s a cycle": used.cpu / len(cycles),
        "share of a core": used.cpu / used.seconds,
        "servers' share of the machine": reported.cpu / used.seconds / len(cores()),
        "idle, % of a core": idle,
        "langfuse": reported.langfuse,
        "kelet": reported.kelet,
    }
    report.tables = [purposes(reported.langfuse, len(flow.all))]
    if left:
        report.tables.append(Table(("had not arrived, and why",), [(reason.describe(stopped_ms),) for reason in left]))
    report.setting |= {"had not arrived": len(missing),
                       "CPU ms an observation": report.details["CPU ms an observation"],
                       "CPU s a cycle": used.cpu / len(cycles), "of a core": used.cpu / used.seconds,
                       "servers' share of the machine": report.details["servers' share of the machine"]}  # fmt: skip
    return report


def _check(flow: Flow, both: Servers, left: Sequence[Reason]) -> None:
    """Raise ClientFailed when an observation is not at the target, once, after all cycles."""
    arrived = both.arrivals()
    kelet = both.reported().kelet
    lost = sum(not arrived[one.number] for one in flow.all)
    unexplained = sum(reason.count for reason in left if reason.is_loss)
    if lost or unexplained:
        raise ClientFailed(f"{lost:,} of {len(flow.all):,} observations are lost; nothing waited for {unexplained:,}")
    if kelet["spans"] != kelet["unique"] or kelet["unique"] != len(flow.all):
        raise ClientFailed(f"observations were sent twice, or others than there were: {kelet} of {len(flow.all)}")


def trace_waits(comes: Sequence[Comes], arrived: Sequence[int], cycles_ms: Sequence[int]) -> list[Wait]:
    """Return the waits of the traces that have arrived, late observations left out.

    Left out are also traces that ended before the first cycle began: a busy machine takes a minute to start a program.
    `arrived` has the Unix milliseconds at which each observation arrived, `cycles_ms` those at which cycles began.
    """
    ended: dict[int, int] = {}
    acknowledged: dict[int, int] = {}
    incomplete: set[int] = set()
    for one in comes:
        if not one.is_late:
            ended[one.trace] = max(ended.get(one.trace, 0), one.written_ms)
            acknowledged[one.trace] = max(acknowledged.get(one.trace, 0), arrived[one.number])
            if not arrived[one.number]:
                incomplete.add(one.trace)
    waits = []
    for trace, end in ended.items():
        if trace in incomplete or end < cycles_ms[0]:
            continue
        got = acknowledged[trace]
        ready = min(end + _QUIET_MS, got)
        at = bisect_left(cycles_ms, ready)
        cycle = min(cycles_ms[at], got) if at < len(cycles_ms) else got
        waits.append(Wait((got - end) / 1_000, (ready - end) / 1_000, (cycle - ready) / 1_000, (got - cycle) / 1_000))
    return waits


def arrival_bound(interval: float) -> float:
    """Return how many seconds after the last observation is listed the worker is given for it to be acknowledged.

    That is what a worker takes that keeps up (until the next lookback scan is due, until it is done, a quiet period,
    three cycles), and two minutes more for a machine that is busy.
    """
    return 1.5 * SCAN_EVERY_MS / 1_000 + _QUIET_MS / 1_000 + 3 * interval + 120


def _await_all(state: Path, flow: Flow, bound: float) -> None:
    """Wait until the flow has ended and all of it is done, or for the longest; report how far it is meanwhile."""
    last = max(one.written_ms for one in flow.all) / 1_000
    written = sorted(one.written_ms for one in flow.all)
    while True:
        now = time.time()
        found = progress(state, flow)
        behind = f"up to {now - found.watermark_ms / 1_000:.0f} s ago" if found.watermark_ms else "nothing yet"
        _say(
            f"{now - flow.first_ms / 1_000:4.0f} s: {bisect_left(written, now * 1_000):,} listed, {found.done:,} done, "
            f"{found.pending:,} traces pending, {found.second_reads:,} second reads to come, "
            f"completed: {behind}"
        )
        if found.done >= len(flow.all):
            return
        if now >= last + bound:
            _say(f"stopped waiting: {bound:.0f} s have passed since the last observation was listed")
            return
        time.sleep(min(_PROGRESS_EVERY, last + bound - now))


def _say(text: str) -> None:
    print(f"freshness: {text}", file=sys.stderr, flush=True)


def purposes(counts: Mapping[str, int], observations: int) -> Table:
    """Return the requests to Langfuse by what they were for, and how often each observation was listed for it."""
    rows = [
        (words, counts.get(kind, 0), counts.get(f"{kind}: rows", 0), counts.get(f"{kind}: rows", 0) / observations)
        for kind, words in _PURPOSES.items()
    ]
    rows.sort(key=lambda row: -row[2])
    rows.append(("all", counts["requests"], counts["rows"], counts["rows"] / observations))
    return Table(("requests to Langfuse for", "requests", "observations", "listings of each observation"), rows)


def _cycles(state: Path) -> list[int]:
    """Return when the cycles of `run` began, in Unix milliseconds."""
    with closing(sqlite3.connect(state)) as file:
        return sorted(moment for (moment,) in file.execute("SELECT started_ms FROM runs WHERE command = 'run'"))


def _idle(folder: Path) -> dict[str, float]:
    """Return what `run` takes of a core when nothing is new, in %: an hour's cycles, and the time between them."""
    with servers(recent(_IDLE_ROWS, block_rows=_IDLE_ROWS // 3, period_ms=HOUR_MS)) as both:
        worker = Worker(both, _room(folder, "idle"), {"SYNC_INTERVAL": "1h"})
        worker.once()
        watched: dict[str, float] = {}
        worker.run(partial(_watch, watched, worker.state))
        cycles = live(worker, [minute * 60.0 for minute in range(1, 61)])
        if any(cycle["code"] or cycle["spans_sent"] for cycle in cycles):
            raise ClientFailed("an idle cycle failed or sent something")
    return {"cycles": sum(cycle["cpu"] for cycle in cycles) / 3_600 * 100, "between cycles": watched["share"] * 100}


def _watch(watched: dict[str, float], state: Path, pid: int) -> None:
    """Note which share of a core a worker takes after its first cycle."""
    while not _cycles(state):
        time.sleep(1)
    before, began = cpu_of(pid), time.monotonic()
    time.sleep(_BETWEEN)
    watched["share"] = (cpu_of(pid) - before) / (time.monotonic() - began)


def _add(report: Report, name: str, seconds: Sequence[float]) -> None:
    row: tuple[Any, ...] = (name, len(seconds))
    report.rows.append((*row, middle(seconds), _percentile(seconds), max(seconds)) if seconds else (*row, "", "", ""))


def _percentile(values: Sequence[float]) -> float:
    """Return the 99th percentile."""
    return quantiles(values, n=100, method="inclusive")[-1] if len(values) > 1 else values[0]


def _room(folder: Path, name: str) -> Path:
    room = folder / name
    room.mkdir()
    return room
