"""`verify`: lists completed intervals again and compares them with the ledger; exit 6 when observations are missing."""

from __future__ import annotations

import argparse

from sync_worker.cli.commands.backfill.run import check_interval, interval_of
from sync_worker.cli.leased_run import for_each_source
from sync_worker.cli.output import print_json, print_line
from sync_worker.errors import ConfigError, ExitCode
from sync_worker.ledger.lease import BACKFILL
from sync_worker.runs.resend import resend
from sync_worker.runs.verify import Hour, Verdict, verify
from sync_worker.sync.engine import overall
from sync_worker.sync.source_sync import SourceSync
from sync_worker.times import iso_time
from sync_worker.wording import counted


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if (arguments.start is None) != (arguments.end is None):
        raise ConfigError("--from and --to are used together. Try: both, or neither for the whole lookback window")
    if arguments.resend and not arguments.repair:
        raise ConfigError("--resend requires --repair. Try: verify --repair --resend")
    if arguments.again and not arguments.resend:
        raise ConfigError("--again requires --resend. Try: verify --repair --resend --again")
    if arguments.start is not None:
        check_interval(arguments.start, arguments.end)
    verdicts: list[Verdict] = []

    async def work(sync: SourceSync) -> None:
        now = sync.clock.now_ms()
        interval = None if arguments.start is None else interval_of(arguments.start, arguments.end, now)
        found = await verify(sync, interval, repair=arguments.repair and not arguments.resend)
        if arguments.resend and found.hours:
            if not arguments.json:
                _announce(found, again=arguments.again)
            found = await resend(sync, interval, found, again=arguments.again)
        verdicts.append(found)
        if arguments.resend:
            sync.session.delivery.check()

    role = BACKFILL if arguments.resend else None
    code, errors = for_each_source(arguments, work, must_exist=True, role=role, only_reads=not arguments.repair)
    complete = all(verdict.complete for verdict in verdicts)
    code = overall([code, ExitCode.OK if complete else ExitCode.GAPS])
    if arguments.json:
        print_json({"exit_code": code, "sources": [verdict.as_json() for verdict in verdicts], "errors": errors})
    else:
        for verdict in verdicts:
            _print(verdict)
    return code


def _announce(found: Verdict, *, again: bool) -> None:
    """Print before sending how many observations will be sent, and how many of them again."""
    for hour in found.hours:
        print_line(f"{found.source}: {_hour(hour)}")
        if hour.forgotten and not again:
            print_line("  skipped: it would send observations again that were forgotten. Try: --again")
        else:
            print_line(f"  sending {hour.missing} missing, and at most {hour.again} again, under the same ids")


def _hour(hour: Hour) -> str:
    note = f" ({hour.again:,} of the others forgotten, and compared by count)" if hour.forgotten else ""
    listed = counted(hour.listed, "observation")
    return f"missing  {hour.missing:,} of {listed} of the hour from {iso_time(hour.start_ms)}{note}"


def _print(verdict: Verdict) -> None:
    missing = f"{counted(verdict.missing, 'observation')} missing, {counted(len(verdict.gaps), 'gap')}"
    words = "complete" if verdict.complete else missing
    through = "" if verdict.complete_to_ms is None else f", complete through {iso_time(verdict.complete_to_ms)}"
    for interval in verdict.resent:
        print_line(f"{verdict.source}: sent again {iso_time(interval.start)} to {iso_time(interval.end)}")
    if verdict.resent:
        print_line(f"{verdict.source}: {counted(verdict.spans_sent, 'span')} sent; compared again:")
    print_line(
        f"{verdict.source}: {words}{through}; "
        f"{counted(verdict.observations_listed, 'observation')} listed in {counted(verdict.requests, 'request')}"
    )
    if verdict.scores is not None:
        found = verdict.scores
        print_line(
            f"  scores   {found.listed} listed, {len(found.missing)} not taken yet, {found.waiting} waiting for a trace"
            + (": the next cycles list them, or --repair, which has the next one list all" if found.missing else "")
        )
    for gap in verdict.gaps:
        print_line(f"  gap      {iso_time(gap.start)} to {iso_time(gap.end)}: the next run reads it")
    for hour in verdict.hours:
        print_line(f"  {_hour(hour)}")
        for trace_id, observation_id in list(hour.observations)[:3]:
            print_line(f"           trace {trace_id} observation {observation_id}")
    for interval in verdict.reopened:
        print_line(
            f"  reopened {iso_time(interval.start)} to {iso_time(interval.end)}: the next run sends what is missing; "
            "before the sync start, the next backfill does. Try: --resend, which sends it now"
        )
    if any(hour.forgotten for hour in verdict.hours):
        print_line(
            "  only counts are kept for such hours. Try: --repair --resend --again, which sends all of each hour"
        )
