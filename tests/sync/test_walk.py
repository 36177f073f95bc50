"""How much of the worker one cycle runs: what an engineer steps through who follows one observation."""

from __future__ import annotations

from tests.sync.conftest import MakeWorld
from tests.sync.walk import three_observations, walk

#: Functions of ours that one cycle with three observations runs, and comprehensions, generator expressions and lambdas
#: (none from Python 3.12 on, which has no frames for comprehensions). Lower them when `python -m tests.sync.walk` does.
_FUNCTIONS = 613
_ANONYMOUS = 227


def test_a_cycle_runs_no_more_functions_than_before(make_world: MakeWorld) -> None:
    """A cycle in which each change runs a few functions more is a cycle that nobody can follow in the end."""
    found, report = walk(make_world([], after_noon=0.0), three_observations())

    assert report.spans_sent == 3
    assert len(found.functions) <= _FUNCTIONS, found.listing()
    assert len(found.anonymous) <= _ANONYMOUS, found.listing()


def test_no_stage_calls_itself(make_world: MakeWorld) -> None:
    """Data flows one way: only what reads nested values calls itself."""
    found, _ = walk(make_world([], after_noon=0.0), three_observations())

    assert {name for _, _, name in found.reentered} <= {"Memo.__missing__", "_value"}
