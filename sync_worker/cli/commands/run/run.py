"""`run`: cycles on a schedule, until SIGTERM."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from sync_worker.cli.common import (
    hold_lease,
    run_async,
    select_sources,
    settings_for,
    state_file,
    warn_of_ignored_start,
)
from sync_worker.clock import SystemClock
from sync_worker.errors import ExitCode
from sync_worker.ledger import Ledger
from sync_worker.ledger.lease import LIVE
from sync_worker.settings import Settings, Source, format_duration
from sync_worker.sync.engine import Engine
from sync_worker.sync.opening import Transports
from sync_worker.watch.running import Watch

log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    settings = settings_for(arguments)
    sources = select_sources(settings, arguments)
    clock = SystemClock()
    watch = Watch(settings, sources, clock)
    try:
        with state_file(settings, clock) as ledger:
            warn_of_ignored_start(settings, sources, ledger)
            return run_async(lambda: _work(settings, sources, ledger, clock, watch), clock, graceful=ExitCode.OK)
    finally:
        watch.close()


async def _work(settings: Settings, sources: Sequence[Source], ledger: Ledger, clock: SystemClock, watch: Watch) -> int:
    from sync_worker.sync.schedule import Worker  # noqa: PLC0415 - only this command needs the scheduler

    with hold_lease(ledger, LIVE) as lease:
        log.info(
            "syncing %s; state in %s",
            ", ".join(f"{one.name} every {format_duration(settings.of(one).interval)}" for one in sources),
            settings.state_path, extra={"action": "start"},
        )  # fmt: skip
        engine = Engine(
            settings, ledger, clock, max_elapsed=None, transports=Transports(measurements=watch.measurements)
        )
        async with watch.working(engine, lease):
            code = await Worker(engine, sources, clock, lease, watch.note_cycle).run()
        log.info("stopped", extra={"action": "stop"})
        return code
