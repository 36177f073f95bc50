"""`privacy test`: what the rules of redaction find in real observations, or in a file. Sends nothing."""

from __future__ import annotations

from sync_worker.cli.options import READS, Subparsers, add_common_options, path, runs, text

GROUP, PLACE = "try rules without sending", 3


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("privacy", help="show what the redaction rules find; sends nothing")
    test = parser.add_subparsers(metavar="test", required=True).add_parser(
        "test", help="try the redaction rules on the newest observations, on traces or on a file; sends nothing"
    )
    test.add_argument(
        "file", metavar="FILE", nargs="?", type=path, help="a JSON response of Langfuse's API, or - for stdin"
    )
    test.add_argument(
        "--trace", metavar="ID", type=text, action="append", default=[], help="only this trace; may be repeated"
    )
    test.add_argument(
        "--observations", metavar="N", type=int, default=1_000, help="maximum number of newest observations"
    )
    test.add_argument(
        "--samples", action="store_true", help="show samples before and after redaction; a terminal always shows them"
    )
    add_common_options(test, source=True)
    runs(
        test, "privacy.run", "the result is printed", READS,
        ("privacy test", "what SYNC_REDACT finds in the newest observations"),
        ("privacy test observations.json --samples", "the same in a saved response, with samples"),
    )  # fmt: skip
