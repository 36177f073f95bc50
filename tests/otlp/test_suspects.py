"""The proof against a span at which a target fails: others were taken before it failed again, and after."""

from __future__ import annotations

from sync_worker.otlp.suspects import Suspects
from sync_worker.spans.span_model import EncodedSpan
from tests.otlp.conftest import encoded

BAD = encoded("bad", 1)


def fail(suspects: Suspects, span: EncodedSpan = BAD, *, passed_since: bool = False) -> bool:
    return suspects.record_failure(span, "it fails", 500, passed_since=passed_since)


def test_proof_within_a_run() -> None:
    """A span would be dead-lettered before it failed twice with others taken between, or never."""
    suspects = Suspects()
    assert not fail(suspects)
    assert suspects.record_success() == []
    assert not fail(suspects)
    assert suspects.record_success() == [(BAD, "it fails", 500)]
    assert suspects.record_success() == []
    assert suspects.stored == []


def test_proof_over_runs() -> None:
    """A span that is met once a run would be tried for ever, or be blamed one step too early."""
    stored: object = None
    for _ in range(2):
        suspects = Suspects(stored)
        assert not fail(suspects)
        suspects = Suspects(suspects.stored)
        assert suspects.record_success() == []
        stored = suspects.stored
    last = Suspects(stored)
    assert last.record_success() == []
    assert fail(last)
    assert last.stored == []


def test_failures_alone_prove_nothing() -> None:
    """In an outage a span would be blamed for what is wrong with all."""
    suspects = Suspects()
    for _ in range(5):
        assert not fail(suspects)
    assert suspects.record_success() == []


def test_others_taken_since_the_first_request_count_as_before() -> None:
    """A span out of a batch that was halved would need one round more, or none."""
    suspects = Suspects()
    assert not fail(suspects, passed_since=True)
    assert suspects.record_success() == [(BAD, "it fails", 500)]


def test_a_span_that_is_taken_is_cleared() -> None:
    """A span that arrived would be dead-lettered by what came before."""
    suspects = Suspects()
    fail(suspects, passed_since=True)
    suspects.clear(BAD.key)
    assert suspects.record_success() == []
    assert suspects.stored == []


def test_a_hundred_are_stored_the_latest() -> None:
    """What is kept for the next run would grow without end, or drop the latest."""
    suspects = Suspects()
    for number in range(1, 131):
        fail(suspects, encoded("bad", number))
    assert [observation for _, observation, _ in suspects.stored] == [str(number) for number in range(31, 131)]


def test_no_list_is_no_suspect() -> None:
    """A state of another shape would end the run with an error of the program."""
    assert Suspects({"a": 1}).stored == []
