"""How much of the worker one cycle runs: what an engineer steps through who follows one observation."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Functions of ours that one cycle with three observations runs, and comprehensions, generator expressions and lambdas
#: (none from Python 3.12 on, which has no frames for comprehensions). Lower them when `python -m tests.sync.walk` does.
_FUNCTIONS = 622
_ANONYMOUS = 238


@functools.cache
def _walked() -> str:
    """Return what a process of its own lists: what this one has run before, it remembers, and does not run again."""
    program = [sys.executable, "-m", "tests.sync.walk"]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout


def test_a_cycle_runs_no_more_functions_than_before() -> None:
    """A cycle in which each change runs a few functions more is a cycle that nobody can follow in the end."""
    functions, anonymous = map(int, re.findall(r"\d+", _walked().partition("\n")[0]))
    assert functions <= _FUNCTIONS, _walked()
    assert anonymous <= _ANONYMOUS, _walked()


def test_no_stage_calls_itself() -> None:
    """Data flows one way: only what reads nested values calls itself."""
    assert "\ncalled while running: Memo.__missing__, _value\n" in _walked()
