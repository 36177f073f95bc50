"""`scores test`: prints what scores would become as signals, name by name. Sends nothing, stores nothing."""

from __future__ import annotations

from sync_worker.cli.options import READS, Subparsers, add_common_options, runs

GROUP, PLACE = "try rules without sending", 4


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("scores", help="show what scores become as signals")
    test = parser.add_subparsers(metavar="test", required=True).add_parser(
        "test", help="show what each score name would become, with examples; sends nothing"
    )
    when = "an ISO 8601 time, a duration before now or `now`"
    test.add_argument("--from", dest="start", metavar="TIME", default="14d", help=when)
    test.add_argument("--to", dest="end", metavar="TIME", default="now", help=when)
    add_common_options(test, source=True)
    runs(
        test, "scores.run", "the result is printed", READS,
        ("scores test --from 30d", "what the scores of the last 30 days would become"),
    )  # fmt: skip
