"""`dead-letters`: lists and shows dead letters with their reasons, reads them again by id, or deletes them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sync_worker.cli.asking import can_ask, confirm
from sync_worker.cli.common import (
    hold_lease,
    run_async,
    run_with_heartbeats,
    select_sources,
    settings_for,
    state_file,
)
from sync_worker.cli.output import print_json, print_line, print_table, say, summarise
from sync_worker.clock import SystemClock
from sync_worker.errors import ConfigError, ExitCode
from sync_worker.ledger import DeadLetter, Ledger
from sync_worker.ledger.lease import RETRY
from sync_worker.pipeline.report import SourceReport
from sync_worker.settings import Settings, WrongValueError, parse_duration
from sync_worker.sync.engine import Engine, overall
from sync_worker.sync.keys import keys_of
from sync_worker.times import iso_time, span_ms
from sync_worker.wording import counted

_CHUNK = 500  # dead letters that `retry` and `drop` handle at once


def run_list(arguments: argparse.Namespace) -> int:
    """Run `list`."""
    settings = settings_for(arguments, need_sources=False)
    with state_file(settings, SystemClock(), must_exist=True, only_reads=True) as ledger:
        chosen = _filters(arguments, settings, ledger)
        letters = ledger.dead_letters(after=arguments.after, limit=arguments.limit + 1, **chosen)
    page = letters[: arguments.limit]
    following = page[-1].id if len(letters) > len(page) else None
    if arguments.json:
        print_json({"dead_letters": [_as_json(letter) for letter in page], "next": following})
    elif page:
        head = ("id", "created", "kind", "status", "trace", "observation", "next retry", "reason")
        print_table(head, [_columns(letter) for letter in page])
        if following is not None:
            say(f"more: `dead-letters list --after {following}`")
    else:
        say("no dead letters" if not arguments.after else f"no dead letters after {arguments.after}")
    return ExitCode.OK


def run_show(arguments: argparse.Namespace) -> int:
    """Run `show`."""
    settings = settings_for(arguments, need_sources=False)
    with state_file(settings, SystemClock(), must_exist=True, only_reads=True) as ledger:
        letters = _by_id(ledger, arguments.ids)
        names = {source.id: source.project_name or source.project_id for source in ledger.sources()}
    if arguments.json:
        print_json({"dead_letters": [_as_json(letter) | {"raw": letter.raw} for letter in letters]})
        return ExitCode.OK
    for letter in letters:
        print_line(f"dead letter {letter.id} of {names.get(letter.source_id, 'a source that is gone')}")
        for name, value in _as_json(letter).items():
            if name != "id" and value is not None:
                print_line(f"  {name.replace('_', ' '):<15} {' '.join(str(value).split())}")
        if letter.raw:
            print_line(f"  {'observation':<15} {letter.raw}")
    return ExitCode.OK


def run_drop(arguments: argparse.Namespace) -> int:
    """Run `drop`."""
    settings = settings_for(arguments, need_sources=False)
    with state_file(settings, SystemClock(), must_exist=True) as ledger:
        dropped = 0
        chunks = _select(settings, ledger, arguments)
        if arguments.all and not arguments.yes and not _is_confirmed(settings, ledger, arguments):
            summarise("nothing was dropped")
            return ExitCode.USAGE
        for letters in chunks:
            ledger.drop_dead_letters(letters)
            dropped += len(letters)
    _print_result(arguments, {"dropped": dropped}, f"{counted(dropped, 'dead letter')} dropped")
    return ExitCode.OK


def run_retry(arguments: argparse.Namespace) -> int:
    """Run `retry`."""
    settings = settings_for(arguments)
    clock = SystemClock()
    with state_file(settings, clock, must_exist=True) as ledger:
        chunks = _select(settings, ledger, arguments)
        return run_async(lambda: _retry(settings, ledger, clock, chunks, arguments), clock)


async def _retry(
    settings: Settings,
    ledger: Ledger,
    clock: SystemClock,
    chunks: Iterator[list[DeadLetter]],
    arguments: argparse.Namespace,
) -> int:
    engine = Engine(settings, ledger, clock, settings.patience.total_seconds())
    left = rejected = sent = 0
    codes: list[int] = []
    with hold_lease(ledger, RETRY) as lease:
        for letters in chunks:
            reports, code = await run_with_heartbeats(ledger, lease, _retry_page(engine, letters))
            still = ledger.dead_letters(ids=[letter.id for letter in letters if letter.id is not None])
            left += len(still)
            rejected += sum(report.dead_letters for report in reports)
            sent += sum(report.spans_sent + report.signals_sent for report in reports)
            codes.append(code)
            if code not in {ExitCode.OK, ExitCode.DEAD_LETTERS}:
                break
    code = overall(codes or [ExitCode.OK])
    result = {"sent": sent, "rejected_again": rejected, "left": left, "exit_code": code}
    why = " (nothing to read)" if left and code in {ExitCode.OK, ExitCode.DEAD_LETTERS} else ""
    _print_result(arguments, result, f"{sent} sent, {rejected} rejected again, {left} left as they were{why}")
    return overall([code, ExitCode.DEAD_LETTERS if rejected else ExitCode.OK])


async def _retry_page(engine: Engine, letters: Sequence[DeadLetter]) -> tuple[list[SourceReport], int]:
    return await engine.each(engine.settings.sources, lambda source: engine.retry(source, letters))


def _is_confirmed(settings: Settings, ledger: Ledger, arguments: argparse.Namespace) -> bool:
    """Ask before all are dropped. Raises ConfigError where nobody can be asked."""
    count = len(ledger.dead_letters(**_filters(arguments, settings, ledger)))
    if not can_ask():
        raise ConfigError(
            f"--all would drop {counted(count, 'dead letter')}, and there is no terminal to ask at. Try: --yes with it"
        )
    return confirm(f"Drop {counted(count, 'dead letter')}? What they stand for is never sent.")


def _filters(arguments: argparse.Namespace, settings: Settings, ledger: Ledger) -> dict[str, Any]:
    """Return the filters of the command line for the ledger. Raises ConfigError."""
    chosen: dict[str, Any] = {"kind": arguments.kind, "reason": arguments.reason}
    if arguments.older_than is not None:
        try:
            age = span_ms(parse_duration(arguments.older_than))
        except WrongValueError as error:
            raise ConfigError(f"--older-than {arguments.older_than!r}: {error}. Try: 12h or 30d") from None
        chosen["made_before_ms"] = ledger.clock.now_ms() - age
    if arguments.source is not None:
        states = [ledger.source_by_key(keys_of(one), one.target) for one in select_sources(settings, arguments)]
        chosen["source_ids"] = [state.id for state in states if state is not None]
    return chosen


def _select(settings: Settings, ledger: Ledger, arguments: argparse.Namespace) -> Iterator[list[DeadLetter]]:
    """Return the dead letters that were named, or all that exist now, in chunks."""
    chosen = _filters(arguments, settings, ledger)
    if arguments.all == bool(arguments.ids):
        raise ConfigError("either ids of dead letters or --all is required. Try: `dead-letters list`")
    if arguments.all:
        return _all(ledger, ledger.last_dead_letter(), chosen)
    if any(value is not None for value in chosen.values()):
        raise ConfigError("filters choose among --all, not among ids. Try: --all, or the ids alone")
    return iter([_by_id(ledger, arguments.ids)])


def _by_id(ledger: Ledger, wanted: Sequence[int]) -> list[DeadLetter]:
    """Return dead letters by their ids. Raises ConfigError where there is none."""
    ids = sorted(set(wanted))
    letters = ledger.dead_letters(ids=ids)
    missing = set(ids) - {letter.id for letter in letters}
    if missing:
        raise ConfigError(f"there is no dead letter {min(missing)}. Try: `dead-letters list`")
    return letters


def _all(ledger: Ledger, last: int, chosen: Mapping[str, Any]) -> Iterator[list[DeadLetter]]:
    """Yield all dead letters up to the id `last` in chunks: later ones, which a retry may add, are left out."""
    after = 0
    while letters := [
        item for item in ledger.dead_letters(after=after, limit=_CHUNK, **chosen) if (item.id or 0) <= last
    ]:
        after = letters[-1].id or last
        yield letters


def _print_result(arguments: argparse.Namespace, result: dict[str, Any], line: str) -> None:
    if arguments.json:
        print_json(result)
    else:
        summarise(line)


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "made": iso_time(letter.made_ms),
        "kind": letter.kind,
        "status": letter.status,
        "reason": letter.reason,
        "trace_id": letter.trace_id,
        "observation_id": letter.observation_id,
        "score_id": letter.score_id,
        "start": None if letter.start_ms is None else iso_time(letter.start_ms),
        "project": letter.project,
        "spans": letter.spans,
        "tries": letter.tries,
        "next_try": None if letter.next_try_ms is None else iso_time(letter.next_try_ms),
    }


def _columns(letter: DeadLetter) -> tuple[str, ...]:
    return (
        str(letter.id),
        iso_time(letter.made_ms),
        letter.kind,
        str(letter.status or ""),
        letter.trace_id or "",
        letter.observation_id or (f"score {letter.score_id}" if letter.score_id else ""),
        "" if letter.next_try_ms is None else iso_time(letter.next_try_ms),
        " ".join(letter.reason.split()),
    )
