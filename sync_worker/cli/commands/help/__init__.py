"""`help`: what to do first, or the help of a command."""

from __future__ import annotations

from sync_worker.cli.options import Subparsers, runs
from sync_worker.errors import ExitCode

GROUP, PLACE = "learn more", 1


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("help", help="show what to do first, or the help of a command")
    parser.add_argument(
        "words", metavar="COMMAND", nargs="*", help="a command, such as `backfill`, `dead-letters list`"
    )
    runs(
        parser, "help.run", "the help is printed", (ExitCode.USAGE,),
        ("help backfill", "the options of a command"), ("help", "what to do first, and all commands"),
    )  # fmt: skip
