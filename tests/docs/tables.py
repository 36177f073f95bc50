"""Makes for `scripts/docs` what follows from other files: tables of pages, whole pages, the schema, the rules."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from sync_worker import errors
from sync_worker.cli import help_text
from sync_worker.cli.arguments import Parser
from sync_worker.cli.parser import build_parser
from sync_worker.cli.reference import EVERYWHERE
from sync_worker.settings.json_schema import schema
from sync_worker.settings.model import (
    FIELDS,
    PER_SOURCE,
    REQUIRED,
    SOURCE_FIELDS,
    TARGET_FIELDS,
    default_text,
    meaning,
)
from sync_worker.watch.metrics import METRICS

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
COMMANDS = ROOT / "docs" / "commands.md"
SETTINGS = ROOT / "docs" / "settings.md"
MONITORING = ROOT / "docs" / "monitoring.md"
DOTENV = ROOT / ".env.example"
SCHEMA = ROOT / "sync.schema.json"
RULES = ROOT / "deploy" / "monitoring" / "rules.yaml"
PROMETHEUS_RULE = ROOT / "deploy" / "kubernetes" / "components" / "monitoring" / "rules.yaml"


#: Options that nearly every command has; the text below the table names them.
_COMMON = frozenset({*EVERYWHERE, "state", "json"})


class MarkerError(Exception):
    """A page lacks the place for a table: `<!-- begin: NAME -->`, a line of its own, and `<!-- end: NAME -->`."""


def commands_table() -> str:
    """All commands and their verbs, what they need, what they do and which options are their own."""
    lines = ["| Command | Does | Own options |", "| --- | --- | --- |"]
    for words, does, parser in _commands("", build_parser()):
        options = ", ".join(f"`{option}`" for option in _own_options(parser)) or "—"
        lines.append(f"| `{' '.join((words, *help_text.needed(parser)))}` | {_cell(does)} | {_cell(options)} |")
    return "\n".join(lines) + "\n"


def settings_table() -> str:
    """All settings: name, default, meaning."""
    lines = ["| Setting | Default | Meaning |", "| --- | --- | --- |"]
    for name in FIELDS:
        default = (
            "required" if name in REQUIRED else f"`{_cell(default_text(name))}`" if default_text(name) else "unset"
        )
        own = " *Per source.*" if name in {*SOURCE_FIELDS, *TARGET_FIELDS, *PER_SOURCE} else ""
        lines.append(f"| `{name.upper()}` | {default} | {_cell(meaning(name))}{own} |")
    return "\n".join(lines) + "\n"


def metrics_table() -> str:
    """All metrics: name, kind, labels, meaning."""
    lines = ["| Metric | Kind | Labels | Meaning |", "| --- | --- | --- | --- |"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "—"
        more = " Starts at 0 with the process." if metric.measured else " Only `run` has it." if metric.of_run else ""
        lines.append(f"| `{metric.full_name}` | {metric.kind} | {labels} | {metric.meaning}{more} |")
    return "\n".join(lines) + "\n"


def dotenv_example() -> str:
    """Return the content of `.env.example`: every setting with its default, under a comment that says what it means.

    Comments stand on lines of their own, because Docker reads one behind a value as a part of the value.
    """
    return (
        "# Settings of the worker. Copy this file to .env and fill in the empty values; lines with # show the "
        "defaults.\n# Environment variables take precedence over this file. Durations are written 30s, 20m, 48h, 7d or "
        "1h30m.\n"
    ) + "".join(
        f"\n# {meaning(name)}\n{'' if name in REQUIRED else '#'}{name.upper()}={default_text(name)}\n"
        for name in FIELDS
    )


def exit_codes_table() -> str:
    """All exit codes with what is said of each beside it in `errors.ExitCode`."""
    lines = ["| Code | Means |", "| --- | --- |"]
    lines += [f"| {code} | {_cell(meaning)} |" for code, meaning in exit_codes()]
    return "\n".join(lines) + "\n"


def prometheus_rule(rules: str) -> str:
    """Return the alert rules of Prometheus as the object that the Prometheus Operator reads."""
    groups = rules[rules.index("groups:") :].splitlines()
    head = """\
# Made from deploy/monitoring/rules.yaml by scripts/docs.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: sync-worker
  labels:
    app.kubernetes.io/name: sync-worker
spec:
"""
    return head + "".join(f"  {line}".rstrip() + "\n" for line in groups)


def exit_codes() -> list[tuple[int, str]]:
    """Return the codes in order, with the meaning of each."""
    return sorted(errors.MEANINGS.items())


def every_command() -> str:
    """Of each command the examples, options with defaults and exit codes that its help has."""
    parts = []
    for words, does, parser in _commands("", build_parser()):
        found = parser.reference
        if found is None:
            raise KeyError(f"no examples of {words}")
        parts.append(f"## {words}\n\n{does[:1].upper()}{does[1:]}.\n")
        parts.append("```sh\n" + "".join(f"sync-worker {line} # {what}\n" for line, what in found.examples) + "```\n")
        parts.append(_options_table(parser, lambda action: action.dest not in EVERYWHERE))
        rows = "".join(f"| {code} | {_cell(meaning)} |\n" for code, meaning in found.exit_codes())
        parts.append("| Exit code | Means |\n| --- | --- |\n" + rows)
    return "\n".join(filter(None, parts))


def _options_table(parser: Parser, is_shown: Callable[[argparse.Action], bool]) -> str:
    rows = [
        f"| `{_cell(help_text.invocation(action))}` | {_cell(action.help or '')} | {_default(parser, action)} |\n"
        for action in parser.arguments()
        if is_shown(action)
    ]
    return "".join(("| Argument or option | Does | Default |\n| --- | --- | --- |\n", *rows)) if rows else ""


def _default(parser: Parser, action: argparse.Action) -> str:
    if action.required and action.option_strings:
        return "required"
    return parser.otherwise.get(action.option_strings[-1], "") if action.option_strings else ""


def with_table(text: str, name: str, table: str) -> str:
    """Return a page with one of its tables made anew."""
    begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise MarkerError(f"the page needs one pair of {begin.strip()} and {end}, each on a line of its own")
    return text[: text.index(begin) + len(begin)] + table + text[text.index(end) :]


def _commands(before: str, parser: Parser) -> Iterator[tuple[str, str, Parser]]:
    """Yield each command that can be run, in the order of the help; one with verbs is only its verbs."""
    for name, (does, inner) in parser.verbs().items():
        words = f"{before} {name}".strip()
        yield from list(_commands(words, inner)) or [(words, does, inner)]


def _own_options(parser: Parser) -> Iterator[str]:
    for action in parser.arguments():
        if action.option_strings and not action.required and action.dest not in _COMMON:
            yield " ".join([action.option_strings[-1], *([str(action.metavar)] if action.metavar else [])])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


#: By page, the tables on it.
TABLES: dict[Path, dict[str, Callable[[], str]]] = {
    README: {"commands": commands_table},
    SETTINGS: {"settings": settings_table},
    COMMANDS: {"exit codes": exit_codes_table, "every command": every_command},
    MONITORING: {"metrics": metrics_table},
}


def with_tables(path: Path) -> str:
    """Return a page with all of its tables made anew."""
    text = path.read_text(encoding="utf-8")
    for name, table in TABLES[path].items():
        text = with_table(text, name, table())
    return text


def main(arguments: list[str]) -> int:
    """Write what is made from the code, or with `--check` only say what is stale."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("Usage: scripts/docs [--check]\n")
        return 2
    made = {
        **{path: with_tables(path) for path in TABLES},
        DOTENV: dotenv_example(),
        SCHEMA: json.dumps(schema(), indent=2, ensure_ascii=False) + "\n",
        PROMETHEUS_RULE: prometheus_rule(RULES.read_text(encoding="utf-8")),
    }
    stale = [path for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if not arguments:
            path.write_text(made[path], encoding="utf-8")
        sys.stderr.write(f"{path.name} {'differs from the code. Try: scripts/docs' if arguments else 'written'}\n")
    return 1 if stale and arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
