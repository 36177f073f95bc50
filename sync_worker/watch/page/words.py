"""Numbers, times and durations as people read them."""

from __future__ import annotations

from sync_worker.times import iso_time
from sync_worker.watch.page.html import Markup, element

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def duration(seconds: float) -> str:
    """Return a duration with its two largest units: `45 s`, `12 min`, `3 h 12 min`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 2 * _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min"
    large, unit, small, rest = (_DAY, "d", _HOUR, "h") if whole >= 2 * _DAY else (_HOUR, "h", _MINUTE, "min")
    more = whole % large // small
    return f"{whole // large:,} {unit}" + (f" {more} {rest}" if more else "")


def rate(number: float) -> str:
    """Return a rate: with a decimal below ten."""
    if 0 < number < 0.1:
        return "< 0.1"
    return f"{number:.1f}" if 0 < number < 10 else f"{number:,.0f}"


def size(number: float) -> str:
    """Return a number of bytes."""
    unit = 0
    while number >= 1024 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:,.0f} {_UNITS[unit]}" if number >= 10 or unit == 0 else f"{number:.1f} {_UNITS[unit]}"


def moment(unix_ms: int) -> Markup:
    """Return a time to the minute, in UTC, which the page says once."""
    written = iso_time(unix_ms)
    return element("time", f"{written[:10]} {written[11:16]}", datetime=written)


def clock_time(unix_ms: int) -> str:
    """Return a time of the day to the minute."""
    return iso_time(unix_ms)[11:16]
