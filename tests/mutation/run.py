"""Runs, for a mutant, the tests that reach its line, in a fork that imports the mutated module."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from coverage import CoverageData

from tests.mutation.mutants import Mutant

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".mutation"
#: By package, where the tests are that hold it.
FOLDERS: Mapping[str, Sequence[str]] = {
    "otlp": ("tests/otlp",),
    "langfuse": ("tests/langfuse", "tests/unit", "tests/sync/test_media.py"),
    "ledger": ("tests/ledger",),
    "pipeline": ("tests/sync", "tests/unit"),
    "runs": ("tests/sync", "tests/unit"),
    "sync": ("tests/sync", "tests/unit"),
}
_LIMIT = 120  # seconds for the tests of one mutant; what takes longer hangs, which a test would show
_KILLED, _SURVIVED = 1, 0

#: By file and line, the tests that run it.
Reached = Mapping[str, Mapping[int, Sequence[str]]]


def files_of(package: str) -> list[Path]:
    """Return the modules of a package."""
    return sorted((ROOT / "sync_worker" / package).rglob("*.py"))


def reached_by(folders: Sequence[str]) -> Reached:
    """Run the tests in these folders once, and return which lines each of them runs; kept until a file changes."""
    sources = [*(ROOT / "sync_worker").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    state = sha256(b"".join(file.read_bytes() for file in sorted(sources))).hexdigest()[:16]
    kept = CACHE / f"{'-'.join(folder.rpartition('/')[2] for folder in folders)}-{state}.json"
    if kept.exists():
        found = json.loads(kept.read_text(encoding="utf-8"))
        return {file: {int(line): tests for line, tests in lines.items()} for file, lines in found.items()}
    CACHE.mkdir(exist_ok=True)
    measured = CACHE / f"coverage-{os.getpid()}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "auto", "--dist", "worksteal", "--cov", "--cov-context=test",
         "--cov-report=", "--cov-fail-under=0", *folders],
        cwd=ROOT, env={**os.environ, "COVERAGE_FILE": str(measured)}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(
            f"{done.stdout[-2000:]}{done.stderr}\nThe tests fail as they are. Try: scripts/test {' '.join(folders)}"
        )
    reached = _reached(measured)
    measured.unlink()
    kept.write_text(json.dumps(reached), encoding="utf-8")
    return reached


def _reached(measured: Path) -> Reached:
    data = CoverageData(basename=str(measured))
    data.read()
    found: dict[str, dict[int, list[str]]] = {}
    lines_of: dict[str, int] = {}
    for file in data.measured_files():
        name = Path(file).relative_to(ROOT).as_posix()
        found[name] = {}
        for line, contexts in data.contexts_by_lineno(file).items():
            found[name][line] = [context.partition("|")[0] for context in contexts if context]
            for test in found[name][line]:
                lines_of[test] = lines_of.get(test, 0) + 1
    for lines in found.values():  # those that reach little first: they are quick, and about this place
        for line, tests in lines.items():
            lines[line] = sorted(dict.fromkeys(tests), key=lambda test: (lines_of[test], test))
    return found


def breadth_of(reached: Reached) -> Counter[str]:
    """Return how many lines each test runs."""
    return Counter(test for lines in reached.values() for tests in lines.values() for test in tests)


def held_by(mutant: Mutant, reached: Reached, breadth: Mapping[str, int]) -> Sequence[str]:
    """Return the tests that run a mutant's line, the narrowest first.

    A line that runs on import, as that of a constant, has all tests of its file, those that run little else first.
    """
    lines = reached.get(mutant.file.relative_to(ROOT).as_posix(), {})
    if mutant.line not in lines or lines[mutant.line]:
        return lines.get(mutant.line, ())
    here = Counter(test for tests in lines.values() for test in tests)
    return sorted(here, key=lambda test: (-here[test] / breadth[test], test))


def is_killed(mutant: Mutant, tests: Sequence[str]) -> bool:
    """Whether one of the tests fails, or hangs, with the mutant in the place of its module."""
    if not tests:
        return False
    child = os.fork()
    if not child:
        os._exit(_fails(mutant, tests))
    deadline = time.monotonic() + _LIMIT
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) != _SURVIVED
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def load_libraries() -> None:
    """Import what tests and program import, so that no fork has to, and forget what is to be imported mutated."""
    with contextlib.redirect_stdout(None):
        for name in (
            "sync_worker.cli.commands.run",
            "tests.sync.world",
            "tests.langfuse.conftest",
            "tests.otlp.conftest",
        ):
            __import__(name)
    for name in [name for name in sys.modules if name.partition(".")[0] in {"sync_worker", "tests"}]:
        if not name.startswith("tests.mutation") and name != "tests":
            del sys.modules[name]


def _fails(mutant: Mutant, tests: Sequence[str]) -> int:
    """Run the tests in this process; return _KILLED or _SURVIVED."""
    os.setpgid(0, 0)
    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silent, stream)
    name = mutant.file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    sys.meta_path.insert(0, _Finder(name, mutant))
    options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly"]
    code = pytest.main([*options, *tests], plugins=[_WithoutProcesses()])
    return _SURVIVED if code == pytest.ExitCode.OK else _KILLED


class _WithoutProcesses:
    """Skips what starts a process: that would run the module as it is."""

    @pytest.fixture(autouse=True)
    def _no_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def skip(*_: Any, **__: Any) -> None:
            pytest.skip("it starts a process")

        monkeypatch.setattr(subprocess, "Popen", skip)
        monkeypatch.setattr(subprocess, "run", skip)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the mutant in the place of its module."""

    def __init__(self, name: str, mutant: Mutant) -> None:
        self._name = name
        self._mutant = mutant

    def find_spec(self, fullname: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        file = self._mutant.file
        folders = [str(file.parent)] if file.name == "__init__.py" else None
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=str(file), is_package=folders is not None)
        spec.submodule_search_locations = folders
        spec.has_location = True
        return spec

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._mutant.module(), str(self._mutant.file), "exec"), module.__dict__)
