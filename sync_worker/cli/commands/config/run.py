"""`config`: every setting, its value (secrets masked) and where it came from; a schema of `sync.toml`."""

from __future__ import annotations

import argparse
import contextlib

from sync_worker.cli.common import ignored_starts, load_settings, state_file
from sync_worker.cli.output import print_json, print_table, say
from sync_worker.clock import SystemClock
from sync_worker.errors import SyncError
from sync_worker.settings import Settings


def run_show(arguments: argparse.Namespace) -> int:
    """Run `show`."""
    settings = load_settings(arguments, need_sources=False)
    for warning in settings.warnings:
        say(f"sync-worker: {warning}")
    for line in _ignored_starts(settings):
        say(f"sync-worker: {line}")
    rows = settings.shown
    if arguments.json:
        print_json({"settings": [row._asdict() for row in rows]})
    else:
        print_table(("setting", "value", "from"), rows)
    return 0


def run_schema(_: argparse.Namespace) -> int:
    """Run `schema`."""
    from sync_worker.settings.json_schema import schema  # noqa: PLC0415 - only this command

    print_json(schema())
    return 0


def _ignored_starts(settings: Settings) -> list[str]:
    """Return the warnings that SYNC_START has no effect; none without a readable state file, which is optional here."""
    with contextlib.suppress(SyncError), state_file(settings, SystemClock(), must_exist=True) as ledger:
        return ignored_starts(settings, settings.sources, ledger)
    return []
