"""`once --dry-run`: what the next cycle would send. Sends nothing, and stores nothing."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from contextlib import closing

from sync_worker.cli.common import run_async, select_sources, settings_for
from sync_worker.cli.output import print_json, print_line
from sync_worker.clock import SystemClock
from sync_worker.ledger import lease as leases
from sync_worker.ledger import open_scratch
from sync_worker.ledger.pauses import active_pauses, delete_pauses
from sync_worker.sync.dry_run import SESSION, USER, Destination, DryRun, dry_run
from sync_worker.sync.engine import overall
from sync_worker.times import iso_time


def run(arguments: argparse.Namespace, most_requests: int) -> int:
    """Run the command with at most so many requests to Langfuse for each source."""
    settings = settings_for(arguments)
    sources = select_sources(settings, arguments)
    clock = SystemClock()
    has_state = os.path.exists(settings.state_path)  # noqa: PTH110 - a path that cannot be one is reported below
    found: list[DryRun] = []
    with closing(open_scratch(settings.state_path, clock)) as scratch:
        leases.pretend(scratch, leases.LIVE)
        paused = active_pauses(scratch)
        delete_pauses(scratch, paused)

        async def work() -> int:
            results, codes = await dry_run(settings, sources, scratch, clock, most_requests)
            found.extend(results)
            return overall(codes)

        code = run_async(work, clock)
    if arguments.json:
        print_json({"exit_code": code, "sources": [one.as_json() for one in found]})
        return code
    print_line("dry run: nothing was sent, and nothing was stored")
    if not has_state:
        print_line(f"there is no state file at {settings.state_path} yet: this is what a first run would do")
    for pause in paused:
        what = " ".join(filter(None, (pause.source, pause.project and f"the Kelet project {pause.project}")))
        print_line(f"{what} is paused: this is what would be sent after `sync-worker resume`")
    for one in found:
        _print(one, most_requests)
    return code


def _print(one: DryRun, most_requests: int) -> None:
    report = one.report
    print_line()
    print_line(
        f"{report.source} to {report.target}: {_number(sum(to.spans.total() for to in one.destinations), 'span')} of "
        f"{_number(report.traces_sent, 'trace')} would be sent, {report.bytes_sent / 1024:,.0f} KiB in "
        f"{_number(report.kelet_requests, 'request')}"
    )
    for destination in one.destinations:
        _print_destination(destination)
    for what, counts in (
        ("replaced", one.replaced), ("filtered", one.filtered), ("dead letters", one.dead_letters),
        ("signals", one.signals),
    ):  # fmt: skip
        if counts:
            print_line(f"  {what:<13} {_listed(counts)}")
    for reason in one.reasons:
        print_line(f"                {reason}")
    if report.traces_pending:
        print_line(f"  pending       {_number(report.traces_pending, 'trace')} until they end")
    print_line(f"  read          {_read(one, most_requests)}")
    if report.error is not None:
        print_line(f"  stopped       {report.error}")


def _print_destination(one: Destination) -> None:
    new = " (nothing was sent there before)" if one.is_new else ""
    spans, traces = _number(one.spans.total(), "span"), _number(len(one.spans), "trace")
    print_line(f"  project       {one.project}{new}: {spans} of {traces}")
    for example in one.examples:
        parts = [f"for example   {example.trace_id}", iso_time(example.start_ms), example.texts["name"]]
        parts += [
            f"{what} {example.texts[name]}"
            for what, name in (("session", SESSION), ("user", USER))
            if name in example.texts
        ]
        print_line(f"    {', '.join(parts)}, {_number(one.spans[example.trace_id], 'span')}")
    for example in one.examples[:1]:
        print_line(f"    all of it:    sync-worker convert --trace {example.trace_id}")


def _read(one: DryRun, most_requests: int) -> str:
    report = one.report
    counts = f"{_number(report.observations_read, 'observation')} in {_number(report.langfuse_requests, 'request')}"
    if one.is_complete:
        return f"{counts}: all that is due"
    if report.error is not None or one.due_to_ms is None:
        return counts
    due = f"due is up to {iso_time(one.due_to_ms)}"
    if one.read_from_ms is not None and one.read_to_ms is not None and one.read_to_ms > one.read_from_ms:
        due = f"complete from {iso_time(one.read_from_ms)} to {iso_time(one.read_to_ms)}, {due}"
    return f"{counts}, then it stopped at {most_requests} requests: {due}. Try: --requests {most_requests * 5}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")
