"""`init`, at a real terminal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sync_worker.cli.commands.init.run import _quoted
from sync_worker.errors import ExitCode
from sync_worker.settings import load
from tests.cli.program import on_terminal, run

PUBLIC = "pk-lf-00000000-0000-0000-0000-000000001234"
SECRET = "sk-lf-00000000-0000-0000-0000-00000000abcd"
KELET = "kelet_sk_00000000000000000000wxyz"
ANSWERS = [
    ("Address of Langfuse", "\n"),
    ("public key", f"{PUBLIC}\n"),
    ("Langfuse secret key", f"{SECRET}\n"),
    ("Kelet secret key", f"{KELET}\n"),
    ("Kelet project", "shop\n"),
]


def test_env_is_written_by_asking(tmp_path: Path) -> None:
    """A first user edits a file with 80 settings, or a key is shown, or left for others to read."""
    old = os.umask(0)
    try:
        code, shown = on_terminal(tmp_path, "init", dialog=ANSWERS)
    finally:
        os.umask(old)
    file = tmp_path / ".env"
    assert code == 0, shown
    assert [SECRET in shown, KELET in shown, PUBLIC in shown] == [False, False, False]
    assert "sk-lf-…abcd, 42 characters" in shown
    assert shown.endswith("Next: sync-worker check\n")
    assert (file.stat().st_mode & 0o777, [one.name for one in tmp_path.iterdir()]) == (0o600, [".env"])
    (source,) = load(environ={}, directory=tmp_path).sources
    assert (source.langfuse_base_url, source.kelet_project) == ("https://cloud.langfuse.com", "shop")
    assert (source.langfuse_secret_key.get_secret_value(), source.langfuse_public_key) == (SECRET, PUBLIC)


def test_a_wrong_answer_is_asked_again(tmp_path: Path) -> None:
    """A key in the wrong place is stored, or shown in the message, or ends the questions."""
    dialog = [
        ("Address of Langfuse", "langfuse\n"),
        ("Address of Langfuse", "sk-lf-typed-here\n"),
        ("Address of Langfuse", "http://example.com\n"),
        ("Address of Langfuse", "https://langfuse.example.com/\n"),
        ("public key", "\udcff\udcfe\n"),
        ("Langfuse public key", f"{SECRET}\n"),
        ("Langfuse public key", f"{PUBLIC}\n"),
        ("Langfuse secret key", f"{PUBLIC}\n"),
        ("Langfuse secret key,", f"{SECRET}\n"),
        ("Kelet secret key", f"{SECRET}\n"),
        ("Kelet secret key", f"{KELET}\n"),
        ("Kelet project", f"{KELET}\n"),
        ("Kelet project, ", "default\n"),
        ("Kelet project, ", "shop\n"),
    ]
    code, shown = on_terminal(tmp_path, "init", dialog=dialog)
    assert code == 0, shown
    assert "this is a Langfuse secret key; expected the public key (pk-lf-…)" in shown
    assert "this is a Langfuse key, which must not be sent to Kelet" in shown
    assert shown.count("Address of Langfuse") == 4
    assert shown.count("sk-lf-typed-here") == 1  # as it was typed
    assert "  not UTF-8 text\n" in shown
    assert shown.count("Kelet project, from") == 3
    assert "LANGFUSE_BASE_URL=https://langfuse.example.com\n" in (tmp_path / ".env").read_text()


def test_nothing_is_replaced_without_a_question(tmp_path: Path) -> None:
    """A file with settings that took an hour is gone."""
    file = tmp_path / "prod.env"
    file.write_text("SYNC_INTERVAL=5m\n")
    for answer in ("\n", "n\n", "yess\n"):
        code, shown = on_terminal(tmp_path, "init", "--env-file", "prod.env", dialog=[("Replace it?", answer)])
        assert (code, file.read_text()) == (ExitCode.USAGE, "SYNC_INTERVAL=5m\n"), shown
    code, shown = on_terminal(tmp_path, "--env-file", "prod.env", "init", dialog=[("Replace it?", "y\n"), *ANSWERS])
    assert (code, "LANGFUSE_PUBLIC_KEY" in file.read_text()) == (0, True), shown
    assert shown.endswith("Next: sync-worker check --env-file prod.env\n")


@pytest.mark.parametrize(("key", "expected"), [("\x04", 2), ("\x03", 130)])
def test_an_end_in_the_middle_leaves_nothing(tmp_path: Path, key: str, expected: int) -> None:
    """Ctrl-D or Ctrl-C leaves half a file, or ends in a traceback."""
    for number in (0, 1):
        code, shown = on_terminal(tmp_path, "init", dialog=[*ANSWERS[:number], (ANSWERS[number][0], key)])
        assert (code, "Traceback" in shown, list(tmp_path.iterdir())) == (expected, False, []), shown


def test_without_a_terminal(tmp_path: Path) -> None:
    """A script hangs at a question that nobody sees."""
    code, out, err = run(tmp_path, "init")
    assert (code, out, err.count("\n"), list(tmp_path.iterdir())) == (ExitCode.USAGE, "", 1, [])
    assert "init asks on a terminal" in err


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    """Five answers are given, and then the file cannot be written."""
    for path in ("none/.env", ".", ""):
        code, shown = on_terminal(tmp_path, "init", "--env-file", path)
        assert (code, shown.count("\n")) == (ExitCode.USAGE, 1), shown


def test_the_environment_that_wins_is_named(tmp_path: Path) -> None:
    """What was typed has no effect, and nobody says why."""
    _, shown = on_terminal(tmp_path, "init", dialog=ANSWERS, environ={"KELET_PROJECT": "other"})
    assert "KELET_PROJECT is set in the environment too, which wins over the file" in shown


@pytest.mark.parametrize("project", ["shop", "two words", "it's", "a#b", "a #b", "$HOME", 'q"q', "back\\slash"])
def test_any_project_is_read_as_it_was_typed(tmp_path: Path, project: str) -> None:
    """A quote, a dollar or a hash in a name changes it on the way through the file."""
    (tmp_path / ".env").write_text(f"KELET_PROJECT={_quoted(project)}\n")
    found = load(environ={"HOME": "/root"}, directory=tmp_path, need_sources=False)
    assert found.kelet_project == project
