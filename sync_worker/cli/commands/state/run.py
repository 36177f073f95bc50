"""`state`: merges state files, and stores the operator's decisions about a copy or about a project that moved."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sync_worker.cli.common import (
    hold_lease,
    run_async,
    select_sources,
    settings_for,
    state_file,
)
from sync_worker.cli.output import print_json, summarise
from sync_worker.clock import SystemClock
from sync_worker.errors import ConfigError, ExitCode
from sync_worker.ledger import Ledger, SourceState, copies, open_ledger
from sync_worker.ledger.backup import back_up
from sync_worker.ledger.file import BUSY_TIMEOUT, recognise
from sync_worker.ledger.lease import BACKFILL, LIVE, RETRY
from sync_worker.ledger.merging import Merged, merge
from sync_worker.settings import Source
from sync_worker.sync.engine import Engine
from sync_worker.sync.identities import Identities
from sync_worker.wording import counted, in_words


def run_merge(arguments: argparse.Namespace) -> int:
    """Run `merge`."""
    settings = settings_for(arguments, need_sources=False)
    files = _check_files(arguments.files, settings.state_path)
    clock = SystemClock()
    merged: list[Merged] = []
    with state_file(settings, clock) as ledger, _hold_leases(ledger):
        if copies.is_latest(ledger):
            copies.adopt(ledger)
        for file in files:
            other = open_ledger(file, clock, must_exist=True)
            try:
                with _hold_leases(other):
                    merged.append(merge(ledger, other, by_id=arguments.by_id))
            finally:
                other.close()
            if not arguments.json:
                summarise(_line(merged[-1], settings.state_path))
    if arguments.json:
        print_json(
            {
                "exit_code": ExitCode.OK,
                "state_file": str(settings.state_path),
                "files": [_as_json(one) for one in merged],
            }
        )
    return ExitCode.OK


def run_backup(arguments: argparse.Namespace) -> int:
    """Run `backup`."""
    settings = settings_for(arguments, need_sources=False)
    recognise(settings.state_path)
    to = Path(arguments.file)
    if arguments.file.endswith("/") and not to.is_dir():
        raise ConfigError(f"the folder {to} does not exist. Try: mkdir -p {shlex.quote(str(to))}")
    made = back_up(settings.state_path, to, BUSY_TIMEOUT, replace=arguments.force)
    if arguments.json:
        print_json(
            {
                "exit_code": ExitCode.OK,
                "state_file": str(settings.state_path),
                "backup": str(made.path),
                "size_bytes": made.size_bytes,
                "schema": made.schema,
            }
        )
    else:
        summarise(f"{made.path} is a copy of {settings.state_path}, checked, {made.size_bytes / 1024:,.0f} KiB")
        summarise(f"to restore it: end all runs, copy it to {settings.state_path}, `sync-worker state confirm`")
    return ExitCode.OK


def run_confirm(arguments: argparse.Namespace) -> int:
    """Run `confirm`."""
    settings = settings_for(arguments, need_sources=False)
    with state_file(settings, SystemClock(), must_exist=True) as ledger, _hold_leases(ledger):
        copies.adopt(ledger)
    path = settings.state_path
    if arguments.json:
        print_json({"exit_code": ExitCode.OK, "state_file": str(path)})
    else:
        summarise(f"{path} is the latest state file from now on: the next run resumes from it")
    return ExitCode.OK


def run_adopt(arguments: argparse.Namespace) -> int:
    """Run `adopt`."""
    return _decide(arguments, lambda identities, source: identities.adopt(source, arguments.old))


def run_separate(arguments: argparse.Namespace) -> int:
    """Run `separate`."""

    async def separate(identities: Identities, source: Source) -> tuple[SourceState, None]:
        return await identities.separate(source), None

    return _decide(arguments, separate)


def _decide(
    arguments: argparse.Namespace,
    decide: Callable[[Identities, Source], Awaitable[tuple[SourceState, str | None]]],
) -> int:
    """Read from Langfuse which project a source is, and store the operator's decision about it."""
    settings = settings_for(arguments)
    sources = select_sources(settings, arguments)
    if len(sources) != 1:
        names = ", ".join(source.name for source in sources)
        raise ConfigError(f"there are several sources. Try: --source with one of {names}")
    clock = SystemClock()
    found: list[tuple[SourceState, str | None]] = []
    with state_file(settings, clock, must_exist=True) as ledger, _hold_leases(ledger):
        engine = Engine(settings, ledger, clock, settings.patience.total_seconds())

        async def work() -> int:
            found.append(await decide(engine.identities, sources[0]))
            return ExitCode.OK

        code = run_async(work, clock)
    for state, old in found:
        if arguments.json:
            print_json(
                {
                    "exit_code": code,
                    "source": sources[0].name,
                    "project_id": state.project_id,
                    "langfuse_url": state.langfuse_url,
                    "target": state.target,
                    "from_url": old,
                }
            )
        elif old is None:
            summarise(f"{sources[0].name}: project {state.project_id} at {state.langfuse_url} is a project of its own")
        else:
            summarise(
                f"{sources[0].name}: project {state.project_id}, stored under {old}, is at {state.langfuse_url} now"
            )
    return code


def _check_files(names: Sequence[str], into: Path) -> list[Path]:
    """Return the files without duplicates, all of them checked: nothing is merged if one is unusable."""
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
def _hold_leases(ledger: Ledger) -> Iterator[None]:
    """Hold every lease of a state file, so that no run starts on it. Raises LeaseHeld if one is running."""
    with ExitStack() as stack:
        for role in (LIVE, RETRY, BACKFILL):
            stack.enter_context(hold_lease(ledger, role, sends=False))
        yield


def _line(one: Merged, into: Path) -> str:
    letters = f", {counted(one.dead_letters, 'dead letter')}" if one.dead_letters else ""
    return (
        f"{one.file} into {into}: {counted(one.observations + one.observations_forgotten, 'observation')}{letters} and "
        f"{in_words(one.completed_ms / 1000)} of completed intervals were new, from {counted(one.sources, 'source')}"
    )


def _as_json(one: Merged) -> dict[str, Any]:
    return {
        "file": str(one.file),
        "sources": one.sources,
        "observations": one.observations,
        "observations_forgotten": one.observations_forgotten,
        "dead_letters": one.dead_letters,
        "completed_seconds": one.completed_ms // 1000,
    }
