"""`once`: one cycle of every source, for cron and CronJob."""

from __future__ import annotations

import argparse

from sync_worker.cli.common import (
    Subparsers,
    add_common_options,
    chosen_sources,
    held_lease,
    run_async,
    settings_for,
    state_file,
    with_beats,
)
from sync_worker.cli.output import print_json, say
from sync_worker.clock import Stopped, SystemClock
from sync_worker.errors import ExitCode
from sync_worker.ledger import Ledger
from sync_worker.ledger.lease import LIVE
from sync_worker.settings import Settings, Source
from sync_worker.sync.engine import Engine
from sync_worker.sync.report import SourceReport
from sync_worker.watch.progress import ProgressLine


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("once", help="one cycle of every source, for cron and CronJob")
    add_common_options(parser, source=True)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    settings = settings_for(arguments)
    sources = chosen_sources(settings, arguments)
    clock = SystemClock()
    with state_file(settings, clock) as ledger:
        return run_async(lambda: cycle(settings, sources, ledger, clock, as_json=arguments.json), clock)


async def cycle(
    settings: Settings, sources: tuple[Source, ...], ledger: Ledger, clock: SystemClock, *, as_json: bool
) -> int:
    """Do one cycle of the sources and tell what it did."""
    engine = Engine(settings, ledger, clock, settings.patience.total_seconds())
    started = clock.now_ms()
    line = ProgressLine("once")
    with held_lease(ledger, LIVE) as lease:
        try:
            reports, code = await with_beats(
                ledger, lease, engine.each(sources, lambda source: engine.live(source, line))
            )
        except Stopped:
            line.close()
            say("sync-worker: stopped; what was answered is kept, the next run goes on from there")
            return ExitCode.OK
        finally:
            line.close()
        ledger.note_run("once", started, code, {"sources": [report.as_json() for report in reports]})
    tell(reports, code, as_json=as_json)
    return code


def tell(reports: list[SourceReport], code: int, *, as_json: bool) -> None:
    """Print what a run did: an object on stdout, or lines for people on stderr."""
    if as_json:
        print_json({"exit_code": code, "sources": [report.as_json() for report in reports]})
        return
    for report in reports:
        say(report.line())
