"""The command line: one module a command; `main` is the entry point."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from sync_worker import __version__
from sync_worker.cli.commands import COMMANDS
from sync_worker.cli.output import finish, prepare, print_help, print_json, say
from sync_worker.cli.signals import Interrupted
from sync_worker.errors import ExitCode, SyncError

log = logging.getLogger(__name__)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that prints through `output`: arguments that it quotes may contain control characters."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            print_help(message, on_stdout=file is None or file is not sys.stderr)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the arguments, and exit with 2."""
        print_help(self.format_usage(), on_stdout=False)
        say(f"{self.prog}: error: {message}")
        self.exit(ExitCode.USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code (see `errors.ExitCode`)."""
    prepare()
    try:
        arguments = build_parser().parse_args(argv)
    except SystemExit as ended:  # after --help, --version or a printed usage error
        return finish(int(ended.code or ExitCode.OK))
    return finish(_run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    try:
        return int(arguments.run(arguments))
    except SyncError as error:
        for line in error.lines:
            say(f"sync-worker: {line}")
        if getattr(arguments, "json", False):
            print_json({"error": str(error), "exit_code": error.exit_code})
        return error.exit_code
    except Interrupted as stop:
        return stop.exit_code
    except KeyboardInterrupt:
        return ExitCode.SIGINT
    except Exception as error:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("unexpected", exc_info=True)
        line = (
            f"unexpected {type(error).__name__}: {error}. Nothing without a response counts as sent. "
            "Try: the same command with SYNC_LOG_LEVEL=debug, and report its output"
        )
        say(f"sync-worker: {line}")
        if getattr(arguments, "json", False):
            print_json({"error": line, "exit_code": ExitCode.TRANSIENT})
        return ExitCode.TRANSIENT


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = Parser(
        prog="sync-worker",
        description="Syncs the observations of a Langfuse project to a Kelet project.",
        epilog="Settings come from the environment, .env or sync.toml; `sync-worker config show` lists them.",
    )
    parser.add_argument("--version", action="version", version=f"sync-worker {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_to(subparsers)
    return parser
