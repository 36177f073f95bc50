"""The completions and the man page that scripts/completions writes, used by real shells and by groff."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_worker import __version__
from sync_worker.cli.arguments import Parser
from sync_worker.cli.parser import build_parser
from tests.support.building import ROOT

_SECONDS = 60
_DATE = "1700000000"  # 2023-11-14
FILES = ("_sync-worker", "sync-worker.1", "sync-worker.bash")


def write(folder: Path, **environ: str) -> Path:
    """Run scripts/completions with a home and in a folder of its own."""
    folder.mkdir()
    done = subprocess.run(
        [ROOT / "scripts" / "completions", "made"], cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANGFUSE_SECRET_KEY": "sk-lf-hidden",
             "SYNC_VENV_PACKAGES": os.environ["SYNC_TEST_PACKAGES"], **environ}, timeout=_SECONDS,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder / "made"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("completions") / "first")


def commands(parser: Parser) -> Iterator[Parser]:
    """Yield every command that can be run."""
    for _, below in parser.verbs().values():
        yield from commands(below) if below.verbs() else (below,)


def by_bash(made: Path, folder: Path, *words: str) -> list[str]:
    """Return what bash completes the last word to."""
    script = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }; '
        "entry=$(complete -p sync-worker); entry=${entry#* -F }; "
        '"${entry%% *}" && printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", made / "sync-worker.bash", "sync-worker", *words], cwd=folder,
        capture_output=True, text=True, check=False, timeout=_SECONDS,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return [line for line in done.stdout.splitlines() if line]


def test_the_same_source_gives_the_same_files(made: Path, tmp_path: Path) -> None:
    """A package would differ with each build, or hold a path, a key or the time of the machine that built it."""
    again = write(tmp_path / "another", SYNC_CONFIG="/elsewhere/sync.toml", COLUMNS="40", LANG="de_DE.UTF-8")
    assert sorted(path.name for path in made.iterdir()) == list(FILES)
    for name in FILES:
        text = (made / name).read_text(encoding="utf-8")
        assert text == (again / name).read_text(encoding="utf-8")
        assert [one for one in (str(ROOT), str(Path.home()), "sk-lf-hidden", "/elsewhere") if one in text] == []


def test_a_date_is_that_of_the_source(made: Path, tmp_path: Path) -> None:
    """A packager's date would be missing from the page, or another one be there."""
    dated = write(tmp_path / "dated", SOURCE_DATE_EPOCH=_DATE)
    head = [(folder / "sync-worker.1").read_text().splitlines()[0] for folder in (made, dated)]
    assert head[0].startswith('.TH SYNC\\-WORKER 1 "" "sync\\-worker ' + __version__)
    assert head[1] == head[0].replace('1 ""', '1 "2023-11-14"')


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["dead"], ["dead-letters"]),
        (["dead-letters", ""], ["drop", "list", "retry", "show"]),
        (["dead-letters", "--config", "b.toml", "re"], ["retry"]),
        (["-v", "--config", "b.toml", "stat"], ["state", "status"]),
        (["--env"], ["--env-file"]),
        (["backfill", "--sc"], ["--scores"]),
        (["backfill", "--scores", ""], ["none", "only", "too"]),
        (["dead-letters", "list", "--kind", "par"], ["partial"]),
        (["status", "--watch", "5s", "--js"], ["--json"]),
        (["once", "--source", "run", "--dry"], ["--dry-run"]),
        (["help", "back"], ["backfill"]),
        (["once", "--config", ""], ["a.json", "b.toml", "backups"]),
        (["once", "--env-file", "b"], ["b.toml", "backups"]),
        (["check", "--state", "a"], ["a.json"]),
        (["once", "--metrics-file", "a"], ["a.json"]),
        (["convert", "a"], ["a.json"]),
        (["state", "merge", "a.json", "b."], ["b.toml"]),
        (["explain", ""], []),
    ],
)
def test_bash_completes(made: Path, tmp_path: Path, typed: list[str], expected: list[str]) -> None:
    """A command, an option or a value would not be offered, or others with it."""
    (tmp_path / "a.json").touch()
    (tmp_path / "b.toml").touch()
    (tmp_path / "backups").mkdir()
    assert sorted(by_bash(made, tmp_path, *typed)) == expected


def test_bash_offers_every_command_and_option(made: Path, tmp_path: Path) -> None:
    """A command of the parser could not be completed, or one of its options."""
    assert by_bash(made, tmp_path, "") == list(build_parser().verbs())
    for command in commands(build_parser()):
        offered = by_bash(made, tmp_path, *command.prog.split()[1:], "-")
        assert sorted(offered) == sorted(command.options()), command.prog


def test_zsh_takes_several_files(made: Path) -> None:
    """Only the first of several files would be completed."""
    text = (made / "_sync-worker").read_text(encoding="utf-8")
    assert text.startswith("#compdef sync-worker\n")
    assert '"*:the state file of a shard:_files"' in text


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_loads_it(made: Path) -> None:
    """zsh would find an error in the file, or not take it for the completion of this command."""
    script = 'zsh -n "$1/_sync-worker" && fpath=("$1" $fpath) && autoload -Uz compinit && compinit -D -u && '
    script += 'autoload +X _sync-worker && print -r -- "${_comps[sync-worker]}"'
    done = subprocess.run(
        ["zsh", "-f", "-c", script, "zsh", made], capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "_sync-worker\n", "")


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff")
def test_the_man_page_is_rendered(made: Path) -> None:
    """`man sync-worker` would warn, or not have a command with its options, examples and exit codes."""
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-P-cbou", made / "sync-worker.1"], capture_output=True, text=True,
        check=False, timeout=_SECONDS,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    shown = " ".join(re.sub("[\u2010\u00ad]\\s+", "", done.stdout).split())
    for command in commands(build_parser()):
        found = command.reference
        assert found is not None
        assert command.prog in shown
        for words, _ in found.examples:
            assert f"sync-worker {words}" in shown
        for action in command.arguments():
            assert all(option in shown for option in action.option_strings)


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="there is no mandoc")
def test_the_man_page_is_clean_for_mandoc(tmp_path: Path) -> None:
    """The page would be wrong where mandoc renders it: BSD, Alpine, macOS."""
    page = write(tmp_path / "dated", SOURCE_DATE_EPOCH=_DATE) / "sync-worker.1"
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", page], capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("arguments", [[], ["one", "two"]])
def test_how_it_is_called(arguments: list[str], tmp_path: Path) -> None:
    """A wrong call would make an environment first, or write somewhere."""
    done = subprocess.run(
        [ROOT / "scripts" / "completions", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False,
        timeout=_SECONDS,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "Usage: scripts/completions FOLDER\n")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A traceback would say that there is a file where the folder should be."""
    (tmp_path / "taken").touch()
    done = subprocess.run(
        [ROOT / "scripts" / "completions", "taken"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "SYNC_VENV_PACKAGES": os.environ["SYNC_TEST_PACKAGES"]}, timeout=_SECONDS,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "Cannot write into taken: File exists. Try: another folder.\n")
