"""What holds for every test: where files go, which examples Hypothesis draws, and what a quick test may not do."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_TESTS = Path(__file__).parent

#: Files of tests are in memory: durability is tested by what a killed process leaves, not by what a disk keeps.
_MEMORY = Path("/dev/shm")
if os.access(_MEMORY, os.W_OK):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

# What a test leaves behind is small, and most of it gone with the test: with Python's threshold of 700 objects, a
# fifteenth of all the time would go into looking for garbage.
gc.set_threshold(50_000, 20, 20)

# httpcore looks for this optional package at each request, which costs a walk over sys.path where it is not there.
if find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]

# The same examples in every run, so that no change fails by chance; HYPOTHESIS_PROFILE=explore draws new ones.
# How long one takes says how busy the machine is, not what the code does.
_BUSY = [HealthCheck.too_slow]
settings.register_profile("fixed", derandomize=True, database=None, deadline=None, suppress_health_check=_BUSY)
settings.register_profile("explore", deadline=None, print_blob=True, suppress_health_check=_BUSY)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


#: Folders of quick tests, but for those of their tests that are marked `slow` or `process`.
_QUICK = frozenset({"ledger", "settings", "spans", "unit"})
_STARTS = frozenset({"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"})
_started: list[str] | None = None  # what the quick test that runs has started


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --quick."""
    parser.addoption("--quick", action="store_true", help="quick tests alone: those of single functions and classes")


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers; from here on starts of processes are seen."""
    config.addinivalue_line("markers", "slow: not among the quick tests, since it takes more than a moment")
    config.addinivalue_line("markers", "process: not among the quick tests, since it starts a process")
    sys.addaudithook(_note_start)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background; its processes would ignore it too
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than there are cores: some tests wait for seconds, as for a server that hangs."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --quick, do not even import the tests of other folders."""
    is_folder = collection_path.parent == _TESTS and collection_path.is_dir()
    return True if is_folder and config.getoption("--quick") and collection_path.name not in _QUICK else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --quick, leave out all other tests."""
    if config.getoption("--quick"):
        left_out = [item for item in items if not _is_quick(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if _is_quick(item)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Fail a quick test that starts a process, in every run of the tests."""
    global _started  # noqa: PLW0603 - an audit hook is for the whole process
    _started = [] if _is_quick(item) else None
    try:
        return (yield)
    finally:
        _started = None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Say it even where the code under test swallowed the error."""
    yield
    if _started:
        pytest.fail(f"{item.nodeid} started a process ({_started[0]}). Try: @pytest.mark.process", pytrace=False)


def _is_quick(item: pytest.Item) -> bool:
    folder = item.path.relative_to(_TESTS).parts[0]
    return folder in _QUICK and not any(item.iter_markers("slow")) and not any(item.iter_markers("process"))


def _note_start(event: str, _: tuple[object, ...]) -> None:
    if _started is not None and event in _STARTS:
        _started.append(event)
        raise RuntimeError(f"a quick test starts no process, but {event} was called. Try: @pytest.mark.process")


def pytest_collection_finish() -> None:
    """Take what was loaded and collected out of every later collection of garbage."""
    gc.collect()
    gc.freeze()
