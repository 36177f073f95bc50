"""The command line of the benchmark: `scripts/bench [MODE]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench.freshness import freshness
from bench.growth import growth
from bench.idle import idle
from bench.jobs import jobs
from bench.machine import ClientFailed
from bench.memory import memory
from bench.profile import functions_table, profile
from bench.redaction import redaction
from bench.report import Report
from bench.shape import HOUR_MS, recent
from bench.shards import shards
from bench.speed import speed
from bench.starts import starts

_SMALL = 6_000  # rows of a project of three hours, where their number is not what is measured


def main() -> int:
    """Run a mode, print what it found, and end with 1 when a program failed or a row was lost or sent twice."""
    arguments = _parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.folder) as folder:
        try:
            report = _measured(arguments, Path(folder))
        except ClientFailed as fault:
            print(f"bench: {fault}", file=sys.stderr)
            return 1
    print(report.as_text())
    if report.mode == "profile":
        print("\n" + functions_table(report))
    if arguments.json:
        report.write(arguments.json)
    return 0


def _measured(arguments: argparse.Namespace, folder: Path) -> Report:
    small = recent(_SMALL, block_rows=_SMALL // 3, period_ms=HOUR_MS)
    match arguments.mode:
        case "start":
            return starts(small, folder, arguments.rounds or 11)
        case "idle":
            return idle(small, folder)
        case "freshness":
            return freshness(arguments.rate, arguments.minutes, arguments.interval, folder)
        case "memory":
            return memory(arguments.sizes, folder, arguments.jobs or 1)
        case "growth":
            return growth(arguments.scale, folder)
        case "profile":
            return profile(recent(arguments.rows), folder)
        case "redaction":
            return redaction(recent(_SMALL), arguments.rounds or 5)
        case "jobs":
            return jobs(
                recent(arguments.rows),
                folder,
                arguments.rounds or 3,
                arguments.jobs or 2,
                with_others=not arguments.alone,
            )
        case "shards":
            return shards(recent(arguments.rows), folder, arguments.rounds or 3)
    return speed(recent(arguments.rows), folder, arguments.rounds or 3, with_others=not arguments.alone)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures the worker against local servers.")
    parser.add_argument("mode", nargs="?", default="speed",
                        choices=("speed", "start", "idle", "memory", "growth", "profile", "redaction",
                                 "shards", "jobs", "freshness"))  # fmt: skip
    parser.add_argument("--minutes", type=float, default=10, help="freshness: how long the flow lasts (10)")
    parser.add_argument("--rate", type=float, default=200, help="freshness: observations a second (200)")
    parser.add_argument("--interval", type=float, default=60, help="freshness: SYNC_INTERVAL in seconds (60)")
    parser.add_argument("--jobs", type=int, metavar="N",
                        help="jobs: how many beside one process (2); memory: how many (1)")  # fmt: skip
    parser.add_argument("--rows", type=int, default=20_000, help="rows of the project (speed, profile), up to 2000000")
    parser.add_argument("--rounds", type=int, help="how often each is measured (speed: 3, start: 11)")
    parser.add_argument("--alone", action="store_true", help="speed: only the worker, not what it is compared with")
    parser.add_argument("--sizes", type=_sizes, default=[20_000, 200_000], help="memory: rows, as 20000,200000,2000000")
    parser.add_argument("--scale", type=float, default=1.0, help="growth: times the usual numbers of rows")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON too")
    parser.add_argument("--folder", type=Path, help="where state files lie while measuring: a folder on a local disk")
    return parser


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
