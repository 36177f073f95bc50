"""`dead-letters list|retry|drop`: what was set aside and why; retry fetches it again by id."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from sync_worker.cli.common import (
    Subparsers,
    add_common_options,
    held_lease,
    run_async,
    settings_for,
    state_file,
    with_beats,
)
from sync_worker.cli.output import print_json, print_table, say
from sync_worker.clock import SystemClock
from sync_worker.errors import ConfigError, ExitCode
from sync_worker.ledger import DeadLetter, Ledger
from sync_worker.ledger.lease import RETRY
from sync_worker.settings import Settings
from sync_worker.sync.engine import Engine, overall
from sync_worker.times import iso_time


def add_to(subparsers: Subparsers) -> None:
    """Add the command and its three verbs."""
    parser = subparsers.add_parser("dead-letters", help="what was set aside and why; retry or drop it")
    verbs = parser.add_subparsers(metavar="list|retry|drop", required=True)
    listing = verbs.add_parser("list", help="what was set aside and why")
    add_common_options(listing)
    listing.set_defaults(run=run_list)
    for name, run, words in (
        ("retry", run_retry, "fetch rows again from Langfuse by id and send them"),
        ("drop", run_drop, "forget dead letters; their rows count as done"),
    ):
        verb = verbs.add_parser(name, help=words)
        verb.add_argument("ids", nargs="*", type=int, metavar="ID", help="as `dead-letters list` shows them")
        verb.add_argument("--all", action="store_true", help="every dead letter")
        add_common_options(verb)
        verb.set_defaults(run=run)


def run_list(arguments: argparse.Namespace) -> int:
    """Run `list`."""
    settings = settings_for(arguments, need_sources=False)
    with state_file(settings, SystemClock(), must_exist=True, only_reads=True) as ledger:
        letters = ledger.dead_letters()
    if arguments.json:
        print_json({"dead_letters": [_as_json(letter) for letter in letters]})
    elif letters:
        head = ("id", "made", "kind", "status", "trace", "row", "reason")
        print_table(head, [_columns(letter) for letter in letters])
    else:
        say("no dead letters")
    return ExitCode.OK


def run_drop(arguments: argparse.Namespace) -> int:
    """Run `drop`."""
    settings = settings_for(arguments, need_sources=False)
    with state_file(settings, SystemClock(), must_exist=True) as ledger:
        letters = _chosen(ledger, arguments)
        ledger.drop_dead_letters(letters)
    _tell(arguments, {"dropped": len(letters)}, f"{len(letters)} dead letters dropped")
    return ExitCode.OK


def run_retry(arguments: argparse.Namespace) -> int:
    """Run `retry`."""
    settings = settings_for(arguments)
    clock = SystemClock()
    with state_file(settings, clock, must_exist=True) as ledger:
        letters = _chosen(ledger, arguments)
        return run_async(lambda: _retry(settings, ledger, clock, letters, arguments), clock)


async def _retry(
    settings: Settings, ledger: Ledger, clock: SystemClock, letters: Sequence[DeadLetter], arguments: argparse.Namespace
) -> int:
    engine = Engine(settings, ledger, clock, settings.patience.total_seconds())
    with held_lease(ledger, RETRY) as lease:
        work = engine.each(settings.sources, lambda source: engine.retry(source, letters))
        reports, code = await with_beats(ledger, lease, work)
    ids = {letter.id for letter in ledger.dead_letters()}
    left = sum(1 for letter in letters if letter.id in ids)
    refused = sum(report.dead_letters for report in reports)
    sent = sum(report.spans_sent for report in reports)
    result = {"sent": sent, "refused_again": refused, "left": left, "exit_code": code}
    _tell(arguments, result, f"{sent} sent, {refused} refused again, {left} left as they were (nothing to fetch)")
    return overall([code, ExitCode.DEAD_LETTERS if refused else ExitCode.OK])


def _chosen(ledger: Ledger, arguments: argparse.Namespace) -> list[DeadLetter]:
    if arguments.all == bool(arguments.ids):
        raise ConfigError("name the dead letters by their ids, or say --all. Try: `dead-letters list`")
    letters = ledger.dead_letters(ids=arguments.ids)
    missing = set(arguments.ids) - {letter.id for letter in letters}
    if missing:
        raise ConfigError(f"there is no dead letter {min(missing)}. Try: `dead-letters list`")
    return letters


def _tell(arguments: argparse.Namespace, result: dict[str, Any], line: str) -> None:
    if arguments.json:
        print_json(result)
    else:
        say(line)


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "made": iso_time(letter.made_ms),
        "kind": letter.kind,
        "status": letter.status,
        "reason": letter.reason,
        "trace_id": letter.trace_id,
        "row_id": letter.row_id,
        "start": None if letter.start_ms is None else iso_time(letter.start_ms),
        "project": letter.project,
        "spans": letter.spans,
    }


def _columns(letter: DeadLetter) -> tuple[str, ...]:
    return (
        str(letter.id),
        iso_time(letter.made_ms),
        letter.kind,
        str(letter.status or ""),
        letter.trace_id or "",
        letter.row_id or "",
        " ".join(letter.reason.split()),
    )
