"""The command line: `load` is the entry point, `parser` has what can be typed, `commands` one package a command."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from sync_worker.cli.output import finish, prepare, print_json, say
from sync_worker.cli.parser import build_parser
from sync_worker.cli.process_signals import Interrupted
from sync_worker.cli.terminal import forbid_colors
from sync_worker.errors import ExitCode, SyncError, describe_unexpected

log = logging.getLogger(__name__)


def load(argv: Sequence[str] | None = None) -> Callable[[], int]:
    """Import the command that was typed; return what runs it and returns its exit code (see `errors.ExitCode`).

    After `--help`, `--version` and arguments that are wrong there is nothing left to run but the exit code.
    """
    prepare()
    typed = sys.argv[1:] if argv is None else argv
    try:
        parser = build_parser()
        arguments = parser.parse_args(typed or ["help"])
        if not typed:
            arguments.command = ("help", "run_without_command")
        if arguments.verbose and arguments.quiet:
            arguments.parser.error("--verbose and --quiet exclude each other")
    except SystemExit as ended:
        code = finish(int(ended.code or ExitCode.OK))
        return lambda: code
    forbid_colors(forbidden=arguments.no_color)
    prepare(quiet=arguments.quiet)
    package, function = arguments.command
    run: Callable[[argparse.Namespace], int] = getattr(
        import_module(f"sync_worker.cli.commands.{package}.run"), function
    )
    return lambda: finish(_run(run, arguments))


def _run(run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    try:
        return int(run(arguments))
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
        line = describe_unexpected(error)
        say(f"sync-worker: {line}")
        if getattr(arguments, "json", False):
            print_json({"error": line, "exit_code": ExitCode.TRANSIENT})
        return ExitCode.TRANSIENT
