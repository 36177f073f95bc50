"""One seed and its outcome."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.driver import Simulation
from tests.simulation.moments import readable

_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a seed came to."""

    seed: int
    wrong: tuple[str, ...]
    trail: tuple[tuple[int, str], ...]
    rows: int
    arrived: int
    repeats: int
    lives: int
    requests: int

    def reported(self) -> str:
        """Return the trail for people."""
        return "\n".join(f"{readable(moment)}  {event}" for moment, event in self.trail)


def simulate(seed: int, worlds: frozenset[str] | None = None, until: str | None = None) -> Outcome:
    """Run a seed in a folder of its own, in memory where there is such a place.

    `worlds` are the odd surroundings it runs in; drawn from the seed where they are not given. With `until`, it ends
    after the cycle of the first finding with that text.
    """
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None, prefix="simulation-") as folder:
        logging.disable(logging.CRITICAL)
        try:
            simulation = Simulation(seed, Path(folder), worlds, until)
            wrong = tuple(simulation.run())
        finally:
            logging.disable(logging.NOTSET)
        book = simulation.kelet.book
        return Outcome(
            seed, wrong, tuple(simulation.moments.trail), len(simulation.history.rows), len(book.arrivals),
            book.repeats, simulation.lives, simulation.langfuse.requests,
        )  # fmt: skip


def replay(seed: int) -> str:
    """Return the command that runs a seed alone."""
    return f"scripts/simulate --seed {seed} --trace"
