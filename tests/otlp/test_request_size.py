"""The largest request that a target takes: how it falls, how it rises again, and what the next run knows of it."""

from __future__ import annotations

import pytest

from sync_worker.otlp.request_size import RequestSize, size_of
from tests.otlp.conftest import encoded


def test_a_failure_halves_and_passes_double() -> None:
    """A limit that was raised would be noticed too late or never, or one that stands be tried with each request."""
    size = RequestSize()
    size.record_success(5_000)
    assert size.limit is None
    size = RequestSize()
    size.record_failure(2_000)
    size.record_failure(1_000)
    assert size.limit == 500
    for _ in range(7):
        size.record_success(300)
    assert size.limit == 500
    size.record_success(300)
    assert size.limit == 1_000


def test_what_still_fails_is_tried_half_as_often() -> None:
    """A gateway whose limit stands would be sent a request that is too large every eight requests, for ever."""
    size = RequestSize()
    size.record_failure(1_000)
    for _ in range(8):
        size.record_success(300)
    size.record_failure(900)
    assert size.limit == 450
    for _ in range(15):
        size.record_success(400)
    assert size.limit == 450
    size.record_success(400)
    assert size.limit == 900


def test_small_requests_say_nothing_of_the_limit() -> None:
    """A quiet day of small requests would raise a limit that no request came near."""
    size = RequestSize()
    size.record_failure(1_000)
    for _ in range(50):
        size.record_success(250)
    assert size.limit == 500


def test_a_larger_one_that_passes_ends_the_doubt() -> None:
    """After the gateway was mended each step up would take its eight requests."""
    size = RequestSize([1_000, 1_000, 0, 64, None])
    size.record_success(1_000)
    size.record_success(1_500)
    assert size.limit == 4_000
    size.record_failure(4_000)
    for _ in range(8):
        size.record_success(1_800)
    assert size.limit == 4_000


def test_a_failure_below_what_passed_is_not_about_size() -> None:
    """One poison span would halve the requests of all others."""
    size = RequestSize()
    size.record_success(900)
    size.record_success(10)
    size.record_failure(900)
    assert size.limit is None
    size.record_failure(901)
    assert size.limit == 450


def test_the_limit_is_never_nothing() -> None:
    """No span at all would fit."""
    size = RequestSize()
    size.record_failure(1)
    assert size.limit == 1


def test_as_many_spans_as_fit_and_one_at_least() -> None:
    """A request would be larger than the limit, smaller than it may be, or empty: then it is sent for ever."""
    spans = [encoded(number=number) for number in range(1, 6)]
    assert {one.size for one in spans} == {spans[0].size}
    assert RequestSize().first_fitting(spans) == spans
    for limit, count in ((1, 1), (size_of(spans[:3]), 3), (size_of(spans[:3]) - 1, 2), (size_of(spans), 5)):
        assert list(RequestSize([limit, None, 0, 8, None]).first_fitting(spans)) == spans[:count]


def test_the_next_run_goes_on() -> None:
    """A run whose patience ends at the first time-out would begin the search anew each time."""
    size = RequestSize()
    size.record_failure(1_000)
    for _ in range(7):
        size.record_success(300)
    size.record_first_failure(400)
    again = RequestSize(size.stored)
    assert again.limit == 500
    assert not RequestSize(size.stored).failed_before(199)
    assert again.failed_before(200)
    assert not again.failed_before(200)
    again.record_success(300)
    assert again.limit == 1_000
    assert not again.failed_before(400)


@pytest.mark.parametrize("stored", [None, "x", {}, [500], [500, "1000", 0, 8, None], [500, 1_000, 0, 8, None, 1]])
def test_what_another_version_stored_is_no_limit(stored: object) -> None:
    """A state of another shape would end the run with an error of the program."""
    size = RequestSize(stored)
    assert size.limit is None
    size.record_failure(1_000)
    assert size.limit == 500
