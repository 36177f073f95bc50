"""The functions of the worker that one live cycle runs: `python -m tests.sync.walk` lists them by package and file.

A cycle of a running worker, after one that found nothing: what happens once a process is not in it.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import sync_worker
import sync_worker.spans.conversion  # with what it imports: the worker does so with its first trace
import sync_worker.spans.encode
from sync_worker.pipeline.report import SourceReport
from sync_worker.settings import Source
from sync_worker.sync.engine import Engine
from sync_worker.times import moment_ms
from tests.support.rows import NOON, Row, trace
from tests.sync.world import World, world

_PACKAGE = Path(sync_worker.__file__).parent
#: The servers of the tests run in the same process.
_NOT_OURS = "demo"
#: Seconds between the observations and the cycle that reads them.
_LATER = 600.0


@dataclass
class Walk:
    """Which functions ran, and how often: by file, relative to the package, first line and qualified name.

    `anonymous` are comprehensions, generator expressions and lambdas; `reentered` were called while they were running.
    """

    functions: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    anonymous: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    reentered: set[tuple[str, int, str]] = field(default_factory=set)
    _known: dict[CodeType, tuple[str, int, str] | None] = field(default_factory=dict)

    def __enter__(self) -> Walk:
        """Begin to collect, in this thread and in those that start."""
        threading.setprofile(self._observe)
        sys.setprofile(self._observe)
        return self

    def __exit__(self, *error: object) -> None:
        """End."""
        sys.setprofile(None)
        threading.setprofile(None)

    def _observe(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        code = frame.f_code
        if code not in self._known:
            self._known[code] = _name_of(code)
        name = self._known[code]
        if name is None:
            return
        (self.anonymous if name[2].endswith(">") else self.functions)[name] += 1
        above = frame.f_back
        while above is not None:
            if above.f_code is code:
                self.reentered.add(name)
                break
            above = above.f_back

    def listing(self) -> str:
        """Return the functions by package and by file."""
        packages: dict[str, dict[str, list[tuple[int, str, int]]]] = {}
        for (file, line, name), calls in sorted(self.functions.items()):
            package = file.split("/")[0] if "/" in file else "(modules)"
            packages.setdefault(package, {}).setdefault(file, []).append((line, name, calls))
        functions, anonymous = len(self.functions), len(self.anonymous)
        lines = [f"{functions} functions; {anonymous} comprehensions, generator expressions and lambdas"]
        for package, files in sorted(packages.items(), key=lambda item: -sum(map(len, item[1].values()))):
            lines.append(f"\n{sum(map(len, files.values())):4} {package}")
            for file, found in sorted(files.items(), key=lambda item: -len(item[1])):
                lines.append(f"  {len(found):4} {file}")
                lines += [f"         {line:4} {name} ×{calls}" for line, name, calls in found]
        lines.append("\ncalled while running: " + ", ".join(sorted(name for _, _, name in self.reentered)))
        return "\n".join(lines)


def _name_of(code: CodeType) -> tuple[str, int, str] | None:
    """Return the name of a function of ours; None of all others, and of the bodies of modules and classes."""
    file = Path(code.co_filename)
    if not code.co_flags & inspect.CO_OPTIMIZED or not file.is_relative_to(_PACKAGE):
        return None
    path = file.relative_to(_PACKAGE)
    return None if path.parts[0] == _NOT_OURS else (path.as_posix(), code.co_firstlineno, code.co_qualname)


def walk(made: World, rows: list[Row]) -> Walk:
    """Collect the functions of the cycle that syncs these observations."""
    found = Walk()

    async def work(engine: Engine, source: Source) -> tuple[SourceReport, int]:
        await engine.live(source)
        made.langfuse.rows.extend(rows)
        made.clock.advance(_LATER)
        with found:
            return await engine.live(source)

    report, code = made.live(work)
    assert (report.error, code, report.spans_sent) == (None, 0, len(rows))
    return found


def main() -> int:
    """Print what one cycle runs that syncs a root and two of its children."""
    argparse.ArgumentParser(prog="python -m tests.sync.walk", description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder, world(Path(folder), [], moment_ms(NOON)) as made:
        print(walk(made, trace(2, start=0.0, seconds=5.0)).listing())
    return 0


if __name__ == "__main__":
    sys.exit(main())
