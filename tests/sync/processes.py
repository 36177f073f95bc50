"""Runs with jobs, watched from outside: their processes, and requests that are held while these work."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sync_worker.demo.receiver import ReceivedSpan
from sync_worker.errors import ExitCode
from tests.support import faults
from tests.support.programs import Program
from tests.support.rows import Row
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities

#: Observations of an interval: about those of an hour.
SMALL = 48
#: How many requests a process has in flight at most, and spans in each.
IN_FLIGHT, SPANS = 4, 8


def small(make_world: MakeWorld, rows: list[Row], **environ: str) -> World:
    """Return a world in which an hour is as long as a usual interval."""
    made = make_world(rows, **{"SYNC_MAX_BATCH_SPANS": str(SPANS), "SYNC_LOG_LEVEL": "info", **environ})
    made.small = SMALL
    return made


def jobs_of(pid: int) -> list[int]:
    """Return the processes that a process has started and that live, first started first."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return sorted(child for child in found if "sync_worker.parallel.job" in _words(child))


def has_ended(pid: int) -> bool:
    """Return whether a process has ended."""
    return not _words(pid)


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def arrived_spans(made: World) -> list[ReceivedSpan]:
    """Return the spans that arrived, in one order."""
    return sorted(made.kelet.spans, key=lambda span: (span.trace_id, span.span_id))


@contextlib.contextmanager
def hold(made: World, process: Program, after: int = SMALL) -> Iterator[threading.Event]:
    """Hold what goes to Kelet as soon as so many spans have arrived and jobs work; yield what lets it go on."""
    gate = threading.Event()
    made.kelet.script = faults.held(gate, lambda: len(made.kelet.spans) >= after and bool(jobs_of(process.pid)))
    try:
        yield gate
    finally:
        gate.set()  # or a test that fails waits for the end of what it holds


def waiting(made: World) -> int:
    """Return how many requests Kelet has not answered."""
    return sum(request.status is None for request in made.kelet.requests)


def kill_a_job(made: World, command: Sequence[str], beside: Sequence[str]) -> None:
    """Kill a job of a run while requests are in flight, and another run is refused; all arrives, little of it twice."""
    rows = list(made.langfuse.rows)
    with made.start(*command, "--json") as process, hold(made, process) as gate:
        until(lambda: waiting(made) >= 2, "nothing is in flight")
        assert made.program(*beside)[0] == ExitCode.LEASE
        os.kill(jobs_of(process.pid)[0], signal.SIGKILL)
        gate.set()
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert re.search(r"job \d was killed by signal 9", err)
    assert json.loads(out)["sources"][0]["error"] is None
    assert made.arrived().keys() == identities(rows).keys()
    assert made.arrived().total() - len(rows) <= IN_FLIGHT * SPANS
