"""What can be typed: the commands that the packages of `commands` declare, and the options of all of them.

What a command runs with is imported when it runs, so `--help` and `--version` need none of it.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from sync_worker import __version__
from sync_worker.cli import commands
from sync_worker.cli.arguments import Parser
from sync_worker.cli.reference import GROUPS, PROGRAM


def build_parser() -> Parser:
    """Return the parser of all commands, by group and place.

    It sets `command`, the package of `commands` and the function of its module `run`, and `parser`, that of the
    command.
    """
    parser = Parser(
        prog=PROGRAM,
        description="Syncs the observations of a Langfuse project to a Kelet project. Settings come from the "
        "environment, .env or sync.toml.",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}", help="print the version")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    declared = [import_module(f"{commands.__name__}.{name}") for name in _packages_in(commands.__path__[0])]
    for group in GROUPS:
        members = sorted((one for one in declared if group == one.GROUP), key=lambda one: int(one.PLACE))
        before = set(parser.verbs())
        for one in members:
            one.add_to(subparsers)
        parser.groups[group] = [name for name in parser.verbs() if name not in before]
    parser.describe()
    parser.set_defaults(verbose=False, quiet=False, config=None, env_file=None, no_color=False)
    _add_options_of_every_command(parser)
    return parser


def _packages_in(folder: str) -> list[str]:
    """Return the names of the packages in a folder; pkgutil, which does the same, would import `inspect` first."""
    return sorted(module.parent.name for module in Path(folder).glob("*/__init__.py"))


def _add_options_of_every_command(parser: Parser) -> None:
    """Add what can be typed before and after each command. Only what was typed is set, so that neither unsets it."""
    unset = argparse.SUPPRESS
    parser.add_argument(
        "-v", "--verbose", action="store_true", default=unset, help="log every request, as SYNC_LOG_LEVEL=debug does"
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", default=unset, help="log errors only; no progress, no summary on stderr"
    )
    parser.add_argument(
        "--config", metavar="FILE", default=unset, help="the settings file; it must exist",
        otherwise="SYNC_CONFIG (./sync.toml, if it exists)",
    )  # fmt: skip
    parser.add_argument(
        "--env-file", metavar="FILE", default=unset, help="a file of variables instead of .env; it must exist",
        otherwise="./.env, if it exists",
    )  # fmt: skip
    parser.add_argument(
        "--no-color", action="store_true", default=unset, help="no colours on a terminal; so does NO_COLOR"
    )
    for _, command in parser.verbs().values():
        _add_options_of_every_command(command)
