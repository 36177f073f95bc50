"""`config`: every setting, its value and where it came from; a schema of `sync.toml`."""

from __future__ import annotations

from sync_worker.cli.options import OFFLINE, Subparsers, add_common_options, runs
from sync_worker.errors import ExitCode

GROUP, PLACE = "set up", 4


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("config", help="show every setting, its value and where it comes from")
    verbs = parser.add_subparsers(metavar="show|schema", required=True)
    schema = verbs.add_parser("schema", help="print a JSON Schema of sync.toml, for editors")
    runs(
        schema, "config.run_schema", "the schema is printed", (ExitCode.TRANSIENT, ExitCode.USAGE),
        ("config schema", "save it as sync.schema.json; `#:schema ./sync.schema.json` in sync.toml names it"),
    )  # fmt: skip
    show = verbs.add_parser("show", help="print every setting, its value and where it comes from")
    add_common_options(show)
    runs(show, "config.run_show", "the settings are printed", OFFLINE, ("config show", "where each value comes from"))
