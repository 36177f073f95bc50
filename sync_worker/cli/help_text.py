"""Lays out the help of a command for a terminal: its arguments, then examples, defaults and exit codes."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from sync_worker.cli.arguments import Parser
from sync_worker.cli.reference import EVERYWHERE, PROGRAM

#: Columns of a text on a wide terminal, and on one that is too narrow for any.
_MOST, _LEAST = 100, 20
#: Below these columns, what an option does stands under it.
_NARROW = 56
_WIDEST_NAME = 26


def columns() -> int:
    """Return how many columns the terminal has for a text; 80 where there is none."""
    return max(_LEAST, min(_MOST, shutil.get_terminal_size().columns))


def render(parser: Parser, width: int) -> str:
    """Return the help of a command in lines of at most `width` columns, words and option names left whole."""
    words = parser.prog.split()[1:]
    parts = [_wrapped(f"usage: {usage(parser)}", width, "       ")]
    if parser.description:
        parts.append(_wrapped(parser.description, width))
    if not words:
        parts.append(_section("start here", _pairs([(f"{parser.prog} {line}", does) for line, does in _FIRST], width)))
        for title, names in parser.groups.items():
            parts.append(_section(title, _pairs([(name, parser.verbs()[name][0]) for name in names], width)))
    elif parser.verbs():
        parts.append(_section("commands", _pairs([(name, does) for name, (does, _) in parser.verbs().items()], width)))
    for title, options in arguments_of(parser):
        parts.append(_section(title, _pairs([(invocation(one), one.help or "") for one in options], width)))
    found = parser.reference
    if found is not None:
        parts.append(_section("examples", _examples(found.examples, width)))
        if parser.otherwise:
            parts.append(_section("defaults", _pairs(parser.otherwise.items(), width)))
        codes = [(str(code), meaning) for code, meaning in found.exit_codes()]
        parts.append(_section("exit codes", _pairs(codes, width)))
    elif parser.verbs():
        parts.append(_wrapped(f"`{parser.prog} COMMAND --help` has examples, defaults and exit codes.", width))
    return "\n\n".join(parts) + "\n"


def usage(parser: Parser) -> str:
    """Return what is typed: the command, what it needs, and that it has options."""
    if parser.verbs():
        return f"{parser.prog} [options] COMMAND"
    return " ".join((parser.prog, *needed(parser), "[options]"))


def needed(parser: Parser) -> Iterator[str]:
    """Yield the arguments of a command and the options that it requires, as they are typed."""
    for action in parser.arguments():
        if not action.option_strings:
            metavar = str(action.metavar or action.dest)
            several = {"*": f"[{metavar} ...]", "+": f"{metavar} [{metavar} ...]", "?": f"[{metavar}]"}
            yield several.get(str(action.nargs), metavar)
        elif action.required:
            yield f"{action.option_strings[-1]} {action.metavar}"


def arguments_of(parser: Parser) -> Iterator[tuple[str, list[argparse.Action]]]:
    """Yield the arguments, the options of a command, and those of every command, each with a title."""
    actions = list(parser.arguments())
    positional = [one for one in actions if not one.option_strings]
    own = [one for one in actions if one.option_strings and one.dest not in EVERYWHERE]
    common = [one for one in actions if one.option_strings and one.dest in EVERYWHERE]
    for title, found in (("arguments", positional), ("options", own), ("options of every command", common)):
        if found:
            yield title, found


def invocation(action: argparse.Action) -> str:
    """Return an argument or option as it is typed: `-v, --verbose`, `--state FILE`."""
    if not action.option_strings:
        return str(action.metavar or action.dest)
    metavar = action.metavar or ("|".join(action.choices) if action.choices else "")
    value = f" {metavar}" if action.nargs != 0 else ""
    return ", ".join(action.option_strings) + value


#: What to type first, with what it does.
_FIRST = (
    ("demo", "run a complete sync of recorded data, without an account"),
    ("init", "ask for your keys and write .env"),
    ("check", "test keys, addresses, clocks and the state file"),
    ("once", "sync the last 24 hours; later runs sync what is new"),
    ("run", "the same on a schedule"),
    ("status", "show how far the sync is"),
)


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n".join((f"{title}:", *lines))


def _pairs(rows: Iterable[tuple[str, str]], width: int) -> Iterator[str]:
    """Yield rows of a name and what it means; a long name, or any on a narrow terminal, has a line of its own."""
    rows = list(rows)
    fitting = [len(name) for name, _ in rows if len(name) <= _WIDEST_NAME] or [0]
    at = 4 + max(fitting)
    if width < _NARROW and at > 10:
        at = 6
    for name, meaning in rows:
        lines = textwrap.wrap(meaning, max(10, width - at), break_long_words=False, break_on_hyphens=False)
        if len(name) + 4 > at:
            yield f"  {name}"
        elif lines:
            yield f"  {name}".ljust(at) + lines.pop(0)
        else:
            yield f"  {name}"
        yield from (" " * at + line for line in lines)


def _examples(examples: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    """Yield examples under what they do, broken so that they can still be copied."""
    for command, does in examples:
        yield from _wrapped(f"# {does}", width - 2, "# ", "  ").split("\n")
        line = f"  {PROGRAM}"
        for word in command.split():
            if len(line) + len(word) + 3 > width and line.strip():
                yield f"{line} \\"
                line = f"      {word}"
            else:
                line = f"{line} {word}"
        yield line


def _wrapped(text: str, width: int, following: str = "", before: str = "") -> str:
    lines = textwrap.wrap(
        text, max(10, width), subsequent_indent=following, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(before + line for line in lines)
