"""`verify`: lists covered time again and compares it with the ledger; exit 6 when something is missing."""

from __future__ import annotations

import argparse

from sync_worker.cli.commands.backfill import add_stretch_options, stretch_of
from sync_worker.cli.common import Subparsers, add_common_options
from sync_worker.cli.output import print_json, print_line
from sync_worker.cli.working import ask
from sync_worker.clock import SystemClock
from sync_worker.errors import ConfigError, ExitCode
from sync_worker.sync.engine import overall
from sync_worker.sync.source import SourceSync
from sync_worker.sync.verify import Verdict
from sync_worker.times import iso_time


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("verify", help="list covered time again and compare; exit 6 when rows are missing")
    add_stretch_options(parser, required=False)
    parser.add_argument("--repair", action="store_true", help="open what lacks rows again: the next run sends them")
    add_common_options(parser, source=True)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if (arguments.start is None) != (arguments.end is None):
        raise ConfigError("--from and --to go together. Try: both, or neither for the whole look-back")
    now = SystemClock().now_ms()
    stretch = None if arguments.start is None else stretch_of(arguments.start, arguments.end, now)
    verdicts: list[Verdict] = []

    async def look(sync: SourceSync) -> None:
        verdicts.append(await sync.verify(stretch, repair=arguments.repair))

    code, errors = ask(arguments, look, must_exist=True, only_reads=not arguments.repair)
    complete = all(verdict.complete for verdict in verdicts)
    code = overall([code, ExitCode.OK if complete else ExitCode.GAPS])
    if arguments.json:
        print_json({"exit_code": code, "sources": [verdict.as_json() for verdict in verdicts], "errors": errors})
    else:
        for verdict in verdicts:
            _print(verdict)
    return code


def _print(verdict: Verdict) -> None:
    words = "complete" if verdict.complete else f"{verdict.missing} rows missing, {len(verdict.gaps)} gaps"
    through = "" if verdict.complete_to_ms is None else f", complete through {iso_time(verdict.complete_to_ms)}"
    print_line(f"{verdict.source}: {words}{through}; {verdict.rows_listed} rows listed in {verdict.requests} requests")
    for gap in verdict.gaps:
        print_line(f"  gap      {iso_time(gap.start)} to {iso_time(gap.end)}: the next run reads it")
    for hour in verdict.hours:
        note = " (forgotten rows, compared by count: a backfill would repeat the others)" if hour.forgotten else ""
        print_line(f"  missing  {hour.missing} of {hour.listed} rows of the hour from {iso_time(hour.start_ms)}{note}")
        for trace, row in list(hour.rows)[:3]:
            print_line(f"           trace {trace} row {row}")
    for window in verdict.reopened:
        print_line(f"  opened   {iso_time(window.start)} to {iso_time(window.end)}: the next run sends what is missing")
