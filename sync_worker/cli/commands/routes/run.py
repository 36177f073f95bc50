"""`routes test`: which rule would take how many traces, and which Kelet projects would come to be."""

from __future__ import annotations

import argparse

from sync_worker.cli.commands.backfill.run import check_interval, interval_of
from sync_worker.cli.leased_run import for_each_source
from sync_worker.cli.output import print_json, print_line, print_table
from sync_worker.runs.route_test import RouteTest, count_by_rule
from sync_worker.sync.source_sync import SourceSync
from sync_worker.wording import counted


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    start = "1h" if arguments.start is None else arguments.start
    end = "now" if arguments.end is None else arguments.end
    check_interval(start, end)
    found: list[RouteTest] = []

    async def test(sync: SourceSync) -> None:
        interval = interval_of(start, end, sync.clock.now_ms())
        found.append(await count_by_rule(sync, interval, max(1, arguments.traces)))

    code, errors = for_each_source(arguments, test, must_exist=False)
    if arguments.json:
        print_json({"exit_code": code, "sources": [one.as_json() for one in found], "errors": errors})
    else:
        for one in found:
            _print(one)
    return code


def _print(found: RouteTest) -> None:
    read = counted(found.observations_read, "observation")
    print_line(f"{found.source}: {counted(found.traces, 'trace')}, of {read} read; nothing was sent")
    rows = [
        (
            str(one["traces"]), one["rule"], one["project"] or "not sent",
            "nothing was sent there before" if one["is_new_project"] else "",
        )
        for one in found.as_json()["rules"]
    ]  # fmt: skip
    print_table(("traces", "rule", "Kelet project", ""), rows)
