"""How much memory the worker takes, and whether that stays level while there is more to bring over."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.machine import ClientFailed, cores
from bench.programs import Worker
from bench.report import Report
from bench.servers import servers
from bench.shape import recent

_MIB = 1024 * 1024
_GOAL = 125  # MiB
_GOAL_JOBS = 130  # MiB, of each process
_LEVEL = 1.15  # times the memory of the smallest size


def memory(sizes: Sequence[int], folder: Path, jobs: int = 1) -> Report:
    """Run `backfill` and `once` over projects of these sizes, with so many jobs on all cores, or in one process.

    Raises ClientFailed when a row is not there once.
    """
    columns = ("program", "rows", "peak RSS of a process, MiB", "spans/s", "state file MiB")
    report = Report("memory", {"jobs": jobs}, columns)
    on = set(cores()) if jobs > 1 else None  # before the servers are started, which are kept to some of them
    peaks: dict[str, list[float]] = {"backfill": [], "once": []}
    for size in sizes:
        shape = recent(size)
        with servers(shape) as both:
            for name, found in peaks.items():
                room = folder / f"{name} {size}"
                room.mkdir()
                worker = Worker(both, room)
                used = worker.backfill(jobs=jobs, on=on) if name == "backfill" else worker.once(jobs=jobs, on=on)
                if not both.reported().exactly_once(shape.rows):
                    raise ClientFailed(f"not every one of {shape.rows} rows arrived exactly once")
                found.append(used.peak_rss / _MIB)
                state = worker.state.stat().st_size / _MIB
                report.rows.append((name, shape.rows, found[-1], shape.rows / used.seconds, state))
                shutil.rmtree(room)
    for name, found in peaks.items():
        report.at_most(f"{name}, peak RSS of a process in MiB", max(found), _GOAL if jobs == 1 else _GOAL_JOBS)
        report.at_most(f"{name}, largest to smallest size", found[-1] / found[0], _LEVEL)
    return report
