"""`pause` and `resume` of a source or a Kelet project; a running worker obeys before its next request."""

from __future__ import annotations

import argparse
import shlex

from sync_worker.cli.common import settings_for, state_file
from sync_worker.cli.output import print_json, summarise
from sync_worker.clock import SystemClock
from sync_worker.errors import ConfigError, ExitCode
from sync_worker.ledger import Ledger
from sync_worker.ledger.pauses import Pause, active_pauses, delete_pauses, store_pauses
from sync_worker.settings import Settings, WrongValueError, parse_duration
from sync_worker.times import iso_time, span_ms
from sync_worker.watch.status import describe_pause

#: Characters of a reason: it stands in log lines.
_LONGEST_REASON = 500


def run_pause(arguments: argparse.Namespace) -> int:
    """Run `pause`."""
    settings = settings_for(arguments, need_sources=False)
    length = _length(arguments.duration)
    _check_reason(arguments.reason)
    with state_file(settings, SystemClock()) as ledger:
        names = _names(settings, arguments)
        if arguments.project is not None:
            _check_project(settings, ledger, arguments.project)
        now = ledger.clock.now_ms()
        until = None if length is None else now + length
        made = [Pause(name, arguments.project, now, until, arguments.reason) for name in names]
        store_pauses(ledger, made)
        left = active_pauses(ledger)
    if arguments.json:
        print_json({"exit_code": ExitCode.OK, "pauses": [describe_pause(one) for one in left]})
        return ExitCode.OK
    for one in made:
        summarise(
            f"{_what(one)} is paused{'' if until is None else f' until {iso_time(until)}'}; what is in flight arrives"
        )
    summarise(f"continue with: sync-worker resume {_words(arguments)}")
    return ExitCode.OK


def run_resume(arguments: argparse.Namespace) -> int:
    """Run `resume`."""
    settings = settings_for(arguments, need_sources=False)
    with state_file(settings, SystemClock(), must_exist=True) as ledger:
        names = _names(settings, arguments, known=active_pauses(ledger))
        ended = [one for one in active_pauses(ledger) if one.source in names and one.project == arguments.project]
        delete_pauses(ledger, ended)
        left = active_pauses(ledger)
    if arguments.json:
        print_json(
            {
                "exit_code": ExitCode.OK,
                "resumed": [describe_pause(one) for one in ended],
                "pauses": [describe_pause(one) for one in left],
            }
        )
        return ExitCode.OK
    for one in ended:
        summarise(f"{_what(one)} continues with the next cycle, from where it stopped")
    if not ended:
        summarise(f"{_what(Pause(arguments.source, arguments.project, 0))} was not paused")
    for one in left:
        summarise(f"still paused: {_what(one)}, since {iso_time(one.since_ms)}")
    return ExitCode.OK


def _length(text: str | None) -> int | None:
    """Return a length of time in milliseconds. Raises ConfigError."""
    if text is None:
        return None
    try:
        length = span_ms(parse_duration(text))
    except WrongValueError as error:
        raise ConfigError(f"--for {text!r}: {error}. Try: --for 2h") from None
    if length <= 0:
        raise ConfigError(f"--for {text!r} ends at once. Try: --for 2h")
    return length


def _check_reason(text: str | None) -> None:
    """Raise ConfigError for a reason that would fill a log line, the status page and the state file."""
    if text is not None and len(text) > _LONGEST_REASON:
        raise ConfigError(
            f"--reason has {len(text):,} characters; expected at most {_LONGEST_REASON}. Try: a link to the rest"
        )


def _names(settings: Settings, arguments: argparse.Namespace, known: list[Pause] | None = None) -> list[str | None]:
    """Return the names of the sources that were meant, each target of one by itself; None is every source.

    `known` pauses may be of sources that are not in the settings any more. Raises ConfigError.
    """
    wanted = arguments.source
    if wanted is None:
        if arguments.project is None:
            names = (
                " or ".join(f"`sync-worker {arguments.verb} {one.name}`" for one in settings.sources[:3]) or "`--help`"
            )
            raise ConfigError(f"a source or --project is needed. Try: {names}")
        return [None]
    in_settings = [one.name for one in settings.sources]
    stored = [one.source for one in known or () if one.source is not None]
    found = [name for name in dict.fromkeys([*in_settings, *stored]) if wanted in {name, name.partition("/")[0]}]
    if not found:
        raise ConfigError(f"there is no source {wanted!r}. Try: one of {', '.join(in_settings) or 'sync.toml'}")
    return list(found)


def _check_project(settings: Settings, ledger: Ledger, project: str) -> None:
    """Raise ConfigError for a Kelet project that neither the settings name nor anything was sent to."""
    named = {one.kelet_project for one in settings.sources}
    named |= {route.project for one in settings.sources for route in one.routes if not route.drop}
    is_open = any("{" in name for name in named) or any(settings.of(one).project_from for one in settings.sources)
    known = {name for source in ledger.sources() for name in ledger.projects(source.id)}
    if not is_open and project not in named | known:
        raise ConfigError(
            f"--project {project}: nothing is sent to a Kelet project of that name. Try: {', '.join(sorted(named))}"
        )


def _what(one: Pause) -> str:
    if one.project is None:
        return str(one.source)
    return f"the Kelet project {one.project} of {'all sources' if one.source is None else one.source}"


def _words(arguments: argparse.Namespace) -> str:
    parts: list[str | None] = [arguments.source]
    if arguments.project is not None:
        parts += ["--project", arguments.project]
    return shlex.join(part for part in parts if part is not None)
