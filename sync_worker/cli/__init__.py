"""What a person types: one module a command, the face of the program here."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from sync_worker import __version__
from sync_worker.cli.commands import COMMANDS
from sync_worker.cli.output import print_json, say
from sync_worker.errors import ExitCode, SyncError

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code (see `errors.ExitCode`)."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except SyncError as fault:
        say(f"sync-worker: {fault}")
        if getattr(arguments, "json", False):
            print_json({"error": str(fault), "exit_code": fault.exit_code})
        return fault.exit_code
    except KeyboardInterrupt:
        return ExitCode.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as fault:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("unexpected", exc_info=True)
        say(
            f"sync-worker: unexpected {type(fault).__name__}: {fault}. Nothing that was not answered counts as done. "
            "Try: again with SYNC_LOG_LEVEL=debug, and report what it prints"
        )
        return ExitCode.TRANSIENT


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="sync-worker",
        description="Keeps a Kelet project in step with a Langfuse project.",
        epilog="Settings come from the environment, .env or sync.toml; `sync-worker config show` lists them.",
    )
    parser.add_argument("--version", action="version", version=f"sync-worker {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_to(subparsers)
    return parser
