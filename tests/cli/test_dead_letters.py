"""`dead-letters` as a person and a script use it: one in full, some of them, and a question before all are gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sync_worker.clock import SystemClock
from sync_worker.errors import ExitCode
from sync_worker.ledger import DeadLetter, open_ledger
from sync_worker.times import moment_ms
from tests.cli.program import on_terminal, run
from tests.support.rows import NOON

REASON = "Kelet answered 400: " + "x" * 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state file with three dead letters."""
    clock = SystemClock()
    ledger = open_ledger(tmp_path / "sync-state.db", clock)
    made = [
        ("rejected", REASON, moment_ms(NOON)),
        ("unreadable", "Timeout of Langfuse", clock.now_ms()),
        ("rejected", "timeout", clock.now_ms()),
    ]
    for number, (kind, reason, made_ms) in enumerate(made, 1):
        letter = DeadLetter(1, kind, reason, made_ms, "t", f"o{number}", 400, "shop", 5, b"x", '{"id": "\x1b[2J"}')
        ledger.commit_result(1, [], [letter])
    ledger.close()
    return tmp_path


def _ids(folder: Path, *options: str) -> list[int]:
    code, out, err = run(folder, "dead-letters", "list", "--json", *options)
    assert code == 0, err
    return [letter["id"] for letter in json.loads(out)["dead_letters"]]


def test_one_is_shown_in_full(folder: Path) -> None:
    """The reason is cut, or what Langfuse returned clears the screen."""
    code, out, err = run(folder, "dead-letters", "show", "1", "2")
    assert (code, err, out.count("\ndead letter ") + 1) == (0, "", 2)
    assert f"  reason          {REASON}\n" in out
    assert '  observation     {"id": "\\x1b[2J"}\n' in out
    code, out, _ = run(folder, "dead-letters", "show", "1", "--json")
    assert json.loads(out)["dead_letters"][0]["raw"] == '{"id": "\x1b[2J"}'
    assert run(folder, "dead-letters", "show", "9")[0] == ExitCode.USAGE


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", [1, 2, 3]),
        ("--kind rejected", [1, 3]),
        ("--reason TIMEOUT", [2, 3]),
        ("--older-than 12h", [1]),
        ("--kind rejected --reason timeout --older-than 0s", [3]),
        ("--kind score", []),
        ("--limit 1 --reason timeout", [2]),
    ],
)
def test_some_of_them(folder: Path, options: str, expected: list[int]) -> None:
    """A filter leaves out too many or too few, or the page is filled before it is filtered."""
    assert _ids(folder, *options.split()) == expected


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ("list --older-than soon", "--older-than 'soon': not a duration. Try: 12h or 30d"),
        ("list --source nowhere", "--source nowhere: there is no such source"),
        ("list --kind reject", "Did you mean rejected?"),
        ("drop 1 --reason timeout", "filters choose among --all, not among ids"),
        ("drop", "either ids of dead letters or --all is required"),
    ],
)
def test_what_cannot_be_meant(folder: Path, options: str, printed: str) -> None:
    """A mistyped filter filters nothing, and everything is dropped."""
    code, out, err = run(folder, "dead-letters", *options.split())
    assert (code, out, err.count("\n"), printed in err) == (ExitCode.USAGE, "", 1, True), err
    assert _ids(folder) == [1, 2, 3]


def test_all_are_dropped_only_after_a_question(folder: Path) -> None:
    """One command too many deletes everything, or a script hangs at a question."""
    code, out, err = run(folder, "dead-letters", "drop", "--all")
    assert (code, out, err.count("\n")) == (ExitCode.USAGE, "", 1)
    assert "--all would drop 3 dead letters, and there is no terminal to ask at. Try: --yes with it" in err
    question = "Drop 2 dead letters? What they stand for is never sent. [y/N]"
    code, shown = on_terminal(folder, "dead-letters", "drop", "--all", "--kind", "rejected", dialog=[(question, "\n")])
    assert (code, _ids(folder)) == (ExitCode.USAGE, [1, 2, 3]), shown
    code, shown = on_terminal(folder, "dead-letters", "drop", "--all", "--kind", "rejected", dialog=[(question, "y\n")])
    assert (code, _ids(folder), shown.splitlines()[-1]) == (0, [2], "2 dead letters dropped")
    code, _, err = run(folder, "dead-letters", "drop", "--all", "--yes")
    assert (code, _ids(folder), err) == (0, [], "1 dead letter dropped\n")
