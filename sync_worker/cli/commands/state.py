"""`state merge`: joins the state files of a backfill on several machines into one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from sync_worker.cli.common import Subparsers, add_common_options, held_lease, settings_for, state_file
from sync_worker.cli.output import print_json, say
from sync_worker.clock import SystemClock
from sync_worker.errors import ConfigError, ExitCode
from sync_worker.ledger import Ledger, open_ledger
from sync_worker.ledger.file import recognise
from sync_worker.ledger.lease import BACKFILL, LIVE, RETRY
from sync_worker.ledger.merging import Merged, merge


def add_to(subparsers: Subparsers) -> None:
    """Add the command and its verb."""
    parser = subparsers.add_parser("state", help="join the state files of several machines")
    verbs = parser.add_subparsers(metavar="merge", required=True)
    verb = verbs.add_parser("merge", help="take what other state files know into this one; again changes nothing")
    verb.add_argument("files", nargs="+", metavar="FILE", help="the state file of a shard")
    add_common_options(verb)
    verb.set_defaults(run=run_merge)


def run_merge(arguments: argparse.Namespace) -> int:
    """Run `merge`."""
    settings = settings_for(arguments, need_sources=False)
    files = _checked(arguments.files, settings.state_path)
    clock = SystemClock()
    merged: list[Merged] = []
    with state_file(settings, clock) as ledger, _held(ledger):
        for file in files:
            other = open_ledger(file, clock, must_exist=True)
            try:
                with _held(other):
                    merged.append(merge(ledger, other))
            finally:
                other.close()
            if not arguments.json:
                say(_line(merged[-1], settings.state_path))
    if arguments.json:
        print_json(
            {
                "exit_code": ExitCode.OK,
                "state_file": str(settings.state_path),
                "files": [_as_json(one) for one in merged],
            }
        )
    return ExitCode.OK


def _checked(names: Sequence[str], into: Path) -> list[Path]:
    """Return the files, each once, after a look at all of them: nothing is merged while one is wrong."""
    files = list(dict.fromkeys(Path(name) for name in names))
    for file in files:
        recognise(file)
        if into.exists() and file.samefile(into):
            raise ConfigError(
                f"{file} is the state file that others are merged into. Try: --state with another file, new or in use, "
                "or leave it out"
            )
    return files


@contextmanager
def _held(ledger: Ledger) -> Iterator[None]:
    """Keep every run away from a state file. Raises LeaseHeld when one is at work."""
    with ExitStack() as stack:
        for role in (LIVE, RETRY, BACKFILL):
            stack.enter_context(held_lease(ledger, role))
        yield


def _line(one: Merged, into: Path) -> str:
    letters = f", {one.dead_letters} dead letters" if one.dead_letters else ""
    return (
        f"{one.file} into {into}: {one.rows + one.rows_forgotten:,} rows{letters} and "
        f"{timedelta(milliseconds=one.covered_ms)} of covered time that were not known, of {one.sources} sources"
    )


def _as_json(one: Merged) -> dict[str, Any]:
    return {
        "file": str(one.file),
        "sources": one.sources,
        "rows": one.rows,
        "rows_forgotten": one.rows_forgotten,
        "dead_letters": one.dead_letters,
        "covered_seconds": one.covered_ms // 1000,
    }
