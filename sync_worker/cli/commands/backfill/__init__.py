"""`backfill`: syncs the history between two times, once; a rerun resumes."""

from __future__ import annotations

from sync_worker.cli.options import (
    SENDS,
    Subparsers,
    add_common_options,
    add_interval_options,
    add_jobs_option,
    add_metrics_option,
    runs,
)
from sync_worker.errors import MEANINGS, ExitCode

#: Kubernetes sets it to the index of the pod in an Indexed Job
#: (https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode).
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
_RANGE = "--from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z"

GROUP, PLACE = "sync", 4


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("backfill", help="sync the history between two times; a rerun resumes")
    add_interval_options(parser, required=True)
    add_jobs_option(parser, "divide a long range among them")
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help=f"only shard I of N, counted from 0, with a state file of its own, usually on its own machine; "
        f"`auto/N` takes I from {INDEX_VARIABLE}",
        otherwise="the whole interval",
    )
    parser.add_argument(
        "--scores",
        choices=("too", "only", "none"),
        help="whether scores of the interval are sent as signals: after the spans, alone, or not",
        otherwise="too, where SYNC_SCORES is on",
    )
    add_common_options(parser, source=True)
    add_metrics_option(parser)
    runs(
        parser, "backfill.run", MEANINGS[ExitCode.OK], SENDS,
        ("backfill --from 30d --to now", "the last 30 days; the same command resumes"),
        ("backfill --from 90d --to now --jobs 4", "divided among four processes"),
        (f"backfill {_RANGE} --shard 0/4 --state shard-0.db", "the first of four machines"),
    )  # fmt: skip
