"""How long the worker takes from its start to its first request: what a cron job pays each time."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.machine import ClientFailed, Used
from bench.programs import Worker
from bench.report import Report, middle
from bench.servers import Servers, servers
from bench.shape import Shape

_GOAL = 0.7  # seconds


def starts(shape: Shape, folder: Path, rounds: int) -> Report:
    """Start `once` again and again, with a state file that knows everything, and with none."""
    report = Report(
        "start", {"rounds": rounds}, ("start", "seconds to the first request", "worst", "CPU s", "seconds to the end")
    )
    known: list[tuple[float, Used]] = []
    fresh: list[tuple[float, Used]] = []
    with servers(shape) as both:
        worker = Worker(both, folder)
        _start(both, worker)
        for number in range(rounds):
            room = folder / str(number)
            room.mkdir()
            fresh.append(_start(both, Worker(both, room)))
            shutil.rmtree(room)
            known.append(_start(both, worker))
    for name, found in (("once, as each time", known), ("once, the first time", fresh)):
        seconds = [wait for wait, _ in found]
        report.rows.append(
            (name, middle(seconds), max(seconds), middle(used.cpu for _, used in found),
             middle(used.seconds for _, used in found))
        )  # fmt: skip
        report.at_most(f"{name}: seconds to the first request", middle(seconds), _GOAL)
    report.details = {"known": [wait for wait, _ in known], "fresh": [wait for wait, _ in fresh]}
    return report


def _start(both: Servers, worker: Worker) -> tuple[float, Used]:
    both.reported()
    is_first = not worker.state.exists()
    used = worker.once()
    reported = both.reported()
    if reported.first is None or not reported.exactly_once(both.shape.rows if is_first else 0):
        raise ClientFailed(f"a start asked or sent something else: {reported}")
    return reported.first - used.started, used
