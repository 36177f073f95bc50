"""`run`: cycles on a schedule, until SIGTERM."""

from __future__ import annotations

from sync_worker.cli.options import ENDS, Subparsers, add_common_options, runs
from sync_worker.errors import ExitCode

GROUP, PLACE = "sync", 2


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("run", help="run cycles on a schedule, until SIGTERM")
    add_common_options(parser, source=True, json=False)
    runs(
        parser, "run.run", "stopped by SIGTERM or Ctrl-C, after the requests in flight",
        (ExitCode.TRANSIENT, ExitCode.USAGE, ExitCode.CREDENTIALS, ExitCode.LEASE, *ENDS),
        ("run", "a cycle every SYNC_INTERVAL, until Ctrl-C or SIGTERM"),
        other={
            ExitCode.CREDENTIALS: "no source is left whose credentials are accepted",
            ExitCode.SIGINT: "stopped at once by a second Ctrl-C",
            ExitCode.SIGTERM: "stopped at once by a second SIGTERM",
        },
    )  # fmt: skip
