"""The pages, held to the code: tables, links, command lines, names of settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from sync_worker.cli.parser import build_parser
from sync_worker.errors import ExitCode
from sync_worker.settings.model import ALIASES, FIELDS, SECRETS, file_name_of
from sync_worker.targets import PRESETS, PresetName
from tests.docs.pages import FILES_WITH_COMMANDS, PAGES, anchors, code_lines, inline_code, links, started
from tests.docs.tables import (
    COMMANDS,
    ROOT,
    SETTINGS,
    TABLES,
    MarkerError,
    exit_codes,
    main,
    with_table,
    with_tables,
)

PARSER = build_parser()
VARIABLES = re.compile(r"\b(?:SYNC|LANGFUSE|KELET)_[A-Z_]*[A-Z]\b")
#: Variables of the scripts and of Langfuse's own SDK, which are no settings of the worker.
OTHER_VARIABLES = {"SYNC_VENV", "SYNC_VENV_DEV", "SYNC_VENV_BENCH"}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def complaint(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what the real parser says against a command line, in its own words; nothing when it accepts it."""
    try:
        PARSER.parse_args(words)
    except SystemExit as end:
        printed = capsys.readouterr()
        return printed.err.strip().splitlines()[-1] if end.code else ""
    return ""


@pytest.mark.parametrize("path", TABLES, ids=_name)
def test_tables_are_as_the_code_says(path: Path) -> None:
    """A page would print a setting, a command, an exit code or a metric that is not so (run scripts/docs)."""
    assert with_tables(path) == path.read_text(encoding="utf-8")


def test_check_sees_a_stale_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`scripts/docs --check` would let a stale table pass, or writing would not mend it."""
    page = tmp_path / "settings.md"
    text = SETTINGS.read_text(encoding="utf-8")
    page.write_text(text.replace("| `SYNC_SETTLE` | `30s` |", "| `SYNC_SETTLE` | `3s` |"))
    monkeypatch.setattr("tests.docs.tables.TABLES", {page: TABLES[SETTINGS]})
    assert [main(["--check"]), main([]), main(["--check"]), main(["--chek"])] == [1, 0, 0, 2]
    assert page.read_text(encoding="utf-8") == text


def test_a_page_without_a_place_for_a_table_is_reported() -> None:
    """A marker lost in an edit would silently freeze its table."""
    text = COMMANDS.read_text(encoding="utf-8")
    with pytest.raises(MarkerError, match="exit codes"):
        with_table(text.replace("<!-- end: exit codes -->", ""), "exit codes", "")


def test_every_exit_code_is_in_the_table() -> None:
    """A code would have no comment, and its line in the table no meaning."""
    assert {code for code, _ in exit_codes()} == {value for name, value in vars(ExitCode).items() if name.isupper()}


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_links_lead_somewhere(path: Path) -> None:
    """A link inside of the repository would lead to a file or a heading that is not there."""
    for target in links(path.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_command_lines_in_code_blocks_are_accepted(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reader who copies a line would be told that there is no such command or option."""
    for line in code_lines(path.read_text(encoding="utf-8")):
        for words in started(line):
            assert complaint(words, capsys) == "", line


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_command_lines_in_the_text_are_accepted(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The text would name a command or an option that does not exist; it may leave out what a command needs."""
    for code in inline_code(path.read_text(encoding="utf-8")):
        for words in started(code):
            printed = complaint(words, capsys)
            assert printed == "" or " required. " in printed or "is missing" in printed, code


@pytest.mark.parametrize("path", FILES_WITH_COMMANDS, ids=_name)
def test_command_lines_for_deployment_are_accepted(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in deploy/ would start a command that fails with 2 on the customer's machine."""
    text = path.read_text(encoding="utf-8")
    for line in text.replace("\\\n", " ").splitlines():
        if not line.lstrip().startswith("#"):
            for words in started(line):
                assert complaint(words, capsys) == "", line
    for arguments in re.findall(r"^ *args: (\[.*\])$|^ *args:\n((?: *- .*\n)+)", text, re.MULTILINE):
        assert complaint(yaml.safe_load("".join(arguments)), capsys) == "", arguments


def test_common_options_are_those_of_the_page() -> None:
    """The page says of a command that it takes an option, and the program refuses it."""
    verbs = PARSER.verbs()
    commands = {
        f"{name} {verb}".strip(): parser
        for name, (_, command) in verbs.items()
        for verb, parser in ({key: one for key, (_, one) in command.verbs().items()} or {"": command}).items()
    }
    without = {
        option: {name for name, parser in commands.items() if option not in parser.options()}
        for option in ("--state", "--json")
    }
    assert without == {
        "--state": {"demo", "init", "config schema", "help"},
        "--json": {"run", "init", "config schema", "help"},
    }


def test_command_lines_are_found() -> None:
    """The patterns would match nothing, and let every mistake pass."""
    for line, expected in (
        ("cd x && /opt/sync-worker/scripts/sync once >>log 2>&1; echo 'sync-worker ended'", ["once"]),
        (
            "docker run --rm sync-worker:0.1.0 backfill --from 7d --to now # all",
            ["backfill", "--from", "7d", "--to", "now"],
        ),
        ("docker run --name sync-worker -v sync-worker:/var/lib sync-worker:0.1.0 run", ["run"]),
        ("docker compose run --rm worker check", ["check"]),
        ("kubectl exec deploy/sync-worker -- python -m sync_worker status", ["status"]),
        ("runuser -u sync-worker -- sh -c 'cd x; scripts/sync status'", ["status"]),
        ("ExecStart=/opt/sync-worker/scripts/sync run", ["run"]),
        ("sync-worker dead-letters retry 3 | less", ["dead-letters", "retry", "3"]),
    ):
        assert list(started(line)) == [expected]
    assert list(started("kubectl -n sync-worker apply -k deploy/kubernetes")) == []
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    found = [words[0] for line in code_lines(pages) for words in started(line)]
    assert {"demo", "once", "check", "plan", "backfill"} <= set(found)


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_settings_named_exist(path: Path) -> None:
    """A page would name a setting that is misspelt or gone."""
    known = {name.upper() for field in FIELDS for name in (field, *ALIASES.get(field, ()))}
    known |= {file_name_of(field).upper() for field in SECRETS} | OTHER_VARIABLES
    assert set(VARIABLES.findall(path.read_text(encoding="utf-8"))) <= known


def test_targets_page_has_every_preset() -> None:
    """A preset would be known to the parser, and to nobody who looks for it on its page."""
    rows = [line for line in (ROOT / "docs" / "targets.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    assert set(PRESETS) == set(get_args(PresetName))
    for name, preset in PRESETS.items():
        (row,) = [row for row in rows if row.startswith(f"| `{name}` |")] or [f"no row of {name} in docs/targets.md"]
        assert f"`{preset.path}`" in row


def test_files_named_for_contributors_exist() -> None:
    """CONTRIBUTING.md would send somebody with a task to a file that was moved."""
    code = inline_code((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    named = {path for path in code if re.match(r"(?:sync_worker|tests|docs|deploy|scripts|\.github)/\S+$", path)}
    assert len(named) > 20
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_names_named_for_contributors_exist() -> None:
    """CONTRIBUTING.md would send somebody with a task to a class, function or constant that was renamed."""
    code = inline_code((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    named = {name for name in code if re.fullmatch(r"[A-Z]\w{2,}(\.\w+)?|_\w+|\w+_(of|to)", name)}
    files = [path for folder in ("sync_worker", "tests", "scripts/lib") for path in (ROOT / folder).rglob("*.*")]
    texts = [path.read_text(encoding="utf-8") for path in files if path.suffix in {".py", ".sh"}]
    words = set(re.findall(r"\w+", "\n".join(texts)))
    assert len(named) > 15
    assert [name for name in sorted(named) if not words.issuperset(name.split("."))] == []
