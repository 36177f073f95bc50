"""`convert`: prints the spans of observations as OTLP/JSON; sends nothing."""

from __future__ import annotations

from typing import get_args

from sync_worker.choices import Api, AttributeProfile
from sync_worker.cli.options import READS, Subparsers, add_common_options, path, runs, text

GROUP, PLACE = "try rules without sending", 1


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "convert", help="print the spans of observations in a file as OTLP/JSON; sends nothing"
    )
    parser.add_argument(
        "file", metavar="FILE", nargs="?", type=path, help="a JSON response of Langfuse's API, or - for stdin"
    )
    parser.add_argument("--trace", metavar="ID", type=text, help="read this trace from Langfuse instead of a file")
    parser.add_argument(
        "--api",
        metavar="API",
        choices=get_args(Api),
        help="API generation of a file",
        otherwise="detected from its fields",
    )
    parser.add_argument(
        "--attributes",
        metavar="PROFILE",
        choices=get_args(AttributeProfile),
        help="attribute conventions for a file, as SYNC_ATTRIBUTES",
        otherwise="both",
    )
    add_common_options(parser, source=True)
    runs(
        parser, "convert.run", "the spans are printed", READS,
        ("convert observations.json", "the spans of a saved response"),
        ("convert --trace 65f498eebbbb84743d31525c44ef0c36", "the spans of a trace, read from Langfuse"),
    )  # fmt: skip
