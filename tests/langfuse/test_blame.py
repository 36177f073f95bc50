"""What an observation must have done before it is stepped over."""

from __future__ import annotations

from sync_worker.langfuse.blame import Blame, Trial


def _tries(blame: Blame, count: int = 4) -> list[bool]:
    """Return what is said of an observation that fails so often while no other is known to ask for."""
    trial = Trial()
    return [blame.record_failure(trial, serves_another=None) for _ in range(count)]


def test_an_observation_is_the_cause_once_another_was_served_as_often_as_needed() -> None:
    """One failure of a server that comes and goes costs an observation, or none is ever stepped over."""
    assert Blame(proofs=1).record_failure(Trial(), serves_another=True)
    blame, trial = Blame(proofs=2), Trial()
    served = (True, False, False, False, False, True, True)
    printed = [blame.record_failure(trial, serves_another=another) for another in served]
    assert printed == [False, False, False, False, False, False, True]


def test_without_another_to_ask_for_it_takes_three_tries() -> None:
    """The only observation of a server holds the sync up for good, or goes at its first failure."""
    assert _tries(Blame(proofs=1)) == [False, False, True, True]


def test_eight_in_a_row_are_blamed_without_proof_until_one_is_served() -> None:
    """A server that is down is taken for one whose observations are all at fault, and all of them are lost."""
    blame = Blame(proofs=1)
    for _ in range(2):
        assert [_tries(blame, 3)[-1] for _ in range(10)] == [True] * 8 + [False] * 2
        blame.record_served()
