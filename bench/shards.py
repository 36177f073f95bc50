"""What two shards of a backfill on two cores bring over, beside one process on one core."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.machine import ClientFailed, Used, cores
from bench.programs import Worker
from bench.report import Report, middle
from bench.servers import Servers, servers
from bench.shape import Shape

_GOAL = 1.7  # times the speed of one
_SHARDS = 2


def shards(shape: Shape, folder: Path, rounds: int) -> Report:
    """Run one backfill, then two shards of it at once, in turns. Raises ClientFailed when a row is not there once."""
    own = cores()  # before the servers are started, which are kept to some of them
    report = Report("shards", {"rows": shape.rows, "rounds": rounds, "cores": len(own)},
                    ("backfill", "spans/s", "CPU s/1,000 spans"))  # fmt: skip
    speeds: dict[int, list[float]] = {1: [], _SHARDS: []}
    cpu: dict[int, list[float]] = {1: [], _SHARDS: []}
    with servers(shape) as both:
        for number in range(rounds):
            for count in (1, _SHARDS):
                both.reported()
                started = time.monotonic()
                used = _run(both, folder / f"{number} {count}", count, own)
                seconds = time.monotonic() - started
                if not both.reported().exactly_once(shape.rows):
                    raise ClientFailed(f"not every one of {shape.rows} rows arrived exactly once from {count} shards")
                speeds[count].append(shape.rows / seconds)
                cpu[count].append(sum(one.cpu for one in used) / shape.rows * 1_000)
    for count, name in ((1, "one process"), (_SHARDS, "two shards")):
        report.rows.append((name, middle(speeds[count]), middle(cpu[count])))
    report.at_least("two shards, times the speed of one process", middle(speeds[_SHARDS]) / middle(speeds[1]), _GOAL)
    return report


def _run(both: Servers, folder: Path, count: int, own: list[int]) -> list[Used]:
    """Run so many shards at once, each on a core of its own as far as there are any."""

    def one(index: int) -> Used:
        room = folder / str(index)
        room.mkdir(parents=True)
        shard = f"{index}/{count}" if count > 1 else None
        return Worker(both, room).backfill(shard=shard, on={own[-1 - index % len(own)]})

    with ThreadPoolExecutor(count) as pool:
        used = list(pool.map(one, range(count)))
    shutil.rmtree(folder)
    return used
