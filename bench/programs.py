"""The programs that are measured, as they are started."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import Used, run
from bench.servers import Servers
from bench.shape import Shape, iso

PYTHON = (sys.executable, "-P", "-m")


@dataclass(frozen=True, slots=True)
class Worker:
    """This project's worker with a state file in a folder, started by its own command line."""

    servers: Servers
    folder: Path
    settings: Mapping[str, str] | None = None

    @property
    def state(self) -> Path:
        """The state file."""
        return self.folder / "state.db"

    def environ(self, **more: str) -> dict[str, str]:
        """Return the settings that a user would have in the environment."""
        own = {
            "LANGFUSE_BASE_URL": self.servers.langfuse_url,
            "LANGFUSE_PUBLIC_KEY": "pk-lf-bench",
            "LANGFUSE_SECRET_KEY": "sk-lf-bench",
            "KELET_API_URL": self.servers.kelet_url,
            "KELET_API_KEY": "bench-key",
            "KELET_PROJECT": "bench",
            "SYNC_STATE_PATH": str(self.state),
            "SYNC_START": iso(self.servers.shape.first_ms),
        }
        return own | dict(self.settings or {}) | more

    def backfill(
        self, start_ms: int | None = None, end_ms: int | None = None, *, shard: str | None = None, jobs: int = 1,
        on: set[int] | None = None,
    ) -> Used:  # fmt: skip
        """Run `backfill` over all rows or an interval: as one shard, with jobs, or on other cores, where asked for."""
        words = [*self.backfill_words(start_ms, end_ms), *(["--shard", shard] if shard else []), "--jobs", str(jobs)]
        return run([*PYTHON, "sync_worker", *words], folder=self.folder, environ=self.environ(), on=on)

    def backfill_words(self, start_ms: int | None = None, end_ms: int | None = None) -> list[str]:
        """Return what is typed for a backfill."""
        shape = self.servers.shape
        start, end = iso(shape.first_ms if start_ms is None else start_ms), iso(end_ms or shape.end_ms)
        return ["backfill", "--from", start, "--to", end, "--json"]

    def run(self, meanwhile: Callable[[int], None]) -> Used:
        """Run `run`, until a function that gets its process id has returned."""
        return run([*PYTHON, "sync_worker", "run"], folder=self.folder, environ=self.environ(), meanwhile=meanwhile)

    def once(self, *, jobs: int = 1, on: set[int] | None = None) -> Used:
        """Run `once`: with jobs, or on other cores, where asked for."""
        words = ["once", "--json", "--jobs", str(jobs)]
        return run([*PYTHON, "sync_worker", *words], folder=self.folder, environ=self.environ(), on=on)


def script(module: str, servers: Servers, folder: Path, *words: str, on: set[int] | None = None) -> Used:
    """Run a script that the worker is compared with, on all rows."""
    shape = servers.shape
    command = [*PYTHON, f"bench.{module}", servers.langfuse_url, servers.kelet_url, iso(shape.first_ms)]
    return run([*command, iso(shape.end_ms), *words], folder=folder, on=on)


def floor(servers: Servers, folder: Path) -> dict[str, float]:
    """Run the bare work on all rows, and return what it says of itself."""
    reported = run([*PYTHON, "bench.floor", servers.langfuse_url, whole(servers.shape)], folder=folder).stdout
    found: dict[str, float] = json.loads(reported)
    return found


def whole(shape: Shape) -> str:
    """Return the interval of all rows for a command line."""
    return f"{iso(shape.first_ms)}/{iso(shape.end_ms)}"


def live(worker: Worker, offsets: list[float]) -> list[dict[str, Any]]:
    """Run live cycles with the worker's clock put forward by so many seconds each; return what they say."""
    command = [*PYTHON, "bench.live", json.dumps(offsets)]
    reported: list[dict[str, Any]] = json.loads(run(command, folder=worker.folder, environ=worker.environ()).stdout)
    return reported
