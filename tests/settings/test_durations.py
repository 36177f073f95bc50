"""Durations and times as they are written."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_worker.settings import WrongValueError, format_duration, parse_duration, parse_time
from sync_worker.settings.durations import LONGEST, parse_horizons, parse_positive_duration, parse_start


@given(st.integers(min_value=0, max_value=LONGEST // timedelta(milliseconds=1)))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    """A duration in a message could not be used as a setting."""
    duration = timedelta(milliseconds=milliseconds)
    assert duration == parse_duration(format_duration(duration))


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused_in_our_words(text: str) -> None:
    """Some text would end the program with an error that is not for operators."""
    for parse in (parse_duration, parse_start, parse_horizons, parse_time):
        with suppress(WrongValueError):
            parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", timedelta(seconds=30)),
        ("20m", timedelta(minutes=20)),
        ("48h", timedelta(hours=48)),
        ("7d", timedelta(days=7)),
        ("500ms", timedelta(milliseconds=500)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("1m500ms", timedelta(minutes=1, milliseconds=500)),
        ("0s", timedelta(0)),
        (" 5m\n", timedelta(minutes=5)),
        ("3650d", LONGEST),
    ],
)
def test_units(text: str, expected: timedelta) -> None:
    """A unit would be taken for another."""
    assert expected == parse_duration(text)


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("60", "a number without a unit", "60s for seconds or 60m for minutes"),
        ("", "empty", ""),
        ("5 m", "not a duration", "write 5m"),
        ("30S", "not a duration", "write 30s"),
        ("1.5h", "not a duration", "write 1h30m"),
        ("30m1h", "not a duration", ""),
        ("-5m", "not a duration", ""),
        ("1h 30", "not a duration", ""),
        ("٣s", "not a duration", ""),
        ("3651d", "too long", ""),
        ("999999999999d", "too long", ""),
        ("99999999999", "a number without a unit", ""),
    ],
)
def test_refused_durations_say_what_to_write(text: str, problem: str, hint: str) -> None:
    """The operator would have to guess the form, or a bare number would get a unit that was not meant."""
    with pytest.raises(WrongValueError) as caught:
        parse_duration(text)
    assert (problem, hint) == (caught.value.problem, caught.value.hint)


def test_nothing_is_no_interval() -> None:
    """A cycle that follows the last one at once would never let Langfuse rest."""
    with pytest.raises(WrongValueError, match="longer than nothing"):
        parse_positive_duration("0s")


def test_a_negative_duration_is_not_written() -> None:
    """A negative duration would be printed as a positive one."""
    with pytest.raises(ValueError, match="negative"):
        format_duration(timedelta(seconds=-1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24h", timedelta(hours=24)),
        ("1000000ms", timedelta(seconds=1000)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("20260131T120000Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_start_is_a_duration_or_a_time_in_utc(text: str, expected: timedelta | datetime) -> None:
    """The first run would begin elsewhere than the operator said."""
    assert expected == parse_start(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("2026-01-31T12:00:00", "add Z for UTC: 2026-01-31T12:00:00Z"),
        ("2026-01-31", "add Z for UTC: 2026-01-31T00:00:00Z"),
    ],
)
def test_a_time_without_offset_is_refused(text: str, hint: str) -> None:
    """The first run would begin hours off on a machine in another zone."""
    with pytest.raises(WrongValueError, match="without an offset") as caught:
        parse_start(text)
    assert hint == caught.value.hint


@pytest.mark.parametrize("text", ["2026-13-01T00:00:00Z", "0001-01-01T00:00:00+12:00", "yesterday", "20260131"])
def test_no_time_at_all_is_refused(text: str) -> None:
    """A start that nobody understands would be taken for something."""
    with pytest.raises(WrongValueError):
        parse_start(text)


def test_horizons() -> None:
    """The scans for late data would look at other intervals than the setting says."""
    expected = (timedelta(minutes=20), timedelta(hours=2), timedelta(hours=48))
    assert expected == parse_horizons("20m, 2h,48h")


@pytest.mark.parametrize(
    ("text", "hint"),
    [("2h,20m", "20m,2h"), ("2h,2h", "2h"), ("20m,", ""), ("0s,1h", ""), ("20", "20m for minutes or 20h for hours")],
)
def test_refused_horizons(text: str, hint: str) -> None:
    """The deepest horizon, which bounds the state file, would not be the last."""
    with pytest.raises(WrongValueError) as caught:
        parse_horizons(text)
    assert hint == caught.value.hint
