"""A clock for each process: the offset of its wall clock stands in a file, which is read at each look at the time.

The patch is a `sitecustomize`, which Python loads before the worker. Monotonic clocks stay what they are.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from pathlib import Path

VARIABLE = "SKEW_FILE"
#: The folder with the `sitecustomize` that patches the clock of a process.
PATCH = Path(__file__).parents[1] / "support" / "skewed"

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


class Clocks:
    """The clocks of all processes, by the name of what runs in them."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder = folder
        self._names = tuple(names)
        self.jumps = 0
        folder.mkdir()
        self.set_right()

    def file(self, name: str) -> Path:
        """Return the file with the offset of a process, in seconds."""
        return self._folder / f"{name}.offset"

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
        written.write_text(str(seconds))
        written.replace(file)

    def set_right(self) -> None:
        """Let all clocks be right."""
        for name in self._names:
            self.set(name, 0)
