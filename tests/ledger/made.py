"""What goes into a ledger, made up; and processes that use one."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sync_worker.ledger import DeadLetter, Ledger, TraceNote, open_ledger
from sync_worker.ledger.lease import release, take
from sync_worker.spans.span_model import EncodedSpan, ObservationKey

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def beside(live: Ledger, path: Path, role: str) -> Iterator[Ledger]:
    """Open a state file in another process, as it were, under the lease of a role."""
    opened = open_ledger(path, live.clock)
    take(opened, role)
    yield opened
    if opened.lease is not None:
        release(opened, opened.lease)
    opened.close()


def die(ledger: Ledger) -> None:
    """End as a kill does: the lock goes, what is noted stays."""
    assert ledger.lease is not None
    fcntl.flock(ledger.lease.lock, fcntl.LOCK_UN)


def span(trace: str, row: str, start_ms: int = 0, fingerprint: bytes = b"state-01", project: str = "p") -> EncodedSpan:
    """Return a span that was accepted."""
    return EncodedSpan(ObservationKey(trace, row), project, "", b"", b"", b"", start_ms, 7, fingerprint)


def letter(trace: str | None = "t", row: str | None = "r", **values: Any) -> DeadLetter:
    """Return a dead letter of source 1."""
    known: dict[str, Any] = {
        "source_id": 1,
        "kind": "rejected",
        "reason": "why",
        "made_ms": 5,
        "start_ms": 10,
        "fingerprint": b"bad",
    }
    return DeadLetter(trace_id=trace, observation_id=row, **(known | values))


def note(trace: str, start_ms: int = 0, newest_ms: int | None = None, **values: Any) -> TraceNote:
    """Return what is remembered of a trace that waits for nothing."""
    newest = start_ms if newest_ms is None else newest_ms
    return TraceNote(trace, **({"pending": False, "earliest_ms": start_ms, "newest_ms": newest} | values))


def sent_observations(ledger: Ledger) -> set[tuple[str, str]]:
    """Return all sent rows that are remembered, by (trace id, row id)."""
    return set(ledger.query("SELECT trace_id, observation_id FROM sent"))


def picture(folder: Path) -> dict[str, tuple[int, str]]:
    """Return what stands in a folder: each file's size and digest."""
    return {
        file.name: (file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
        for file in sorted(folder.iterdir())
        if file.is_file()
    }


def another_program(path: Path, *statements: str) -> None:
    """Do with a database what another program would."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


class Other:
    """Another process; it says a line on stdout, waits for one on stdin. See `other.py` for what it can do."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.ledger.other", *map(str, arguments)],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def line(self) -> str:
        """Return the next line that it says; '' when it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def kill(self) -> str:
        """Kill it as nothing can be killed harder; return what it had said and nobody had read."""
        self.process.send_signal(signal.SIGKILL)
        return self.end()

    def end(self) -> str:
        """Wait for its end; return what it said meanwhile."""
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        self.process.wait(timeout=20)
        return out

    def __enter__(self) -> Other:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
