"""`plan`: estimates what a backfill would cost, without running it."""

from __future__ import annotations

from sync_worker.cli.options import READS, Subparsers, add_common_options, add_interval_options, runs

GROUP, PLACE = "sync", 3


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "plan", help="estimate the cost of a backfill: observations, requests, minutes, bytes"
    )
    add_interval_options(parser, required=True)
    add_common_options(parser, source=True)
    runs(
        parser, "plan.run", "the estimate is printed", READS,
        ("plan --from 30d --to now", "what a backfill of the last 30 days would cost"),
    )  # fmt: skip
