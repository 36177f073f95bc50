"""`routes test`: which rule would take how many traces, and which Kelet projects would come to be."""

from __future__ import annotations

from sync_worker.cli.options import READS, Subparsers, add_common_options, add_interval_options, number, runs

GROUP, PLACE = "try rules without sending", 2


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("routes", help="show what filters and routes would do with real traces")
    test = parser.add_subparsers(metavar="ACTION", required=True).add_parser(
        "test", help="count the newest traces by matching rule and Kelet project; sends nothing"
    )
    add_interval_options(test, required=False, otherwise=("1h", "now"))
    test.add_argument("--traces", metavar="N", type=number(1), default=1_000, help="approximate number of traces")
    add_common_options(test, source=True)
    runs(
        test, "routes.run", "the counts are printed", READS,
        ("routes test --from 7d --to now", "where the traces of the last week would go"),
    )  # fmt: skip
