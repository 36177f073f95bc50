"""Lays out the man page from the parser: every command with its options, defaults, examples and exit codes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from sync_worker import __version__
from sync_worker.cli.arguments import Parser
from sync_worker.cli.help_text import arguments_of, invocation, usage
from sync_worker.errors import MEANINGS

_FILES = (
    ("./.env", "environment variables; --env-file names another one"),
    ("./sync.toml", "settings, for several sources; --config or SYNC_CONFIG names another one"),
    ("./sync-state.db", "the state file; --state or SYNC_STATE_PATH names another one"),
)
_ENVIRONMENT = (
    "Every setting is a variable: `sync-worker config show` prints all of them, with their values and where these came "
    "from. NO_COLOR turns colours off."
)
#: What groff would replace by typographic characters, or take as commands.
_SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}


def man_page(parser: Parser) -> str:
    """Return the page in the man macros of roff, in ASCII. Dated by SOURCE_DATE_EPOCH, without a date otherwise."""
    lines = [
        f'.TH {_text(parser.prog.upper())} 1 "{_date()}" "{_text(parser.prog)} {__version__}" "User Commands"',
        ".SH NAME",
        f"{_text(parser.prog)} \\- {_text('sync of Langfuse observations to Kelet')}",
        ".SH SYNOPSIS",
        _bold(usage(parser)),
        ".SH DESCRIPTION",
        _text(parser.description or ""),
        ".PP",
        _text(f"`{parser.prog} help` says what to do first."),
        ".SH COMMANDS",
    ]
    for _, command in parser.verbs().values():
        lines += _command(command)
    common = [one for title, found in arguments_of(parser) if title == "options of every command" for one in found]
    own = [one for title, found in arguments_of(parser) if title == "options" for one in found]
    lines += [".SH OPTIONS OF EVERY COMMAND", _text("They stand before the command or after it.")]
    lines += _pairs((invocation(one), _with_default(parser, one.option_strings[-1], one.help)) for one in common)
    lines += [".SH OTHER OPTIONS", *_pairs((invocation(one), one.help or "") for one in own)]
    lines += [".SH EXIT STATUS", *_pairs((str(int(code)), meaning) for code, meaning in sorted(MEANINGS.items()))]
    lines += [".SH FILES", *_pairs(_FILES), ".SH ENVIRONMENT", _text(_ENVIRONMENT)]
    return "\n".join(lines) + "\n"


def _command(parser: Parser) -> Iterator[str]:
    """Yield a command, or those below it."""
    for _, below in parser.verbs().values():
        yield from _command(below)
    found = parser.reference
    if found is None:
        return
    yield f".SS {_text(parser.prog)}"
    yield _text(parser.description or "")
    yield from (".PP", _bold(usage(parser)))
    for title, options in arguments_of(parser):
        if title != "options of every command":
            yield from _pairs(
                (invocation(one), _with_default(parser, (one.option_strings or [""])[-1], one.help)) for one in options
            )
    yield from (".PP", "Examples:")
    yield from _pairs((f"{parser.prog.split()[0]} {line}", does) for line, does in found.examples)
    codes = list(found.exit_codes())
    usual = [str(int(code)) for code, meaning in codes if meaning == MEANINGS[code]]
    yield from (".PP", "Exit status:")
    yield from _pairs((str(int(code)), meaning) for code, meaning in codes if meaning != MEANINGS[code])
    if usual:
        yield from (".TP", _text(", ".join(usual)), _text("see EXIT STATUS"))


def _with_default(parser: Parser, option: str, does: str | None) -> str:
    default = parser.otherwise.get(option)
    return f"{does or ''}. Default: {default}." if default else does or ""


def _pairs(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, meaning in rows:
        yield from (".TP", _bold(name), _text(meaning))


def _bold(text: str) -> str:
    return f"\\fB{_escaped(text)}\\fR"


def _text(text: str) -> str:
    """Return a text on one line, what stands in backquotes in bold."""
    parts = re.split(r"`([^`]+)`", " ".join(text.split()))
    line = "".join(_bold(part) if number % 2 else _escaped(part) for number, part in enumerate(parts))
    return f"\\&{line}" if line.startswith((".", "\\(aq")) else line


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(char, char if char.isascii() else f"\\[u{ord(char):04X}]") for char in text)


def _date() -> str:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.fromtimestamp(int(epoch), UTC).date().isoformat() if epoch else ""
