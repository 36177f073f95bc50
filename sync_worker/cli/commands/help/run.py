"""`help`: what to do first, or the help of a command."""

from __future__ import annotations

import argparse

from sync_worker.cli.parser import build_parser
from sync_worker.errors import ExitCode


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    build_parser().find(arguments.words).print_help()
    return ExitCode.OK


def run_without_command(_: argparse.Namespace) -> int:
    """Show what to do first. It is no success: a script that lost its command must not look like one."""
    build_parser().print_help()
    return ExitCode.USAGE
