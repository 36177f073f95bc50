"""`explain TRACE`: why a trace is, or is not, in Kelet."""

from __future__ import annotations

from sync_worker.cli.options import READS, Subparsers, add_common_options, runs, text
from sync_worker.errors import ExitCode

GROUP, PLACE = "inspect and repair", 3


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("explain", help="show why a trace is, or is not, in Kelet")
    parser.add_argument("trace", metavar="TRACE", type=text, help="trace id in Langfuse")
    add_common_options(parser, source=True)
    runs(
        parser, "explain.run", "the answer is printed", (*READS, ExitCode.GAPS),
        ("explain 65f498eebbbb84743d31525c44ef0c36", "is it pending, sent, rejected, filtered, or not due?"),
        other={ExitCode.GAPS: "the trace is neither in Langfuse nor in the state file"},
    )  # fmt: skip
