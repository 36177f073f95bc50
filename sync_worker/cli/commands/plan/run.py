"""`plan`: estimates what a backfill would cost, without running it."""

from __future__ import annotations

import argparse

from sync_worker.cli.commands.backfill.run import check_interval, interval_of
from sync_worker.cli.leased_run import for_each_source
from sync_worker.cli.output import print_json, print_line
from sync_worker.runs.estimate import Estimate, estimate
from sync_worker.sync.source_sync import SourceSync
from sync_worker.wording import counted, in_words


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    check_interval(arguments.start, arguments.end)
    estimates: list[Estimate] = []

    async def work(sync: SourceSync) -> None:
        interval = interval_of(arguments.start, arguments.end, sync.clock.now_ms())
        estimates.append(await estimate(sync, interval))

    code, errors = for_each_source(arguments, work, must_exist=False)
    if arguments.json:
        print_json({"exit_code": code, "sources": [one.as_json() for one in estimates], "errors": errors})
    else:
        for one in estimates:
            _print(one)
    return code


def _print(one: Estimate) -> None:
    limit = f"at {one.requests_per_minute} a minute" if one.requests_per_minute else "the limit is not known yet"
    how = "counted by Langfuse" if one.counted else "an estimate from samples"
    margin = "" if one.margin_percent is None else f", bytes within {one.margin_percent} %"
    where = f"{counted(one.intervals_open, 'interval')} not synced yet"
    print_line(f"{one.source}: {counted(one.observations, 'observation')} ({how}{margin}) in {where}")
    if one.scores is not None:
        print_line(f"  scores    about {one.scores:,}, one signal each")
    print_line(f"  Langfuse  {counted(one.langfuse_requests, 'request')} ({limit}), {one.bytes_read / 1e6:,.1f} MB")
    print_line(
        f"  Kelet     {counted(one.kelet_requests, 'request')}, {one.bytes_sent / 1e6:,.1f} MB before compression"
    )
    print_line(f"  time      about {in_words(one.minutes * 60)}")
