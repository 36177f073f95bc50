"""`send TRACE`: sends traces by id, now."""

from __future__ import annotations

from sync_worker.cli.options import SENDS, Subparsers, add_common_options, runs, text
from sync_worker.errors import ExitCode

GROUP, PLACE = "sync", 5


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("send", help="send traces by id now; sent observations are skipped")
    parser.add_argument("traces", metavar="TRACE", type=text, nargs="+", help="trace id in Langfuse")
    parser.add_argument(
        "--again",
        action="store_true",
        help="send all observations of the traces again, under the same ids",
    )
    add_common_options(parser, source=True)
    runs(
        parser, "send.run", "the traces are sent, or were sent before", (*SENDS, ExitCode.GAPS),
        ("send 65f498eebbbb84743d31525c44ef0c36", "one trace, now"),
        ("send 65f498eebbbb84743d31525c44ef0c36 --again", "all of it again, under the same ids"),
        other={ExitCode.GAPS: "a trace is not in Langfuse, or was not sent whole: its line says why"},
    )  # fmt: skip
