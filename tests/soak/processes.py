"""The worker's commands as real processes: started, hit by signals, and read when they end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: What stderr never holds.
_SIGNS_OF_AN_ERROR = ("Traceback (most recent call last)", "Exception ignored", "was never retrieved", "Warning: ",
                     "was never awaited", "SYNC_LOG_LEVEL=debug shows more", "Fatal Python error")  # fmt: skip
_STOPS_WITHIN = 45.0  # seconds after SIGTERM: ten for what is in flight, and a busy machine
KILL, TERM, STOP = signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP


@dataclass(slots=True, eq=False)
class Life:
    """One process, from its start to its end; times in Unix seconds."""

    lane: str
    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes]
    began: float
    stdout: Path
    stderr: Path
    ended: float = 0.0
    code: int | None = None
    killed: float = 0.0
    termed: float = 0.0
    stops: list[list[float]] = field(default_factory=list)  # from, to; to is 0 while it lasts

    @property
    def stopped(self) -> bool:
        """Whether it is stopped now."""
        return bool(self.stops) and not self.stops[-1][1]

    @property
    def text(self) -> str:
        """What it wrote to stderr."""
        return self.stderr.read_text(errors="replace")

    @property
    def command(self) -> str:
        """The command that it runs."""
        return self.arguments[0]


class Processes:
    """Starts processes and keeps account of all lives."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = dict(environment)
        self.lives: list[Life] = []
        self.findings: list[str] = []
        self._resume: list[tuple[float, Life]] = []
        (folder / "logs").mkdir()

    def start(self, lane: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Life:
        """Start a command of the worker."""
        stem = self._folder / "logs" / f"{len(self.lives):05d}-{lane}-{arguments[0]}"
        stdout, stderr = stem.with_suffix(".out"), stem.with_suffix(".err")
        with stdout.open("wb") as out, stderr.open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "sync_worker", *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                cwd=self._folder, env=self._environment | dict(environment),
            )  # fmt: skip
        life = Life(lane, tuple(arguments), process, time.time(), stdout, stderr)
        self.lives.append(life)
        return life

    def send(self, life: Life, number: signal.Signals, seconds: float = 0.0) -> None:
        """Send a signal; one that was stopped goes on after so many seconds."""
        now = time.time()
        if life.process.poll() is not None:
            return
        if number == STOP:
            if life.stopped or life.termed:
                return
            life.stops.append([now, 0.0])
            self._resume.append((now + seconds, life))
        elif number == KILL:
            life.killed = now
        else:
            life.termed = life.termed or now
        with contextlib.suppress(ProcessLookupError):  # it has ended since
            os.kill(life.process.pid, number)

    def tick(self) -> list[Life]:
        """Let those go on whose stop is over; return the lives that have ended since."""
        now = time.time()
        for moment, life in [item for item in self._resume if item[0] <= now]:
            self._resume.remove((moment, life))
            self._go_on(life)
        ended = [life for life in self.lives if life.code is None and life.process.poll() is not None]
        for life in ended:
            life.code, life.ended = life.process.returncode, now
            if life.stopped:
                life.stops[-1][1] = now
            self._look_at(life)
        for life in self.lives:
            late = life.termed and not life.killed and now - life.termed > _STOPS_WITHIN and life.code is None
            if late and not life.stopped and not any(end > life.termed for _, end in life.stops):
                self._say(life, f"did not end within {_STOPS_WITHIN:.0f} s after SIGTERM")
                self.send(life, KILL)
        return ended

    def all_go_on(self) -> None:
        """Let all go on that are stopped."""
        for _, life in self._resume:
            self._go_on(life)
        self._resume = []

    def end(self) -> None:
        """Kill what is left."""
        for life in self.lives:
            if life.process.poll() is None:
                life.process.kill()
                life.process.wait()

    def _go_on(self, life: Life) -> None:
        with contextlib.suppress(ProcessLookupError):
            if life.process.poll() is None:
                os.kill(life.process.pid, signal.SIGCONT)
        if life.stopped:
            life.stops[-1][1] = time.time()

    def _look_at(self, life: Life) -> None:
        text = life.text + life.stdout.read_text(errors="replace")
        found = [sign for sign in _SIGNS_OF_AN_ERROR if sign in text]
        if found:
            self._say(life, f"wrote {found[0]!r}: {text[text.index(found[0]) :][-600:]}")

    def _say(self, life: Life, what: str) -> None:
        self.findings.append(f"{' '.join(life.arguments)} ({life.stderr.name}): {what}")
