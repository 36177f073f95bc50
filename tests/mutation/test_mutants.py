"""The mutants that scripts/mutate tries: what is changed, what is left alone, and that a sample can be drawn again."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.mutants import ROOT, Mutant, mutants_of, sample
from tests.mutation.reach import FOLDERS, breadth_of, chosen_of, files_of, held_by, lines_of


def written(folder: Path, text: str) -> Path:
    file = folder / "module.py"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("x = a < b", ["x = a <= b"]),
        ("x = a and b", ["x = a or b"]),
        ("x = not a", ["x = a"]),
        ("x = a + 1", ["x = a - 1", "x = a + 2"]),
        ("x = min(a, b)", ["x = max(a, b)"]),
        ("x = a if b else c", ["x = c if b else a"]),
        ("x = True", ["x = False"]),
        ("x = 1e300", ["x = 2e+300"]),
        ("close(a)", ["pass"]),
        ("for a in b:\n    continue", ["for a in b:\n    break"]),
    ],
)
def test_each_slip_is_made(tmp_path: Path, line: str, changed: list[str]) -> None:
    """A kind of mistake would never be tried, and the score would say nothing of it."""
    made = [ast.unparse(mutant.module()) for mutant in mutants_of([written(tmp_path, line)])]
    assert made == changed


def test_what_no_test_should_notice_is_left_alone(tmp_path: Path) -> None:
    """Mutants of docstrings, annotations and messages would survive, and hide those that matter."""
    text = '"""Text."""\ndef f(a: int | None) -> int | str:\n    """Text."""\n    log.info("x", 1)\n    raise E(1)\n'
    text += "@dataclass(frozen=True)\nclass A:\n    a: int\nif TYPE_CHECKING:\n    b = 1\n"
    assert mutants_of([written(tmp_path, text)]) == []


def test_a_sample_can_be_drawn_again() -> None:
    """A score could not be compared with the one before."""
    every = mutants_of(files_of("otlp"))
    assert sample(every, 20, 1) == sample(every, 20, 1) != sample(every, 20, 2)
    assert len(every) > 200


def test_a_constant_is_held_by_the_tests_that_use_it_and_by_those_of_its_file() -> None:
    """A line that runs on import runs in no test, so each constant would count as one that no test notices."""
    file = ROOT / "sync_worker" / "module.py"
    lines = {1: [], 3: ["wide", "own"], 4: ["own"], 5: ["far", "wide"]}
    reached = {"sync_worker/module.py": lines, "other.py": {line: ["far", "wide"] for line in range(9)}}
    constant = Mutant(file, 1, "1", "2", 0, used=(5,))
    unused = Mutant(file, 1, "1", "2", 0)
    assert list(held_by(constant, reached, breadth_of(lines_of(reached)))) == ["wide", "far", "own"]
    assert list(held_by(unused, reached, breadth_of(lines_of(reached)))) == ["own", "wide", "far"]


def test_narrow_tests_are_chosen_and_those_that_differ_in_what_they_run() -> None:
    """All tests of a line in the middle of everything would be much alike, and take hours."""
    tests = [f"{number}" for number in range(100)]
    reached = {"one.py": {1: tests, 2: ["0", "7"], 3: ["50", "60", "70"]}, "two.py": {4: ["60"], 5: ["80"]}}
    lines = lines_of(reached)
    assert list(chosen_of(tests, 10, lines)) == ["0", "1", "2", "3", "4", "60", "7", "80", "50", "70"]
    assert [len(chosen_of(tests, most, lines)) for most in (1, 2, 7, 60, 100, 200)] == [1, 2, 7, 60, 100, 100]
    assert list(chosen_of([], 6, {})) == []


def test_a_line_of_its_own_in_a_statement_is_held_by_the_tests_of_the_statement() -> None:
    """No line is seen to run where only a number stands, so it would count as one that no test reaches."""
    reached = {"sync_worker/module.py": {3: ["one"], 4: ["two"]}}
    at = [Mutant(ROOT / "sync_worker" / "module.py", line, "1", "2", 0, 0, 3, True) for line in (4, 5)]
    assert [list(held_by(mutant, reached, breadth_of(lines_of(reached)))) for mutant in at] == [["two"], ["one"]]


def test_where_a_mutant_stands_is_known(tmp_path: Path) -> None:
    """A constant would be changed where it was read long ago, or a function imported anew for each of its places."""
    text = "A = 1\ndef f(b=2):\n    return [\n        3,\n        A,\n    ]\nc = lambda: 4\n"
    found = {one.before: (one.statement, one.in_function, one.used) for one in mutants_of([written(tmp_path, text)])}
    expected = {"1": (1, False, (1, 5)), "2": (2, False, (2, 3, 4, 5, 6)), "3": (3, True, ()), "4": (7, True, ())}
    assert found == expected


_TRIED = """
import threading
LIMIT = 7
def below(number):
    return number < LIMIT
MADE = below(LIMIT)
def count(number):
    while number > 3:
        number -= 1
    return number
def wait(number):
    if number > 5:
        threading.Event().wait()
def unseen(number):
    return number + 1
"""
_TESTS = """
import importlib, pytest
@pytest.fixture
def tried(): return importlib.import_module("sync_worker.tried")
def test_limit(tried): assert tried.below(6) and not tried.below(7)
def test_made(tried): assert not tried.MADE
def test_count(tried): assert tried.count(4) == 3
def test_wait(tried): tried.wait(5)
def test_fails(tried): assert tried.unseen(1) == 9
"""
_TRY = """
import json, sys
from pathlib import Path
from tests.mutation import mutants, run
mutants.ROOT = Path.cwd()
run._CPU = run._IDLE = 1
tests = [f"tests/test_tried.py::test_{name}" for name in sys.argv[1:]]
made = mutants.mutants_of([Path.cwd() / "sync_worker" / "tried.py"])
found = run.Verdicts({mutant: tests for mutant in made})
print(json.dumps([(f"{one.before} -> {one.after}", (found[one] or "").rpartition("_")[2]) for one in made]))
"""


def tried(folder: Path, *tests: str) -> dict[str, str]:
    """Return by mutant which of the tests noticed it."""
    for place, text in (("sync_worker/__init__", ""), ("sync_worker/tried", _TRIED), ("tests/test_tried", _TESTS)):
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).with_suffix(".py").write_text(text, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    environ = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", _TRY, *tests]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_what_a_test_notices_is_killed_by_it(tmp_path: Path) -> None:
    """A score would count what no test notices: in functions, constants, what an import makes, loops and waits."""
    found = tried(tmp_path, "fails", "limit", "count", "wait")
    assert found.pop("number < LIMIT -> number <= LIMIT") == "limit"
    assert found.pop("7 -> 8") == "limit"
    assert found.pop("number -= 1 -> number += 1") == "count"
    assert found.pop("number > 5 -> number >= 5") == "wait"
    assert found.pop("number + 1 -> number - 1") == ""


def test_what_an_import_makes_of_a_function_is_tried(tmp_path: Path) -> None:
    """A function that runs when its module is imported would count as one that nothing holds."""
    assert tried(tmp_path, "made")["number < LIMIT -> number <= LIMIT"] == "made"


def test_the_tests_of_each_package_are_there() -> None:
    """A folder that was renamed would leave a package with no tests, and a score of nothing."""
    for package, folders in FOLDERS.items():
        assert files_of(package)
        assert all((ROOT / folder).exists() for folder in folders)
