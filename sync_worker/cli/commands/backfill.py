"""`backfill`: history, once, from one time to another; a rerun goes on where it stopped."""

from __future__ import annotations

import argparse
import os

from sync_worker.cli.common import Subparsers, add_common_options, chosen_sources, run_async, settings_for, state_file
from sync_worker.cli.shard import INDEX_VARIABLE, shard_of, whole_range
from sync_worker.cli.working import Job, do
from sync_worker.clock import SystemClock
from sync_worker.errors import ConfigError
from sync_worker.ledger.lease import BACKFILL
from sync_worker.settings import WrongValueError, parse_duration, parse_time
from sync_worker.times import iso_time, moment_ms, span_ms
from sync_worker.windows import Window


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("backfill", help="history, once; a rerun goes on where it stopped")
    add_stretch_options(parser, required=True)
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help=f"only the I-th of N shares of the range, counted from 0, on a machine and state file of its own; "
        f"`auto/N` takes I from {INDEX_VARIABLE}",
    )
    add_common_options(parser, source=True)
    parser.set_defaults(run=run)


def add_stretch_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add `--from` and `--to`."""
    when = "an ISO time (2026-01-31T00:00:00Z), a duration back from now (30d) or `now`"
    parser.add_argument("--from", dest="start", metavar="TIME", required=required, help=when)
    parser.add_argument("--to", dest="end", metavar="TIME", required=required, help=when)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    clock = SystemClock()
    now = clock.now_ms()
    shard = shard_of(arguments.shard, os.environ)
    if shard is None:
        stretch, parts, of = stretch_of(arguments.start, arguments.end, now), None, 1
    else:
        whole = whole_range(arguments.start, arguments.end, now)
        stretch, parts, of = Window(whole.start, min(whole.end, now)), shard.parts(whole), shard.of
    settings = settings_for(arguments)
    sources = chosen_sources(settings, arguments)
    job = Job(
        "backfill", BACKFILL, lambda engine, source, line: engine.backfill(source, stretch, line, parts), stretch, of
    )
    with state_file(settings, clock) as ledger:
        return run_async(lambda: do(job, settings, sources, ledger, clock, as_json=arguments.json), clock)


def stretch_of(start: str, end: str, now_ms: int) -> Window:
    """Return what `--from` and `--to` mean; a future end is cut to now. Raises ConfigError."""
    stretch = Window(_moment("--from", start, now_ms), min(_moment("--to", end, now_ms), now_ms))
    if stretch.length <= 0:
        raise ConfigError(
            f"--from {start} is not before --to {end} ({iso_time(stretch.start)} to {iso_time(stretch.end)}). "
            "Try: an earlier --from"
        )
    return stretch


def _moment(option: str, text: str, now_ms: int) -> int:
    if text == "now":
        return now_ms
    try:
        return now_ms - span_ms(parse_duration(text))
    except WrongValueError:
        pass
    try:
        return moment_ms(parse_time(text))
    except WrongValueError as fault:
        raise ConfigError(f"{option} {text!r}: {fault}. Try: 2026-01-31T00:00:00Z, 30d or now") from None
