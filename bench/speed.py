"""The worker against what one would write instead, and against the bare work; in turns, so noise hits all alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.machine import ClientFailed, Used, cores
from bench.programs import Worker, floor, sdk_client
from bench.report import Report, middle
from bench.servers import Servers, Told, servers
from bench.shape import Shape

MIB = 1024 * 1024

_GOAL_TIMES_SDK = 8
_GOAL_SHARE_OF_FLOOR = 0.6
_GOAL_RSS = 150  # MiB
_GOAL_REQUESTS = 12  # to Langfuse, for 10,000 rows

_COLUMNS = (
    "program", "spans/s", "CPU s/1,000 spans", "peak RSS MiB", "Langfuse requests/10,000 rows", "Kelet requests",
    "bytes sent", "bytes sent plain",
)  # fmt: skip


@dataclass(slots=True)
class _Rounds:
    """What the rounds of one program came to."""

    speed: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # seconds for 1,000 spans
    rss: list[float] = field(default_factory=list)  # MiB
    told: Told | None = None


def speed(shape: Shape, folder: Path, rounds: int, *, with_others: bool = True) -> Report:
    """Measure `backfill`, `once`, the SDK client and the bare work. Raises ClientFailed when a span is not there once.

    Without the others only the worker is run.
    """
    report = Report("speed", {"rows": shape.rows, "rounds": rounds, "cores": len(cores())}, _COLUMNS)
    found = {name: _Rounds() for name in ("backfill", "once", "SDK client", "bare work")}
    with servers(shape) as both:
        for number in range(rounds):
            for name in ("backfill", "once"):
                room = _room(folder, f"{name} {number}")
                worker = Worker(both, room)
                _measure(found[name], both, worker.backfill if name == "backfill" else worker.once)
            if with_others:
                room = _room(folder, f"others {number}")
                _measure(found["SDK client"], both, partial(sdk_client, both, room))
                _bare(found["bare work"], both, room)
    report.rows = [_row(name, rounds_of, shape) for name, rounds_of in found.items() if rounds_of.speed]
    report.details = {
        name: {"spans_per_second": item.speed, "cpu": item.cpu, "rss_mib": item.rss,
               "counts": None if item.told is None else {"langfuse": item.told.langfuse, "kelet": item.told.kelet}}
        for name, item in found.items()
    }  # fmt: skip
    _goals(report, found, shape)
    return report


def _goals(report: Report, found: dict[str, _Rounds], shape: Shape) -> None:
    backfill, sdk, bare = found["backfill"], found["SDK client"], found["bare work"]
    if sdk.speed and bare.speed:
        times, share = middle(backfill.speed) / middle(sdk.speed), middle(backfill.speed) / middle(bare.speed)
        report.at_least("backfill, times the SDK client's speed", times, _GOAL_TIMES_SDK)
        report.at_least("backfill, share of the bare work's speed", share, _GOAL_SHARE_OF_FLOOR)
        times, share = middle(sdk.cpu) / middle(backfill.cpu), middle(bare.cpu) / middle(backfill.cpu)
        report.at_least("the same by CPU time: times the SDK client", times, _GOAL_TIMES_SDK)
        report.at_least("the same by CPU time: share of the bare work", share, _GOAL_SHARE_OF_FLOOR)
    for name in ("backfill", "once"):
        report.at_most(f"{name}, peak RSS in MiB", max(found[name].rss), _GOAL_RSS)
        told = found[name].told
        if told is not None:
            report.at_most(f"{name}, requests to Langfuse for 10,000 rows", _per_ten_thousand(told, shape),
                           _GOAL_REQUESTS)  # fmt: skip


def _measure(item: _Rounds, both: Servers, start: Callable[[], Used]) -> None:
    both.told()
    used = start()
    told = both.told()
    if not told.exactly_once(both.shape.rows):
        raise ClientFailed(f"not every row arrived exactly once: {told.kelet} of {both.shape.rows}")
    item.speed.append(both.shape.rows / used.seconds)
    item.cpu.append(used.cpu / both.shape.rows * 1_000)
    item.rss.append(used.peak_rss / MIB)
    item.told = told


def _bare(item: _Rounds, both: Servers, room: Path) -> None:
    told = floor(both, room)
    if told["spans"] != both.shape.rows:
        raise ClientFailed(f"the bare work saw {told['spans']} rows of {both.shape.rows}")
    item.speed.append(told["spans"] / told["seconds"])
    item.cpu.append(told["cpu"] / told["spans"] * 1_000)
    item.told = Told({}, {"requests": int(told["requests"]), "bytes": int(told["bytes"])}, None)


def _row(name: str, item: _Rounds, shape: Shape) -> tuple[Any, ...]:
    told = item.told or Told({}, {}, None)
    return (
        name, middle(item.speed), middle(item.cpu), middle(item.rss) if item.rss else "",
        _per_ten_thousand(told, shape) if told.listings else "", told.deliveries, told.kelet.get("bytes", 0),
        told.kelet.get("plain_bytes", ""),
    )  # fmt: skip


def _per_ten_thousand(told: Told, shape: Shape) -> float:
    return told.listings / shape.rows * 10_000


def _room(folder: Path, name: str) -> Path:
    room = folder / name
    room.mkdir()
    return room
