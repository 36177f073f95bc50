"""The worker on one core, against what one would write instead, and against the bare work."""

from __future__ import annotations

from pathlib import Path

from bench.machine import ClientFailed, cores
from bench.programs import Worker, floor
from bench.report import Report, middle
from bench.rounds import COLUMNS, Rounds, backfill, paired, peers
from bench.servers import Reported, Servers, servers
from bench.shape import Shape

_GOAL_TIMES_SDK_BY_CPU = 2.8
_GOAL_SHARE_OF_FLOOR = 0.6
_GOAL_FLOOR = 0.135  # milliseconds of CPU for an observation
_GOAL_WHOLE = 0.185
_GOAL_RSS = 130  # MiB
_GOAL_REQUESTS = 12  # to Langfuse, for 10,000 observations


def speed(shape: Shape, folder: Path, rounds: int, *, with_others: bool = True) -> Report:
    """Measure `backfill`, `once`, the scripts and the bare work. Raises ClientFailed when a span is not there once.

    Without the others only the worker is run.
    """
    report = Report("speed", {"observations": shape.rows, "rounds": rounds, "cores": len(cores())}, COLUMNS)
    found: dict[str, Rounds] = {}
    with servers(shape) as both:
        for number in range(rounds):
            room = folder / str(number)
            room.mkdir()
            programs = {"backfill": backfill(both, room / "backfill", 1), "once": Worker(both, room).once}
            for name, start in (programs | (peers(both, room) if with_others else {})).items():
                found.setdefault(name, Rounds()).measure(both, start)
            if with_others:
                _bare(found.setdefault("bare work", Rounds()), both, room)
    report.rows = [rounds_of.row(name, shape.rows) for name, rounds_of in found.items()]
    report.details = {name: rounds_of.as_json() for name, rounds_of in found.items()}
    _goals(report, found, shape)
    return report


def _goals(report: Report, found: dict[str, Rounds], shape: Shape) -> None:
    ours = found["backfill"]
    if "SDK script" in found:
        sdk, bare = found["SDK script"], found["bare work"]
        report.at_least("backfill, times the SDK script by CPU time", middle(paired(sdk.cpu, ours.cpu)),
                        _GOAL_TIMES_SDK_BY_CPU)  # fmt: skip
        report.at_least("backfill, share of the bare work's speed by CPU time", middle(paired(bare.cpu, ours.cpu)),
                        _GOAL_SHARE_OF_FLOOR)  # fmt: skip
        report.at_most("bare work, CPU ms a span", middle(bare.cpu), _GOAL_FLOOR)
        for name, rounds in found.items():
            if name not in {"backfill", "once"}:
                report.details[f"backfill, times the {name}"] = {
                    "by the clock": paired(ours.speed, rounds.speed), "by CPU time": paired(rounds.cpu, ours.cpu)
                }  # fmt: skip
    report.at_most("backfill, CPU ms a span", middle(ours.cpu), _GOAL_WHOLE)
    for name in ("backfill", "once"):
        report.at_most(f"{name}, peak RSS in MiB", max(found[name].rss), _GOAL_RSS)
        requests = found[name].reported.listings / shape.rows * 10_000
        report.at_most(f"{name}, requests to Langfuse for 10,000", requests, _GOAL_REQUESTS)


def _bare(item: Rounds, both: Servers, room: Path) -> None:
    reported = floor(both, room)
    if reported["spans"] != both.shape.rows:
        raise ClientFailed(f"the bare work saw {reported['spans']} rows of {both.shape.rows}")
    item.speed.append(reported["spans"] / reported["seconds"])
    item.cpu.append(reported["cpu"] / reported["spans"] * 1_000)
    item.reported = Reported({}, {"requests": int(reported["requests"]), "bytes": int(reported["bytes"])}, None)
