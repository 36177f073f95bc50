"""`run`: cycles on a schedule, until SIGTERM."""

from __future__ import annotations

import argparse
import logging

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
from sync_worker.settings import Settings, format_duration
from sync_worker.sync.engine import Engine

log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    settings = settings_for(arguments)
    sources = select_sources(settings, arguments)
    clock = SystemClock()
    with state_file(settings, clock) as ledger:
        warn_of_ignored_start(settings, sources, ledger)
        return run_async(lambda: _work(settings, arguments, ledger, clock), clock, graceful=ExitCode.OK)


async def _work(settings: Settings, arguments: argparse.Namespace, ledger: Ledger, clock: SystemClock) -> int:
    from sync_worker.sync.schedule import Worker  # noqa: PLC0415 - only this command needs the scheduler

    sources = select_sources(settings, arguments)
    with hold_lease(ledger, LIVE) as lease:
        log.info(
            "syncing %s; state in %s",
            ", ".join(f"{one.name} every {format_duration(settings.of(one).interval)}" for one in sources),
            settings.state_path, extra={"action": "start"},
        )  # fmt: skip
        code = await Worker(Engine(settings, ledger, clock, max_elapsed=None), sources, clock, lease).run()
        log.info("stopped", extra={"action": "stop"})
        return code
