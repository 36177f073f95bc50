"""`check`: settings, credentials, API, clocks and state file; sends no trace."""

from __future__ import annotations

from sync_worker.cli.options import READS, Subparsers, add_common_options, runs

GROUP, PLACE = "set up", 3


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "check", help="test settings, credentials, API, clocks and state file; sends no trace"
    )
    parser.add_argument(
        "--skip-target", action="store_true", help="do not check the target and its key with an empty request"
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        help="check only the settings, for CI: no request, no state file, and missing keys are no error",
    )
    add_common_options(parser, source=True)
    runs(
        parser, "check.run", "every check passed", READS,
        ("check", "before the first run, and when something does not work"),
        ("check --offline --config deploy/sync.toml", "in CI, without keys, before the file is deployed"),
        ("check --skip-target", "send nothing at all, not even the empty request that tests the target's key"),
    )  # fmt: skip
