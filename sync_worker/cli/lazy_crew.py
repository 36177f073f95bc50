"""The jobs of a command: how many there may be; what leads them is loaded where the first is wanted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sync_worker.ledger.file_systems import on_network
from sync_worker.runs.division import Jobs
from sync_worker.settings import Settings
from sync_worker.sync.engine import Engine
from sync_worker.sync.source_sync import SourceSync

if TYPE_CHECKING:
    from sync_worker.parallel.crew import Crew

log = logging.getLogger(__name__)


class LazyCrew:
    """The jobs of a run, at most so many, of which most runs need none: loading their modules takes time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._crew: Crew | None = None

    def lead(self, engine: Engine) -> None:
        """Have an engine, whose ledger holds the lease, work with jobs, if the file system has locks."""
        if engine.ledger.lease is not None and engine.ledger.lease.locked:
            engine.jobs_of = lambda sync: self._jobs_of(engine, sync)

    def kill(self) -> None:
        """Kill all jobs, for a run that ends at once."""
        if self._crew is not None:
            self._crew.kill()

    def _jobs_of(self, engine: Engine, sync: SourceSync) -> Jobs:
        if self._crew is None:
            from sync_worker.parallel.crew import Crew  # noqa: PLC0415 - only where there are jobs

            self._crew = Crew(self._most)
        return self._crew.of(engine, sync)


def crew_of(settings: Settings) -> LazyCrew | None:
    """Return the jobs of a command, none where it does all in this process: that is one of them too few to lead."""
    most = settings.jobs
    if most is None:
        from sync_worker.parallel.machine import room  # noqa: PLC0415

        most = room().jobs
    if most == 1:
        return None
    if on_network(settings.state_path):
        if settings.jobs is not None:
            log.warning(
                "the state file is on a network file system, whose locks several processes cannot rely on: --jobs 1",
                extra={"action": "jobs"},
            )
        return None
    return LazyCrew(most)
