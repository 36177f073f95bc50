"""`verify`: lists completed intervals again and compares them with the ledger; exit 6 when observations are missing."""

from __future__ import annotations

from sync_worker.cli.options import READS, Subparsers, add_common_options, add_interval_options, runs
from sync_worker.errors import ExitCode

GROUP, PLACE = "inspect and repair", 2


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "verify", help="compare completed intervals with Langfuse; exit 6 when observations are missing"
    )
    add_interval_options(parser, required=False, otherwise=("the longest lookback window before now", "now"))
    parser.add_argument(
        "--repair", action="store_true", help="reopen intervals with missing observations: the next run sends them"
    )
    parser.add_argument(
        "--resend", action="store_true", help="with --repair: send missing observations now, in this run"
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="with --resend: include hours of which only the count is kept; all observations of such an hour are sent"
        " again, under the same ids",
    )
    add_common_options(parser, source=True)
    runs(
        parser, "verify.run", "nothing is missing", (*READS, ExitCode.LEASE, ExitCode.GAPS),
        ("verify", "compare the longest lookback window"),
        ("verify --from 30d --to now --repair --resend", "send missing observations of the last 30 days"),
    )  # fmt: skip
