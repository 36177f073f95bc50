"""Times as Langfuse writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_worker.times import iso_time, moment_ms, span_ms, unix_ms

_FIRST, _LAST = -62_135_596_800_000, 253_402_300_799_999  # years 1 to 9999


@given(st.integers(_FIRST, _LAST))
def test_round_trip(moment: int) -> None:
    """An interval's bound would move by a millisecond on its way: rows lost or doubled on each boundary."""
    assert unix_ms(iso_time(moment)) == moment
    assert unix_ms(iso_time(moment).replace("Z", "+00:00")) == moment


@given(st.integers(_FIRST, _LAST - 1))
def test_order_of_texts_is_the_order_of_times(moment: int) -> None:
    """Langfuse compares times; a text of another shape would be compared wrongly."""
    assert iso_time(moment) < iso_time(moment + 1)
    assert len(iso_time(moment)) == 24


@given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)), st.integers(-1439, 1439))  # noqa: DTZ001
def test_any_offset_and_floors(naive: datetime, offset: int) -> None:
    """A time of another zone, or of microseconds before 1970, would be another moment."""
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=offset)))
    exact = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert unix_ms(moment.isoformat()) == moment_ms(moment)
    assert moment_ms(moment) * 1000 <= exact < moment_ms(moment) * 1000 + 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00.000Z", 0),
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-22T16:00:00.123Z", 1_795_363_200_123),
        ("2026-11-22T16:00:00.123999Z", 1_795_363_200_123),
        ("2026-11-22T16:00:00.123999999Z", 1_795_363_200_123),
        ("2026-11-22T17:00:00.5+01:00", 1_795_363_200_500),
        ("1969-12-31T23:59:59.999999Z", -1),
    ],
)
def test_reads(text: str, expected: int) -> None:
    """A row's start would fall into another interval than Langfuse put it."""
    assert unix_ms(text) == expected


@pytest.mark.parametrize(
    "value", [None, "", "now", "2026-11-22", "2026-11-22T16:00:00", 0, 1.5, True, [], "2026-13-01T00:00:00Z"]
)
def test_refuses(value: Any) -> None:
    """A time without a zone would be taken for one of this machine's."""
    assert unix_ms(value) is None


def test_durations() -> None:
    """Settings would be a thousand times too long, or rounded up."""
    assert span_ms(timedelta(minutes=20)) == 1_200_000
    assert span_ms(timedelta(microseconds=1999)) == 1
    assert moment_ms(datetime(2026, 11, 22, 16, tzinfo=UTC)) == 1_795_363_200_000
    assert iso_time(1_795_363_200_007) == "2026-11-22T16:00:00.007Z"


def test_time_beyond_the_calendar_is_its_end() -> None:
    """A row of the last millisecond that there is stops its source, where the end behind it is asked for."""
    assert iso_time(253_402_300_800_000) == iso_time(2**62) == "9999-12-31T23:59:59.999Z"
    assert iso_time(-(2**62)) == "0001-01-01T00:00:00.000Z"
