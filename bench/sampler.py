"""Runs a module and notes where its CPU time goes: `python -m bench.sampler FILE MODULE ARGUMENT ...`.

The system interrupts the process every two milliseconds of CPU time, and the time since the last interruption goes to
where the program stands. That costs about a percent and slows no function more than another, unlike a tracing
profiler. Time spent in C counts for the Python line that called.
"""

from __future__ import annotations

import json
import runpy
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from bench.machine import ROOT

_EVERY = 0.002  # seconds of CPU
#: The modules between which time is divided; whatever they call counts for them.
_OWN = (str(ROOT / "sync_worker"), str(ROOT / "bench"))


class Sampler:
    """Counts CPU seconds by the innermost function of ours, and by the innermost module of anybody's."""

    def __init__(self) -> None:
        self.functions: Counter[tuple[str, str, str]] = Counter()
        self._last = time.process_time()

    def start(self) -> None:
        """Begin."""
        signal.signal(signal.SIGPROF, self._note)
        signal.setitimer(signal.ITIMER_PROF, _EVERY, _EVERY)

    def stop(self) -> None:
        """End."""
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _note(self, _number: int, frame: FrameType | None) -> None:
        now = time.process_time()
        spent, self._last = now - self._last, now
        inner = "" if frame is None else _module(frame.f_code.co_filename)
        while frame is not None and not frame.f_code.co_filename.startswith(_OWN):
            frame = frame.f_back
        if frame is None:
            self.functions["", "", inner] += spent  # type: ignore[assignment]
            return
        code = frame.f_code
        self.functions[_module(code.co_filename), code.co_qualname, inner] += spent  # type: ignore[assignment]


def _module(file: str) -> str:
    """Return a short name of where code stands: a file of ours, or a package."""
    path = Path(file)
    if file.startswith(_OWN):
        return path.relative_to(ROOT).as_posix()
    parts = path.parts
    return parts[parts.index("site-packages") + 1] if "site-packages" in parts else path.stem


def main(file: str, module: str, *arguments: str) -> None:
    """Run the module, and write what was noted as a JSON list of [module, function, inner module, seconds]."""
    sampler = Sampler()
    sys.argv = [module, *arguments]
    sampler.start()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        sampler.stop()
        noted = [[*place, spent] for place, spent in sampler.functions.items()]
        Path(file).write_text(json.dumps(noted), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
