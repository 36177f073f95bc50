"""The mutants that scripts/mutate tries: what is changed, what is left alone, and that a sample can be drawn again."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutation.mutants import Mutant, mutants_of, sample
from tests.mutation.run import FOLDERS, ROOT, breadth_of, files_of, held_by


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
    assert mutants_of([written(tmp_path, text)]) == []


def test_a_sample_can_be_drawn_again() -> None:
    """A score could not be compared with the one before."""
    every = mutants_of(files_of("otlp"))
    assert sample(every, 20, 1) == sample(every, 20, 1) != sample(every, 20, 2)
    assert len(every) > 200


def test_a_constant_is_held_by_the_tests_of_its_file() -> None:
    """A line that runs on import runs in no test, so each constant would count as one that no test notices."""
    file = ROOT / "sync_worker" / "module.py"
    reached = {"sync_worker/module.py": {1: [], 3: ["wide", "own"], 4: ["own"]}, "other.py": {1: ["wide"], 2: ["wide"]}}
    at = [held_by(Mutant(file, line, "1", "2", 0), reached, breadth_of(reached)) for line in (1, 2, 3)]
    assert [list(tests) for tests in at] == [["own", "wide"], [], ["wide", "own"]]


def test_the_tests_of_each_package_are_there() -> None:
    """A folder that was renamed would leave a package with no tests, and a score of nothing."""
    for package, folders in FOLDERS.items():
        assert files_of(package)
        assert all((ROOT / folder).exists() for folder in folders)
