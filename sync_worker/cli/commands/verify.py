"""`verify`: lists covered time again and compares it with the ledger; exit 6 when something is missing."""

from __future__ import annotations

import argparse

from sync_worker.cli.commands.backfill import add_interval_options, check_interval, interval_of
from sync_worker.cli.common import Subparsers, add_common_options
from sync_worker.cli.output import print_json, print_line
from sync_worker.cli.working import ask
from sync_worker.errors import ConfigError, ExitCode
from sync_worker.ledger.lease import BACKFILL
from sync_worker.runs.verify import Hour, Verdict
from sync_worker.sync.engine import overall
from sync_worker.sync.source import SourceSync
from sync_worker.times import iso_time


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("verify", help="list covered time again and compare; exit 6 when rows are missing")
    add_interval_options(parser, required=False)
    parser.add_argument("--repair", action="store_true", help="open what lacks rows again: the next run sends them")
    parser.add_argument("--resend", action="store_true", help="with --repair: send what is missing now, in this run")
    parser.add_argument(
        "--again",
        action="store_true",
        help="with --resend: also where it is forgotten which rows were sent; all rows of such an hour go out again, "
        "under the same ids",
    )
    add_common_options(parser, source=True)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if (arguments.start is None) != (arguments.end is None):
        raise ConfigError("--from and --to go together. Try: both, or neither for the whole look-back")
    if arguments.resend and not arguments.repair:
        raise ConfigError("--resend goes with --repair. Try: verify --repair --resend")
    if arguments.again and not arguments.resend:
        raise ConfigError("--again goes with --resend. Try: verify --repair --resend --again")
    if arguments.start is not None:
        check_interval(arguments.start, arguments.end)
    verdicts: list[Verdict] = []

    async def look(sync: SourceSync) -> None:
        now = sync.clock.now_ms()
        interval = None if arguments.start is None else interval_of(arguments.start, arguments.end, now)
        found = await sync.verify(interval, repair=arguments.repair and not arguments.resend)
        if arguments.resend and found.hours:
            if not arguments.json:
                _announce(found, again=arguments.again)
            found = await sync.resend(interval, found, again=arguments.again)
        verdicts.append(found)

    role = BACKFILL if arguments.resend else None
    code, errors = ask(arguments, look, must_exist=True, role=role, only_reads=not arguments.repair)
    complete = all(verdict.complete for verdict in verdicts)
    code = overall([code, ExitCode.OK if complete else ExitCode.GAPS])
    if arguments.json:
        print_json({"exit_code": code, "sources": [verdict.as_json() for verdict in verdicts], "errors": errors})
    else:
        for verdict in verdicts:
            _print(verdict)
    return code


def _announce(found: Verdict, *, again: bool) -> None:
    """Say before anything is sent how much would go out, and how much of it again."""
    for hour in found.hours:
        print_line(f"{found.source}: {_hour(hour)}")
        if hour.forgotten and not again:
            print_line("  refused: it would send rows again that are forgotten. Try: --again")
        else:
            print_line(f"  sending {hour.missing} that are missing, and at most {hour.again} again, under the same ids")


def _hour(hour: Hour) -> str:
    note = f" ({hour.again} of the others are forgotten: compared by count)" if hour.forgotten else ""
    return f"missing  {hour.missing} of {hour.listed} rows of the hour from {iso_time(hour.start_ms)}{note}"


def _print(verdict: Verdict) -> None:
    words = "complete" if verdict.complete else f"{verdict.missing} rows missing, {len(verdict.gaps)} gaps"
    through = "" if verdict.complete_to_ms is None else f", complete through {iso_time(verdict.complete_to_ms)}"
    for interval in verdict.resent:
        print_line(f"{verdict.source}: sent again {iso_time(interval.start)} to {iso_time(interval.end)}")
    if verdict.resent:
        print_line(f"{verdict.source}: {verdict.spans_sent} spans sent; compared once more:")
    print_line(
        f"{verdict.source}: {words}{through}; {verdict.observations_listed} rows listed in {verdict.requests} requests"
    )
    for gap in verdict.gaps:
        print_line(f"  gap      {iso_time(gap.start)} to {iso_time(gap.end)}: the next run reads it")
    for hour in verdict.hours:
        print_line(f"  {_hour(hour)}")
        for trace, row in list(hour.observations)[:3]:
            print_line(f"           trace {trace} row {row}")
    for interval in verdict.reopened:
        print_line(
            f"  opened   {iso_time(interval.start)} to {iso_time(interval.end)}: the next run sends what is missing, "
            "of time before the sync start the next backfill does. Try: --resend, which does it now"
        )
    if any(hour.forgotten for hour in verdict.hours):
        print_line("  which rows were sent is forgotten there. Try: --repair --resend --again: all of the hour goes")
