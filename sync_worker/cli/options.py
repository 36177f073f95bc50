"""What the packages of `commands` declare their options with, and how each command runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sync_worker.cli.arguments import Parser
from sync_worker.cli.reference import Reference
from sync_worker.errors import ExitCode

#: Exit codes that commands share: stopped; of one that works offline; of one that reads; of one that sends.
ENDS = (ExitCode.SIGINT, ExitCode.SIGTERM)
OFFLINE = (ExitCode.TRANSIENT, ExitCode.USAGE)
READS = (ExitCode.TRANSIENT, ExitCode.USAGE, ExitCode.CREDENTIALS, ExitCode.PAUSED, *ENDS)
SENDS = (
    ExitCode.TRANSIENT, ExitCode.USAGE, ExitCode.DEAD_LETTERS, ExitCode.CREDENTIALS, ExitCode.LEASE, ExitCode.PAUSED,
    *ENDS,
)  # fmt: skip


class Subparsers(Protocol):
    """The subparsers to which a command is added (argparse has no public name for the type)."""

    def add_parser(self, name: str, **options: Any) -> Parser:
        """Add a command."""


def runs(
    parser: Parser,
    function: str,
    ok: str,
    codes: tuple[int, ...],
    *examples: tuple[str, str],
    other: Mapping[int, str] | None = None,
) -> None:
    """Set what a command runs, and what its help says beside its options.

    `function` is one of the module `run` of its package: `state.run_merge`. `ok` is what exit code 0 means, `codes` are
    the others; `other` are meanings that differ from the usual ones. Examples are without the program's name, each
    with what it does.
    """
    package, name = function.split(".")
    parser.set_defaults(command=(package, name), parser=parser)
    parser.reference = Reference(examples, ok, codes, other or {})


def add_interval_options(
    parser: Parser, *, required: bool, otherwise: tuple[str | None, str | None] = (None, None)
) -> None:
    """Add `--from` and `--to`; `otherwise` is what holds without them."""
    when = "an ISO 8601 time (2026-01-31T00:00:00Z), a duration before now (30d) or `now`"
    for name, dest, default in zip(("--from", "--to"), ("start", "end"), otherwise, strict=True):
        parser.add_argument(name, dest=dest, metavar="TIME", required=required, help=when, otherwise=default)


def add_jobs_option(parser: Parser, task: str) -> None:
    """Add `--jobs`, for processes that do this task."""
    parser.add_argument(
        "--jobs",
        metavar="N|auto",
        help=f"number of processes that {task}; `auto` follows cores and memory, 1 means no extra processes",
        otherwise="SYNC_JOBS (auto)",
    )


def add_metrics_option(parser: Parser) -> None:
    """Add `--metrics-file`."""
    parser.add_argument(
        "--metrics-file",
        metavar="FILE",
        type=path,
        help="write all metrics to this file at the end, for node_exporter's textfile collector",
        otherwise="none is written",
    )


def add_common_options(parser: Parser, *, source: bool = False, json: bool = True) -> None:
    """Add `--state`, `--json` for a command with a result, and `--source` for one that works on sources."""
    parser.add_argument("--state", metavar="FILE", help="the state file", otherwise="SYNC_STATE_PATH (./sync-state.db)")
    if json:
        parser.add_argument("--json", action="store_true", help="print the result as a JSON object on stdout")
    if source:
        parser.add_argument(
            "--source",
            metavar="NAME",
            help="only this source of sync.toml, or one target of it (NAME/TARGET)",
            otherwise="every source",
        )


def path(text: str) -> str:
    """Check, for argparse, that a text can be the path of a file, whether there is one or not."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a path is expected, and it is empty")
    try:
        os.lstat(text)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except OSError as error:
        raise argparse.ArgumentTypeError(f"no path of a file ({(error.strerror or str(error)).lower()})") from None
    return text


def text(typed: str) -> str:
    """Check, for argparse, that a text is one: bytes that are not UTF-8 can be in none of what is looked for."""
    if not typed.isprintable() and any("\udc80" <= one <= "\udcff" for one in typed):
        raise argparse.ArgumentTypeError("not UTF-8 text")
    return typed


def number(minimum: int, maximum: int = 2**63 - 1) -> Callable[[str], int]:
    """Return a parser of integers for argparse. SQLite's integers end at 2**63 - 1."""
    upper = "" if maximum == 2**63 - 1 else f" to {maximum}"
    expected = f"a whole number from {minimum}{upper}" if upper else f"a whole number, at least {minimum}"

    def parse(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
        if not minimum <= number <= maximum:
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
        return number

    return parse
