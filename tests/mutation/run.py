"""Runs, for a mutant, the tests that reach its line, in a fork of a process that has imported and collected them."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import importlib.abc
import importlib.machinery
import io
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import CO_OPTIMIZED
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

from tests.mutation.mutants import Mutant

#: Seconds of CPU for a test: what takes more does not end. A clock would say how busy the machine is.
_CPU = 15
#: Seconds with hardly any CPU, after which what runs waits for something that never comes.
_IDLE = 10
#: Where files of tests are, as in all runs of them: in memory.
_FILES = "/dev/shm"
#: So many tests show whether a function that survived in place has made something at import.
_AFRESH = 20
#: Bytes of addresses: a loop that fills memory ends before the machine has none left.
_MEMORY = 8 << 30
_SURVIVED, _KILLED, _UNTRIED = 0, 1, 2
#: Without the plugins that hold against one test what another has left open: that is a process which it may not start.
_WITHOUT = ("cacheprovider", "cov", "randomly", "threadexception", "unraisableexception", "xdist")
_OPTIONS = ("-x", "-q", *(part for name in _WITHOUT for part in ("-p", f"no:{name}")))

#: Runs tests, with a mutant or with the code as it is; returns its verdict, and which test ran last.
_Attempt = Callable[[Mutant | None, Sequence[str]], tuple[int, str]]
#: Is called with each test before it runs.
_Note = Callable[[str], None]


class Verdicts(dict[Mutant, str | None]):
    """By mutant, the test that notices it, or None."""

    def __init__(self, tests_of: Mapping[Mutant, Sequence[str]]) -> None:
        """Try all mutants, each with its tests, in this order."""
        super().__init__()
        self._tests_of = tests_of
        self._sound: set[str] = set()
        self._failing_anyway: set[str] = set()
        files = sorted({test.partition("::")[0] for tests in tests_of.values() for test in tests})
        with tempfile.TemporaryDirectory(dir=_FILES if os.access(_FILES, os.W_OK) else None) as folder:
            if files:
                _pytest(folder, files, self)
            for mutant, tests in tests_of.items():
                if self.get(mutant) is None:  # in no function, or what it changes is made at import
                    chosen = tests[:_AFRESH] if mutant.in_function else tests
                    self[mutant] = self._noticed_by(functools.partial(_afresh, folder), mutant, chosen)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Stand in for the loop over tests: all are collected here, and none has run."""
        for mutant in self._tests_of:
            importlib.import_module(mutant.module_name)  # some are imported only when they are needed
        attempt = functools.partial(_in_place, {item.nodeid: item for item in session.items}, _Functions())
        for mutant, tests in self._tests_of.items():
            if mutant.in_function:
                self[mutant] = self._noticed_by(attempt, mutant, tests)
        return True

    def _noticed_by(self, attempt: _Attempt, mutant: Mutant, tests: Sequence[str]) -> str | None:
        """Return the test that fails with a mutant, where it passes without it after the same tests."""
        left = [test for test in tests if test not in self._failing_anyway]
        while left:
            verdict, test = attempt(mutant, left)
            if verdict != _KILLED:
                return None
            if test not in left:
                test = left[0]  # none began: what they import fails
            before = left[: left.index(test) + 1]
            if (len(before) == 1 and test in self._sound) or attempt(None, before)[0] != _KILLED:
                self._sound.add(test)
                return test
            self._failing_anyway.add(test)
            left.remove(test)
        return None


def _in_place(
    items: Mapping[str, pytest.Item], functions: _Functions, mutant: Mutant | None, tests: Sequence[str]
) -> tuple[int, str]:
    """Run collected tests with functions whose code is that of the mutant."""

    def run(note: _Note) -> int:
        if mutant and not functions.mutate(mutant):
            return _UNTRIED
        chosen = [items[test] for test in tests if test in items]
        for item, following in zip(chosen, [*chosen[1:], None], strict=False):
            note(item.nodeid)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if item.session.testsfailed:
                return _KILLED
        return _SURVIVED

    return _forked(run)


def _afresh(folder: str, mutant: Mutant | None, tests: Sequence[str]) -> tuple[int, str]:
    """Import everything of ours once more, with the mutant in the place of its module, and run the tests."""

    def run(note: _Note) -> int:
        for name in [name for name in sys.modules if name.partition(".")[0] in {"sync_worker", "tests"}]:
            if not name.startswith("tests.mutation") and name != "tests":
                del sys.modules[name]
        if mutant:
            sys.meta_path.insert(0, _Finder(mutant))
        return _SURVIVED if _pytest(folder, tests, _Started(note)) == pytest.ExitCode.OK else _KILLED

    return _forked(run)


def _pytest(folder: str, tests: Sequence[str], plugin: object) -> int:
    with contextlib.redirect_stdout(io.StringIO()):
        return pytest.main([*_OPTIONS, f"--basetemp={folder}/tests", *tests], plugins=[plugin])


def _forked(run: Callable[[_Note], int]) -> tuple[int, str]:
    """Run this in a fork; return its verdict, and which test ran last."""
    with tempfile.TemporaryFile() as last:

        def note(test: str) -> None:
            os.ftruncate(last.fileno(), 0)
            os.pwrite(last.fileno(), test.encode(), 0)

        child = os.fork()
        if not child:
            os._exit(_limited(run, note))
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what a test has left behind
        code = os.waitstatus_to_exitcode(status)
        return code if code in {_SURVIVED, _UNTRIED} else _KILLED, os.pread(last.fileno(), 1 << 16, 0).decode()


def _limited(run: Callable[[_Note], int], note: _Note) -> int:
    """Run this as long as it gets somewhere, without processes: those would run the code as it is."""
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    used = [time.process_time()]

    def look(*_: object) -> None:
        used.append(time.process_time())
        if used[-1] - used[-2] < _IDLE / 50:  # a server's loop looks for requests all the time
            os._exit(_KILLED)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _IDLE, _IDLE)
    subprocess.Popen = subprocess.run = _skip  # type: ignore[assignment,misc]

    def begin(test: str) -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + _CPU, resource.RLIM_INFINITY))
        note(test)

    return run(begin)


def _skip(*_: Any, **__: Any) -> None:
    pytest.skip("it starts a process")


class _Functions:
    """The functions of the worker that live in this process, whatever wraps them; none has anything cached."""

    def __init__(self) -> None:
        gc.unfreeze()
        self._by_file: dict[str, list[FunctionType]] = {}
        for one in gc.get_objects():
            if isinstance(one, FunctionType):
                self._by_file.setdefault(one.__code__.co_filename, []).append(one)
            elif isinstance(one, functools._lru_cache_wrapper) and one.__module__.startswith("sync_worker"):
                one.cache_clear()
        gc.freeze()

    def mutate(self, mutant: Mutant) -> bool:
        """Whether a function had the code that a mutant changes, and has that of the mutant now."""
        file = str(mutant.file)
        before = compile(mutant.file.read_bytes(), file, "exec", dont_inherit=True)
        after = compile(mutant.module(), file, "exec", dont_inherit=True)
        found = False
        for old, new in _changed(before, after):
            for function in self._by_file.get(file, []):
                if function.__code__ == old:
                    if len(new.co_freevars) != len(old.co_freevars):
                        return False
                    function.__code__ = new
                    found = True
        return found


def _changed(before: CodeType, after: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """Yield the code of functions that differ, an outer one before those in it."""
    inner = [[one for one in code.co_consts if isinstance(one, CodeType)] for code in (before, after)]
    if before != after:
        if before.co_flags & CO_OPTIMIZED:
            yield before, after
        for old, new in zip(*inner, strict=False):
            yield from _changed(old, new)


class _Started:
    """Notes each test before it runs."""

    def __init__(self, note: _Note) -> None:
        self._note = note

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._note(nodeid)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the mutant in the place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(self, fullname: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._mutant.module_name:
            return None
        file = self._mutant.file
        folders = [str(file.parent)] if file.name == "__init__.py" else None
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=str(file), is_package=folders is not None)
        spec.submodule_search_locations = folders
        spec.has_location = True
        return spec

    def exec_module(self, module: ModuleType) -> None:
        file = str(self._mutant.file)
        exec(compile(self._mutant.module(), file, "exec", dont_inherit=True), module.__dict__)
