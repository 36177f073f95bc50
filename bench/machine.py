"""Cores, processes and what they used."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: Where the system cannot tell a process where to run, all run anywhere.
_CAN_PIN = hasattr(os, "sched_setaffinity")


class ClientFailed(Exception):
    """A measured program did not end well, or did not do what it should."""


@dataclass(frozen=True, slots=True)
class Used:
    """What a program took: seconds on the wall clock, seconds of CPU (user and system), bytes of memory at most."""

    seconds: float
    cpu: float
    peak_rss: int
    started: float  # on the clock that all processes share
    stdout: str


def cores() -> list[int]:
    """Return the cores that may be used."""
    return sorted(os.sched_getaffinity(0)) if _CAN_PIN else list(range(os.cpu_count() or 1))


def client_core() -> set[int]:
    """Return the core of the program that is measured."""
    return {cores()[-1]}


def server_cores() -> set[int]:
    """Return the cores of the servers: all but the client's, if there are more."""
    return set(cores()[:-1] or cores())


@contextlib.contextmanager
def pinned(where: set[int]) -> Iterator[None]:
    """Start processes within on these cores: a new process runs where its maker runs."""
    if not _CAN_PIN:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, where)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run(
    command: Sequence[str], *, folder: Path, environ: Mapping[str, str] | None = None, on: set[int] | None = None,
    meanwhile: Callable[[int], None] | None = None,
) -> Used:  # fmt: skip
    """Run a program to its end on the client's core, or on these, and return what it and its jobs used.

    Of memory, it is the most that one process took. With `meanwhile`, which gets its process id, it is asked to end
    when that has returned. Raises ClientFailed.
    """
    outcome = folder / "stdout"
    errors = folder / "stderr"
    with outcome.open("wb") as out, errors.open("wb") as err, pinned(on or client_core()):
        started = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, env=plain_environ() | dict(environ or {}), stdin=subprocess.DEVNULL, stdout=out,
            stderr=err,
        )  # fmt: skip
    try:
        if meanwhile is not None:
            meanwhile(process.pid)
            process.terminate()
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        raise
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    stdout = outcome.read_text(encoding="utf-8")
    if process.returncode != 0:
        printed = errors.read_text(encoding="utf-8", errors="replace")[-2_000:]
        raise ClientFailed(f"{' '.join(command[1:5])} … ended with {process.returncode}: {printed or stdout[-2_000:]}")
    return Used(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, started, stdout)


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that a running process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def plain_environ() -> dict[str, str]:
    """Return the environment without anybody's settings of the worker, and with this checkout on the path."""
    own = ("LANGFUSE_", "KELET_", "SYNC_", "OTEL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return kept | {"PYTHONPATH": str(ROOT)}
