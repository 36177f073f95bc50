"""`once`: one cycle of every source, for cron and CronJob."""

from __future__ import annotations

import argparse

from sync_worker.cli.commands.once import DRY_RUN_REQUESTS
from sync_worker.cli.common import (
    run_async,
    select_sources,
    settings_for,
    state_file,
    warn_of_ignored_start,
)
from sync_worker.cli.lazy_crew import crew_of
from sync_worker.cli.leased_run import LeasedRun, run_leased
from sync_worker.cli.metrics_file import metrics_file
from sync_worker.clock import SystemClock
from sync_worker.errors import ConfigError
from sync_worker.ledger.lease import LIVE

ONE_CYCLE = LeasedRun("once", LIVE, lambda engine, source, progress: engine.live(source, progress))


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if arguments.dry_run:
        return _dry_run(arguments)
    if arguments.requests is not None:
        raise ConfigError("--requests limits a dry run. Try: --dry-run with it")
    settings = settings_for(arguments)
    sources = select_sources(settings, arguments)
    clock = SystemClock()
    metrics = metrics_file(arguments, settings, "once")
    with state_file(settings, clock) as ledger:
        warn_of_ignored_start(settings, sources, ledger)
        crew = crew_of(settings)
        return run_async(
            lambda: run_leased(
                ONE_CYCLE, settings, sources, ledger, clock, as_json=arguments.json, metrics=metrics, crew=crew
            ),
            clock,
            at_once=None if crew is None else crew.kill,
        )


def _dry_run(arguments: argparse.Namespace) -> int:
    from sync_worker.cli import dry_run_report  # noqa: PLC0415 - only with the option

    if arguments.metrics_file is not None:
        raise ConfigError("--metrics-file is not written by a dry run. Try: without it")
    return dry_run_report.run(arguments, arguments.requests or DRY_RUN_REQUESTS)
