"""`status`: watermark, lag, pending traces and dead letters of each source. Offline: reads only the state file."""

from __future__ import annotations

from sync_worker.cli.options import OFFLINE, Subparsers, add_common_options, runs

GROUP, PLACE = "inspect and repair", 1


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("status", help="show watermark, lag, pending traces and dead letters; offline")
    parser.add_argument(
        "--watch",
        metavar="TIME",
        nargs="?",
        const="2s",
        help="show it again every TIME (2s), until Ctrl-C",
        otherwise="shown once",
    )
    add_common_options(parser)
    runs(
        parser, "status.run", "the status is printed", OFFLINE,
        ("status", "how far each source is"), ("status --watch 5s", "again every 5 seconds, until Ctrl-C"),
    )  # fmt: skip
