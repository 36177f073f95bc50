"""Help, what to do first, and what is answered to a mistyped command or option."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import iter_modules

import pytest

from sync_worker.cli import commands
from sync_worker.cli.arguments import Parser
from sync_worker.cli.help_text import render
from sync_worker.cli.parser import build_parser
from sync_worker.errors import MEANINGS, ExitCode
from tests.cli.program import run, run_fresh
from tests.support.programs import ROOT


def _all(parser: Parser, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Parser]]:
    yield words, parser
    for name, (_, inner) in parser.verbs().items():
        yield from _all(inner, (*words, name))


EVERY = dict(_all(build_parser()))
LEAVES = {words: parser for words, parser in EVERY.items() if not parser.verbs()}


def test_no_arguments_show_what_to_do_first(tmp_path: Path) -> None:
    """A new user who types the name gets an error instead of the first step, or a script takes that for success."""
    code, out, err = run(tmp_path)
    assert (code, err) == (ExitCode.USAGE, "")
    first = out.partition("start here:")[2].split("\n\n")[0]
    assert [line.split()[1] for line in first.strip().splitlines()][:3] == ["demo", "init", "check"]


def test_help_is_a_command(tmp_path: Path) -> None:
    """`help` and `--help` differ, or `help COMMAND` is not the help of that command."""
    assert run(tmp_path, "help") == run(tmp_path, "--help")
    assert run(tmp_path, "help", "dead-letters", "list") == run(tmp_path, "dead-letters", "list", "--help")
    code, out, _ = run(tmp_path, "help", "backfill")
    assert (code, out.startswith("usage: sync-worker backfill ")) == (0, True)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("onec", "`sync-worker once`"),
        ("Status", "`sync-worker status`"),
        ("dead-leters list", "`sync-worker dead-letters`"),
        ("dead-letters lst", "`sync-worker dead-letters list`"),
        ("merge", "`sync-worker state merge`"),
        ("start", "`sync-worker run`"),
        ("help bakfill", "`sync-worker backfill`"),
        ("status --jsn", "--json"),
        ("once --sorce shop", "--source"),
        ("--sorce shop once", "--source"),
        ("backfill --form 30d --to now", "--from"),
        ("backfill --from 30d --to now --scores onyl", "only"),
        ("once --source=shop --metrics-fiel=x", "--metrics-file"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(tmp_path: Path, typed: str, meant: str) -> None:
    """A mistyped word ends in a page of usage, or in an error that does not say what was meant."""
    code, out, err = run(tmp_path, *typed.split())
    assert (code, out, err.count("\n")) == (ExitCode.USAGE, "", 1)
    assert err.endswith(f" Did you mean {meant}?\n")


@pytest.mark.parametrize(
    ("typed", "printed"),
    [
        ("frobnicate", "there is no command 'frobnicate'. Try: sync-worker help"),
        ("dead-letters", "a command is missing. Try: sync-worker dead-letters list or "),
        ("backfill", "--from and --to are required. Try: sync-worker backfill --help"),
        ("explain", "TRACE is required. Try: sync-worker explain --help"),
        ("status x", "one argument too many: 'x'. Try: sync-worker status --help"),
        ("status --state", "--state: expected one argument. Try: "),
        ("dead-letters list --limit -5", "'-5' is not a whole number from 1 to 1000000. Try: "),
        ("dead-letters list --limit ٣", "is not a whole number from 1 to 1000000. Try: "),
        ("once --sourc\x1b[2J", "there is no option '--sourc\\x1b[2J'. Did you mean --source?"),
        ("status --metrics-file x", "--metrics-file is an option of other commands. Try: sync-worker status --help"),
        ("help status x", "status: one argument too many: 'x'. Try: sync-worker status --help"),
        ("--nonsense", "there is no option '--nonsense'. Try: sync-worker --help"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, typed: str, printed: str) -> None:
    """An error in the arguments takes several lines, has no hint, or passes control characters to the terminal."""
    code, out, err = run(tmp_path, *typed.split(" "))
    assert (code, out, err.count("\n")) == (ExitCode.USAGE, "", 1)
    assert printed in err


def test_an_option_is_not_abbreviated(tmp_path: Path) -> None:
    """A script with `--sour` would break on the day when another option begins in the same way."""
    code, _, err = run(tmp_path, "once", "--sour", "shop")
    assert (code, "Did you mean --source?" in err) == (2, True)


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_help_ends_with_examples_defaults_and_exit_codes(words: tuple[str, ...]) -> None:
    """A command was added without examples or exit codes, or its help leaves out what holds without an option."""
    parser = LEAVES[words]
    found = parser.reference
    assert found is not None
    assert found.examples
    text = render(parser, 80)
    titles = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    expected = ["examples:", "defaults:", "exit codes:"] if parser.otherwise else ["examples:", "exit codes:"]
    assert titles[-len(expected) :] == expected
    for action in parser.arguments():
        if action.option_strings and action.nargs != 0 and not action.required and action.dest not in {"trace", "old"}:
            assert action.option_strings[-1] in parser.otherwise, "what holds without it?"
    assert set(found.codes) <= set(MEANINGS)


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_examples_are_accepted(words: tuple[str, ...]) -> None:
    """An example in the help is rejected by the parser, or belongs to another command."""
    found = LEAVES[words].reference
    assert found is not None
    for line, _ in found.examples:
        assert line.split()[: len(words)] == list(words)
        assert build_parser().parse_args(shlex.split(line)).parser.prog == f"sync-worker {' '.join(words)}"


def test_the_overview_has_every_command() -> None:
    """The package of a command names a group that there is not, and `help` does not show it."""
    parser = build_parser()
    assert [name for names in parser.groups.values() for name in names] == list(parser.verbs())
    packages = {one.name for one in iter_modules(commands.__path__)}
    assert {name.replace("-", "_") for name in parser.verbs()} == packages | {"resume"}


@pytest.mark.parametrize("width", [20, 40, 80, 100])
def test_help_is_wrapped_at_the_width_of_the_terminal(width: int) -> None:
    """On a narrow terminal or a phone, the help breaks in the middle of words."""
    for parser in EVERY.values():
        for line in render(parser, width).splitlines():
            assert len(line) <= max(width, 40), line  # words are not broken, however narrow it is


def test_the_width_is_that_of_the_terminal(tmp_path: Path) -> None:
    """COLUMNS has no effect."""
    for columns, longest in (("40", 40), ("1000", 100), ("", 80), ("0", 80), ("x", 80), ("3", 32)):
        _, out, _ = run(tmp_path, "help", "verify", environ={"COLUMNS": columns})
        assert longest - 8 <= max(map(len, out.splitlines())) <= longest, columns


def test_examples_can_be_copied_from_a_narrow_terminal() -> None:
    """An example that takes two lines is two commands for the shell."""
    joined = render(LEAVES["backfill",], 40).replace("\\\n", " ")
    lines = [" ".join(line.split()) for line in joined.splitlines() if line.startswith("  sync-worker")]
    found = LEAVES["backfill",].reference
    assert found is not None
    assert lines == [f"sync-worker {line}" for line, _ in found.examples]


@pytest.mark.parametrize(
    "environ",
    [
        {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        {"TERM": "dumb", "COLUMNS": "20"},
        {"HOME": ""},
    ],
)
def test_help_needs_nothing(tmp_path: Path, environ: dict[str, str]) -> None:
    """Help fails just where a setup is broken: without UTF-8, a terminal or a home."""
    ended = run_fresh(tmp_path, "help", env=environ, stdout=subprocess.PIPE)
    assert (ended.returncode, ended.stderr, "\\u" in ended.stdout, "backfill" in ended.stdout) == (0, "", False, True)


def test_help_to_a_full_disk_or_nobody(tmp_path: Path) -> None:
    """Help that nobody can read ends in a traceback, or help that could not be written as a success."""
    with Path("/dev/full").open("w") as full:
        ended = run_fresh(tmp_path, "help", stdout=full)
    assert (ended.returncode, ended.stderr.count("\n"), "could not be written" in ended.stderr) == (1, 1, True)
    command = f"{sys.executable} -m sync_worker"
    for shell, code in (
        (f"{command} help >&-", 1),
        (f"{command} help | true", 0),
        (f"{command} help <&- >/dev/null", 0),
    ):
        environ = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
        closed = subprocess.run(
            ["bash", "-o", "pipefail", "-c", shell],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (closed.returncode, b"Traceback" in closed.stderr) == (code, False), shell


def test_the_start_imports_only_what_it_needs() -> None:
    """`--version` and every start of a command become slower by a library that they do not use."""
    script = (
        "import sys; before = {*sys.modules}; from sync_worker.cli import load; load(['--version']); "
        "print(*sys.modules.keys() - before)"  # a measurement of coverage has its own
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(ended.stdout.split())
    unwanted = {"difflib", "asyncio", "pydantic", "httpx", "sqlite3", "getpass", "inspect", "dataclasses"}
    ours = {"sync_worker.settings", "sync_worker.records", "sync_worker.cli.help_text", "sync_worker.watch.logs"}
    assert loaded & (unwanted | ours) == set()
