"""Makes README.md's tables, that of docs/monitoring.md and .env.example from the code, for `scripts/docs`."""

from __future__ import annotations

import argparse
import ast
import inspect
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from sync_worker import errors
from sync_worker.cli.parser import build_parser
from sync_worker.settings import dotenv_example
from sync_worker.settings import table as settings_table
from sync_worker.watch import metrics

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
MONITORING = ROOT / "docs" / "monitoring.md"
DOTENV = ROOT / ".env.example"

#: Options that every command has; the text above the table names them.
_EVERYWHERE = frozenset({"-h", "--help", "--state", "--json"})


class MarkerError(Exception):
    """A page lacks the place for a table: `<!-- begin: NAME -->`, a line of its own, and `<!-- end: NAME -->`."""


def commands_table() -> str:
    """All commands and their verbs, what they need, what they do and which options are their own."""
    lines = ["| Command | Does | Own options |", "| --- | --- | --- |"]
    for words, help_text, parser in _commands("", build_parser()):
        options = ", ".join(f"`{option}`" for option in _own_options(parser)) or "—"
        lines.append(f"| `{' '.join((words, *_needed(parser)))}` | {_cell(help_text)} | {options} |")
    return "\n".join(lines) + "\n"


def exit_codes_table() -> str:
    """All exit codes with what is said of each beside it in `errors.ExitCode`."""
    lines = ["| Code | Means |", "| --- | --- |"]
    lines += [f"| {code} | {_cell(meaning)} |" for code, meaning in exit_codes()]
    return "\n".join(lines) + "\n"


def exit_codes() -> list[tuple[int, str]]:
    """Return the codes in order, with the comment on the line of each."""
    source = inspect.getsource(errors.ExitCode)
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    (found,) = ast.parse(source).body
    if not isinstance(found, ast.ClassDef):
        raise TypeError("errors.ExitCode is no class")
    return [
        (ast.literal_eval(line.value), comments[line.lineno]) for line in found.body if isinstance(line, ast.Assign)
    ]


def with_tables(text: str) -> str:
    """Return a page with its tables made anew."""
    for name, table in (
        ("settings", settings_table()),
        ("commands", commands_table()),
        ("exit codes", exit_codes_table()),
    ):
        text = with_table(text, name, table)
    return text


def with_table(text: str, name: str, table: str) -> str:
    """Return a page with one of its tables made anew."""
    begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise MarkerError(f"the page needs one pair of {begin.strip()} and {end}, each on a line of its own")
    return text[: text.index(begin) + len(begin)] + table + text[text.index(end) :]


def _commands(before: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Yield each command that can be run, in the order of the help; one with verbs is only its verbs."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                words, inner = f"{before} {choice.dest}".strip(), action.choices[choice.dest]
                verbs = list(_commands(words, inner))
                yield from verbs or [(words, choice.help or "", inner)]


def _needed(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if not action.option_strings:
            metavar = str(action.metavar or action.dest)
            yield {"*": f"[{metavar} ...]", "+": f"{metavar} [{metavar} ...]"}.get(str(action.nargs), metavar)
        elif action.required:
            yield f"{action.option_strings[-1]} {action.metavar}"


def _own_options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if action.option_strings and not action.required and not _EVERYWHERE & set(action.option_strings):
            yield " ".join([action.option_strings[-1], *([str(action.metavar)] if action.metavar else [])])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Write what is made from the code, or with `--check` only say what is stale."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("Usage: scripts/docs [--check]\n")
        return 2
    made = {
        README: with_tables(README.read_text(encoding="utf-8")),
        MONITORING: with_table(MONITORING.read_text(encoding="utf-8"), "metrics", metrics.table()),
        DOTENV: dotenv_example(),
    }
    stale = [path for path, text in made.items() if path.read_text(encoding="utf-8") != text]
    for path in stale:
        if not arguments:
            path.write_text(made[path], encoding="utf-8")
        sys.stderr.write(f"{path.name} {'differs from the code. Try: scripts/docs' if arguments else 'written'}\n")
    return 1 if stale and arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
