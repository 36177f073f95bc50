"""Which tests reach which line of the worker, as coverage sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from coverage import CoverageData

from tests.mutation.mutants import ROOT, Mutant

CACHE = ROOT / ".mutation"
#: By package, the folders of tests that hold it.
FOLDERS: Mapping[str, Sequence[str]] = {
    "otlp": ("tests/otlp", "tests/sync"),
    "langfuse": ("tests/langfuse", "tests/unit", "tests/sync"),
    "ledger": ("tests/ledger", "tests/sync"),
    "pipeline": ("tests/sync", "tests/unit"),
    "runs": ("tests/sync", "tests/unit"),
    "sync": ("tests/sync", "tests/unit"),
}

#: By file and line, the tests that run it.
Reached = Mapping[str, Mapping[int, Sequence[str]]]


def files_of(package: str) -> list[Path]:
    """Return the modules of a package."""
    return sorted((ROOT / "sync_worker" / package).rglob("*.py"))


def reached_by(folders: Sequence[str]) -> Reached:
    """Return which lines each test in these folders runs."""
    found: dict[str, dict[int, list[str]]] = {}
    for folder in folders:
        for test, files in _lines_of(folder).items():
            for file, lines in files.items():
                for line in lines:
                    found.setdefault(file, {}).setdefault(line, []).append(test)
    return found


def _lines_of(folder: str) -> Mapping[str, Mapping[str, Sequence[int]]]:
    """Run the tests in a folder once, and return the lines that each runs, by file; kept until a file changes."""
    state = sha256()
    for place in ("sync_worker", "tests/conftest.py", "tests/support", folder):
        for file in sorted((ROOT / place).rglob("*.py")) or [ROOT / place]:
            state.update(file.read_bytes())
    kept = CACHE / f"{folder.rpartition('/')[2]}-{state.hexdigest()[:16]}.json"
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        measured = Path(place) / "data"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", "--cov", "--cov-context=test",
             "--cov-report=", "--cov-fail-under=0", folder],
            cwd=ROOT, env={**os.environ, "COVERAGE_FILE": str(measured)}, check=False, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode != 0:
            raise SystemExit(
                f"{done.stdout[-2000:]}{done.stderr}\nThe tests fail as they are. Try: scripts/test {folder}"
            )
        found = _measured(measured)
    kept.write_text(json.dumps(found), encoding="utf-8")
    return found


def _measured(file: Path) -> dict[str, dict[str, list[int]]]:
    data = CoverageData(basename=str(file))
    data.read()
    found: dict[str, dict[str, list[int]]] = {}
    for measured in data.measured_files():
        name = Path(measured).relative_to(ROOT).as_posix()
        for line, contexts in data.contexts_by_lineno(measured).items():
            for test in {context.partition("|")[0] for context in contexts} - {""}:
                found.setdefault(test, {}).setdefault(name, []).append(line)
    return found


def lines_of(reached: Reached) -> dict[str, int]:
    """Return by test the lines that it runs, a bit for each."""
    bits: dict[str, int] = {}
    for number, tests in enumerate(tests for lines in reached.values() for tests in lines.values()):
        for test in tests:
            bits[test] = bits.get(test, 0) | 1 << number
    return bits


def breadth_of(lines: Mapping[str, int]) -> Mapping[str, int]:
    """Return how many lines each test runs."""
    return {test: bits.bit_count() for test, bits in lines.items()}


def chosen_of(tests: Sequence[str], most: int, lines: Mapping[str, int]) -> Sequence[str]:
    """Return at most so many of the tests: the narrowest, and of the others those that differ most in what they run.

    Each of the others runs as many lines as any can that none before it runs; once all are run, this begins again with
    what is left.
    """
    narrow, others = tests[: -(-most // 2)], tests[-(-most // 2) :]
    run, chosen, wanted = {test: lines[test] for test in others}, list(narrow), 0
    while run and len(chosen) < most:
        wanted = wanted if any(bits & wanted for bits in run.values()) else -1
        test = max(run, key=lambda one: (run[one] & wanted).bit_count())
        wanted &= ~run.pop(test)
        chosen.append(test)
    return chosen


def held_by(mutant: Mutant, reached: Reached, breadth: Mapping[str, int]) -> Sequence[str]:
    """Return the tests that run a mutant's line, or where it has none the beginning of its statement, narrowest first.

    A line that runs on import, as that of a constant, has all tests of its file: first those that run a line that uses
    the constant, then those that run little else.
    """
    lines = reached.get(mutant.name, {})
    if mutant.in_function:
        tests = lines.get(mutant.line) or lines.get(mutant.statement, ())
        return sorted(tests, key=lambda test: (breadth[test], test))
    using = {test for line in mutant.used for test in lines.get(line, ())}
    here = Counter(test for tests in lines.values() for test in tests)
    return sorted(here, key=lambda test: (test not in using, -here[test] / breadth[test], test))
