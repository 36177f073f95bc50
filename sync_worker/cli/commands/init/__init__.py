"""`init`: writes `.env` by asking for what a first run needs. It sends nothing."""

from __future__ import annotations

from sync_worker.cli.options import ENDS, Subparsers, runs
from sync_worker.errors import ExitCode

GROUP, PLACE = "set up", 2


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("init", help="ask for keys and project, and write .env; sends nothing")
    runs(
        parser, "init.run", "the file is written", (ExitCode.USAGE, *ENDS),
        ("init", "asks for three keys and a project"), ("init --env-file prod.env", "another file"),
        other={
            ExitCode.USAGE: "nothing is written: there is no terminal, or the file was to be kept",
            ExitCode.SIGINT: "stopped by Ctrl-C; nothing is written",
            ExitCode.SIGTERM: "stopped by SIGTERM; nothing is written",
        },
    )  # fmt: skip
