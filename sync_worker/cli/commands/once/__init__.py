"""`once`: one cycle of every source, for cron and CronJob."""

from __future__ import annotations

from sync_worker.cli.options import (
    SENDS,
    Subparsers,
    add_common_options,
    add_jobs_option,
    add_metrics_option,
    number,
    runs,
)
from sync_worker.errors import MEANINGS, ExitCode

#: Requests to Langfuse of a dry run, of each source.
DRY_RUN_REQUESTS, _LEAST_REQUESTS, _MOST_REQUESTS = 20, 10, 10_000

GROUP, PLACE = "sync", 1


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("once", help="run one cycle of every source, for cron and CronJob")
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be sent, with examples; sends and stores nothing"
    )
    parser.add_argument(
        "--requests",
        metavar="N",
        type=number(_LEAST_REQUESTS, _MOST_REQUESTS),
        help="with --dry-run: maximum number of requests to Langfuse for each source",
        otherwise=str(DRY_RUN_REQUESTS),
    )
    add_jobs_option(parser, "help if a first run or an outage left more than 100,000 observations")
    add_common_options(parser, source=True)
    add_metrics_option(parser)
    runs(
        parser, "once.run", MEANINGS[ExitCode.OK], SENDS,
        ("once", "one cycle, as from cron; a rerun resumes"),
        ("once --dry-run", "what would be sent; nothing is sent or stored"),
        ("once --source shop --json", "one source of sync.toml, with a result for a script"),
    )  # fmt: skip
