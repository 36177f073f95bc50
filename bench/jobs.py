"""What a backfill with jobs brings over, beside one process with the same cores; in turns, so noise hits both alike."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.machine import ClientFailed, cores
from bench.programs import Worker
from bench.report import Report, middle
from bench.servers import servers
from bench.shape import Shape

_GOAL = 1.7  # times the speed of one, with two
_GOAL_RSS = 150  # MiB, of each process
_MIB = 1024 * 1024


def jobs(shape: Shape, folder: Path, rounds: int, count: int) -> Report:
    """Run a backfill with one process and with jobs, in turns. Raises ClientFailed when a row is not there once."""
    own = set(cores())  # before the servers are started, which are kept to some of them
    report = Report("jobs", {"rows": shape.rows, "rounds": rounds, "cores": len(own)},
                    ("backfill", "spans/s", "CPU s/1,000 spans", "peak RSS MiB of a process"))  # fmt: skip
    speeds: dict[int, list[float]] = {1: [], count: []}
    cpu: dict[int, list[float]] = {1: [], count: []}
    rss: dict[int, list[float]] = {1: [], count: []}
    with servers(shape) as both:
        for number in range(rounds):
            for most in (1, count):
                room = folder / f"{number} {most}"
                room.mkdir()
                both.told()
                used = Worker(both, room).backfill(jobs=most, on=own)
                shutil.rmtree(room)
                if not both.told().exactly_once(shape.rows):
                    raise ClientFailed(f"not every one of {shape.rows} rows arrived exactly once from {most} jobs")
                speeds[most].append(shape.rows / used.seconds)
                cpu[most].append(used.cpu / shape.rows * 1_000)
                rss[most].append(used.peak_rss / _MIB)
    for most, name in ((1, "one process"), (count, f"{count} jobs")):
        report.rows.append((name, middle(speeds[most]), middle(cpu[most]), middle(rss[most])))
    report.details = {"speeds": speeds, "cpu": cpu, "rss_mib": rss}
    times = [jobs / one for one, jobs in zip(speeds[1], speeds[count], strict=True)]
    report.at_least(f"{count} jobs, times the speed of one process", middle(times), _GOAL)
    report.at_most("peak RSS of a process in MiB", max(rss[count]), _GOAL_RSS)
    return report
