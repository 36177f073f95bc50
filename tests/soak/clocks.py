"""A clock for each process: the offset of its wall clock stands in a file, which is read at each look at the time.

The patch is a `sitecustomize`, which Python loads before the worker. Monotonic clocks stay what they are.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

VARIABLE = "SOAK_CLOCK"

_SITECUSTOMIZE = '''"""Made by the soak: moves this process's wall clock by what stands in a file."""
import datetime, os, time

_path, _time_ns, _real = os.environ.get("SOAK_CLOCK"), time.time_ns, datetime.datetime


def _offset_ns():
    try:
        with open(_path, "rb", 0) as file:
            return int(file.read() or 0)
    except OSError:
        return 0


class _Kind(type):
    def __instancecheck__(cls, value):
        return isinstance(value, _real)


class _Datetime(_real, metaclass=_Kind):
    @classmethod
    def now(cls, tz=None):
        return _real.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls):
        return _real.fromtimestamp(time.time(), datetime.timezone.utc).replace(tzinfo=None)


if _path:
    time.time_ns = lambda: _time_ns() + _offset_ns()
    time.time = lambda: time.time_ns() / 1e9
    datetime.datetime = _Datetime
'''

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


class Clocks:
    """The clocks of all processes, by the name of what runs in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jumps = 0
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)

    def file(self, name: str) -> Path:
        """Return the file with the offset of a process, in nanoseconds."""
        return self.folder / f"{name}.offset"

    def jump(self, name: str, chance: random.Random) -> str:
        """Set a clock wrong, or right; return how."""
        how, seconds = chance.choice(
            [
                ("right", 0), ("right", 0), ("right", 0),
                ("by minutes", chance.choice([-1, 1]) * chance.randint(1, 9) * _MINUTE),
                ("by hours", chance.choice([-1, 1]) * chance.randint(1, 20) * _HOUR),
                ("by hours", chance.choice([-1, 1]) * chance.randint(1, 20) * _HOUR),
                ("by days", chance.choice([-1, 1]) * chance.randint(1, 400) * _DAY),
                ("by days", chance.choice([-1, 1]) * chance.randint(1, 9) * _DAY),
                ("to 1970", -int(time.time())),
            ]
        )  # fmt: skip
        self.set(name, seconds)
        self.jumps += 1
        return how

    def set(self, name: str, seconds: int) -> None:
        """Set the offset of a clock."""
        file = self.file(name)
        written = file.with_suffix(".new")
        written.write_text(str(seconds * 1_000_000_000))
        written.replace(file)

    def set_right(self) -> None:
        """Let all clocks be right."""
        for file in self.folder.glob("*.offset"):
            file.write_text("0")
