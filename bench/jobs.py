"""A backfill with jobs on all cores, beside one process and beside scripts that have the same cores."""

from __future__ import annotations

from pathlib import Path

from bench.machine import cores
from bench.report import Report, middle
from bench.rounds import COLUMNS, Rounds, backfill, paired, peers
from bench.servers import servers
from bench.shape import Shape

_GOAL = 1.7  # times the speed of one, with two
_GOAL_TIMES_SDK = 4.0  # by the clock, on two cores
_GOAL_TIMES_SDK_BY_CPU = 2.8
_GOAL_RSS = 130  # MiB, of each process
_GOAL_SERVERS = 5  # % of the machine


def jobs(shape: Shape, folder: Path, rounds: int, count: int, *, with_others: bool = True) -> Report:
    """Run a backfill with one process and with jobs, and the scripts; without the others only the worker is run.

    Raises ClientFailed when a span is not there once.
    """
    own = set(cores())  # before the servers are started, which are kept to some of them
    report = Report("jobs", {"observations": shape.rows, "rounds": rounds, "cores": len(own)}, COLUMNS)
    one_name, jobs_name = "backfill, one process", f"backfill, {count} jobs"
    found: dict[str, Rounds] = {}
    with servers(shape) as both:
        for number in range(rounds):
            room = folder / str(number)
            room.mkdir()
            programs = {one_name: backfill(both, room / "one", 1, own)}
            programs[jobs_name] = backfill(both, room / "jobs", count, own)
            for name, start in (programs | (peers(both, room, own) if with_others else {})).items():
                found.setdefault(name, Rounds()).measure(both, start)
    report.rows = [item.row(name, shape.rows) for name, item in found.items()]
    report.details = {name: item.as_json() for name, item in found.items()}
    with_jobs = found[jobs_name]
    report.at_least(f"{count} jobs, times the speed of one process",
                    middle(paired(with_jobs.speed, found[one_name].speed)), _GOAL)  # fmt: skip
    for name, item in found.items():
        if name not in {one_name, jobs_name}:
            times = paired(with_jobs.speed, item.speed), paired(item.cpu, with_jobs.cpu)
            report.details[f"{count} jobs, times the {name}"] = {"by the clock": times[0], "by CPU time": times[1]}
            if name == "SDK script":
                report.at_least(f"{count} jobs, times the SDK script by the clock", middle(times[0]), _GOAL_TIMES_SDK)
                report.at_least(f"{count} jobs, times the SDK script by CPU time", middle(times[1]),
                                _GOAL_TIMES_SDK_BY_CPU)  # fmt: skip
    report.at_most("servers, % of the machine, with jobs", middle(with_jobs.servers), _GOAL_SERVERS)
    report.at_most("peak RSS of a process in MiB", max(with_jobs.rss), _GOAL_RSS)
    return report
