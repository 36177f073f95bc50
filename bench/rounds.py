"""Programs that take turns, so that what else happens on the machine hits all alike, and what their rounds came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.machine import ClientFailed, Used, cores
from bench.programs import Worker, script
from bench.report import middle, spread
from bench.servers import Reported, Servers

MIB = 1024 * 1024
THREADS = "4"

COLUMNS = (
    "program", "spans/s", "CPU ms a span", "peak RSS MiB", "servers, % of the machine",
    "Langfuse requests/10,000", "Kelet requests", "MB sent", "MB before compression",
)  # fmt: skip


@dataclass(slots=True)
class Rounds:
    """What the rounds of one program came to."""

    speed: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # milliseconds for a span
    rss: list[float] = field(default_factory=list)  # MiB
    servers: list[float] = field(default_factory=list)  # % of all cores
    reported: Reported = field(default_factory=lambda: Reported({}, {}, None))

    def measure(self, both: Servers, start: Callable[[], Used]) -> None:
        """Do a round. Raises ClientFailed when a span is not there once."""
        both.reported()
        used = start()
        reported = self.reported = both.reported()
        rows = both.shape.rows
        if not reported.exactly_once(rows):
            raise ClientFailed(f"not every row arrived exactly once: {reported.kelet} of {rows}")
        self.speed.append(rows / used.seconds)
        self.cpu.append(used.cpu / rows * 1_000)
        self.rss.append(used.peak_rss / MIB)
        self.servers.append(reported.cpu / used.seconds / machine_cores() * 100)

    def row(self, name: str, rows: int) -> tuple[Any, ...]:
        """Return its row of a table with `COLUMNS`: medians, with the least and the most of the rounds."""
        reported = self.reported
        return (
            name, spread(self.speed), spread(self.cpu), middle(self.rss) if self.rss else "",
            spread(self.servers) if self.servers else "",
            reported.listings / rows * 10_000 if reported.listings else "",
            reported.deliveries, reported.kelet.get("bytes", 0) / 1e6, reported.kelet.get("plain_bytes", 0) / 1e6 or "",
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Return all rounds, for programs."""
        return {
            "spans_per_second": self.speed, "cpu_ms": self.cpu, "rss_mib": self.rss, "servers_percent": self.servers,
            "counts": {"langfuse": self.reported.langfuse, "kelet": self.reported.kelet},
        }  # fmt: skip


def machine_cores() -> int:
    """Return how many cores there are, also while this process is kept to some of them."""
    return _CORES


_CORES = len(cores())


def peers(both: Servers, room: Path, on: set[int] | None = None) -> dict[str, Callable[[], Used]]:
    """Return the scripts that the worker is compared with."""
    return {
        "SDK script": lambda: script("sdk_client", both, room, on=on),
        f"SDK script, {THREADS} threads": lambda: script("sdk_client", both, room, THREADS, on=on),
        "tuned script": lambda: script("tuned_client", both, room, on=on),
    }


def backfill(both: Servers, room: Path, jobs: int, on: set[int] | None = None) -> Callable[[], Used]:
    """Return a backfill with so many jobs and a new state file."""

    def start() -> Used:
        room.mkdir()
        return Worker(both, room).backfill(jobs=jobs, on=on)

    return start


def paired(ours: list[float], theirs: list[float]) -> list[float]:
    """Return how many times theirs ours is, round by round."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]
