"""`demo`: a complete sync of recorded observations to a local receiver, without an account."""

from __future__ import annotations

from sync_worker.cli.options import ENDS, Subparsers, runs
from sync_worker.errors import ExitCode

#: Traces that are shown without `--all`.
SHOWN_TRACES = 12

GROUP, PLACE = "set up", 1


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("demo", help="run a complete sync of recorded data, without an account")
    parser.add_argument("--all", action="store_true", help=f"show every trace, not only {SHOWN_TRACES}")
    parser.add_argument("--json", action="store_true", help="print the run's report as a JSON object on stdout")
    runs(
        parser, "demo.run", "the recorded observations arrived", (ExitCode.TRANSIENT, ExitCode.USAGE, *ENDS),
        ("demo", "the last lines say what arrived"), ("demo --all", "show every trace that arrived"),
    )  # fmt: skip
