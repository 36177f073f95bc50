"""How long a server asks to wait, in all the forms that servers write it in."""

from __future__ import annotations

import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_worker.http import retry_after

_DATE = "Sun, 22 Nov 2026 16:00:00 GMT"


def _asked(value: str | None, date: str | None = None) -> float | None:
    given_headers = {"Retry-After": value, "Date": date}
    headers = [(name.encode(), text.encode("latin-1")) for name, text in given_headers.items() if text is not None]
    return retry_after(httpx.Response(503, headers=headers))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("1", 1.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("0.02", 0.02),
        ("86400", 86_400.0),
        ("-3", 0.0),
        ("-0", 0.0),
    ],
)
def test_seconds(value: str, seconds: float) -> None:
    """The worker would come back too early, or by its own measure."""
    assert _asked(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None, "", " ", "soon", "nan", "-nan", "inf", "-Infinity", "1e999", "86401", "1e300", "9" * 400, "1,5", "5 s",
        "0x10", "Sun, 99 Nov 2026 16:00:00 GMT", "Sun, 22 Nov 99999999999 16:00:00 GMT",
        "Fri, 01 Jan 2100 00:00:00 GMT", "\xb2\xff",
    ],
)  # fmt: skip
def test_what_cannot_be_believed(value: str | None) -> None:
    """The worker would fail over a header, or sleep for a century."""
    expected = 0.0 if value == "-Infinity" else None
    assert _asked(value, _DATE) == expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("Sun, 22 Nov 2026 16:01:30 GMT", 90.0),
        ("Sunday, 22-Nov-26 16:01:30 GMT", 90.0),
        ("Sun Nov 22 16:01:30 2026", 90.0),
        ("Sun, 22 Nov 2026 16:01:30 -0000", 90.0),
        ("Sun, 22 Nov 2026 18:01:30 +0200", 90.0),
        (_DATE, 0.0),
        ("Sun, 22 Nov 2026 15:00:00 GMT", 0.0),
        ("Mon, 23 Nov 2026 16:00:00 GMT", 86_400.0),
        ("Mon, 23 Nov 2026 16:00:01 GMT", None),
    ],
)
def test_dates_go_by_the_server_s_clock(value: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock here that is wrong, or a time zone, would make the wait hours too long or too short."""
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        assert _asked(value, _DATE) == seconds
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("date", [None, "", "yesterday", "Sun, 22 Nov 99999999999 16:00:00 GMT"])
def test_without_a_server_s_clock_ours_counts(date: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wish that is clear would be passed over because another header cannot be read."""
    monkeypatch.setattr(time, "time", lambda: 1_795_363_200.0)  # 2026-11-22T16:00:00Z
    assert _asked("Sun, 22 Nov 2026 16:00:42 GMT", date) == 42.0


@given(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0")), st.text(st.characters(max_codepoint=255))
)
def test_anything_at_all(value: str, date: str) -> None:
    """A broken proxy would end the run with an unexpected error."""
    found = _asked(value, date)
    assert found is None or 0.0 <= found <= 86_400.0
