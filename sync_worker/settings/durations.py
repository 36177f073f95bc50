"""Durations as operators write them (`30s`, `1h30m`), and points in time (ISO 8601 with an offset)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from sync_worker.settings.setting_errors import WrongValueError

LONGEST = timedelta(days=3650)  # beyond it, subtracting from today leaves the calendar sooner or later

_UNITS = (("d", "days"), ("h", "hours"), ("m", "minutes"), ("s", "seconds"), ("ms", "milliseconds"))
# `m` must not swallow the first letter of `ms`.
_DURATION = re.compile(
    r"(?:(?P<d>[0-9]{1,12})d)?(?:(?P<h>[0-9]{1,12})h)?(?:(?P<m>[0-9]{1,12})m(?!s))?"
    r"(?:(?P<s>[0-9]{1,12})s)?(?:(?P<ms>[0-9]{1,15})ms)?"
)
_EXPECTED = "a duration such as 500ms, 30s, 20m, 48h, 7d or 1h30m"
_EXPECTED_START = "a duration back from the first run, such as 24h, or a time such as 2026-01-31T00:00:00Z"


def parse_duration(text: str, units: str = "s m") -> timedelta:
    """Read `30s`, `20m`, `48h`, `7d`, `500ms` or a combination from the largest unit to the smallest.

    Raises WrongValueError for anything else, a number without a unit and more than ten years among them. `units` are
    those that the number may have been meant in.
    """
    text = text.strip()
    duration = _read(text)
    if duration is None:
        raise WrongValueError(_problem(text), expected=_EXPECTED, hint=_hint(text, units.split()))
    if duration > LONGEST:
        raise WrongValueError("too long", expected=f"at most {LONGEST.days}d")
    return duration


def parse_positive_duration(text: str, units: str = "s m") -> timedelta:
    """Read a duration longer than nothing; raises WrongValueError."""
    duration = parse_duration(text, units)
    if not duration:
        raise WrongValueError("must be longer than nothing", expected=_EXPECTED)
    return duration


def format_duration(duration: timedelta) -> str:
    """Write `duration`, not negative, as `parse_duration` reads it: `1d2h`, `1m30s`, `500ms`, `0s`.

    What is finer than a millisecond is left out: no setting is that fine.
    """
    milliseconds = duration // timedelta(milliseconds=1)
    if milliseconds < 0:
        msg = "a negative duration cannot be written"
        raise ValueError(msg)
    parts = []
    for unit, word in _UNITS:
        count, milliseconds = divmod(milliseconds, timedelta(**{word: 1}) // timedelta(milliseconds=1))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 time with an offset; the answer is in UTC. Raises WrongValueError."""
    text = text.strip()
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise WrongValueError("not a time", expected="an ISO 8601 time such as 2026-01-31T00:00:00Z") from None
    if time.tzinfo is None:
        raise WrongValueError(
            "a time without an offset means another moment on every machine",
            expected="an ISO 8601 time with its offset",
            hint=f"add Z for UTC: {text if len(text) > len('2026-01-31') else text + 'T00:00:00'}Z",
        )
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise WrongValueError("not a time that can be used", expected="a year between 1 and 9999 in UTC") from None


def parse_start(text: str) -> timedelta | datetime:
    """Read where the first run begins: a duration back from it, or a time (in UTC). Raises WrongValueError."""
    text = text.strip()
    if re.match(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}", text) and _read(text) is None and not text.isdigit():
        return parse_time(text)
    try:
        return parse_duration(text, "h d")
    except WrongValueError as wrong:
        if written := re.fullmatch(r"((?:19|20)[0-9]{2})(?:([01][0-9])([0-3][0-9]))?", text):
            hint = f"write {written[1]}-{written[2] or '01'}-{written[3] or '01'}T00:00:00Z"
            raise WrongValueError(wrong.problem, expected=_EXPECTED_START, hint=hint) from None
        expected = _EXPECTED_START if _read(text) is None else wrong.expected
        raise WrongValueError(wrong.problem, expected=expected, hint=wrong.hint) from None


def parse_horizons(text: str) -> tuple[timedelta, ...]:
    """Read durations with commas between them, each longer than the one before. Raises WrongValueError."""
    horizons = tuple(parse_positive_duration(part, "m h") for part in text.split(","))
    if any(later <= earlier for earlier, later in pairwise(horizons)):
        ascending = ",".join(format_duration(horizon) for horizon in sorted(set(horizons)))
        raise WrongValueError(
            "not in ascending order", expected="each duration longer than the one before", hint=ascending
        )
    return horizons


def _read(text: str) -> timedelta | None:
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return None
    try:
        return timedelta(**{word: int(match[unit] or 0) for unit, word in _UNITS})
    except OverflowError:
        return timedelta.max


def _problem(text: str) -> str:
    if not text:
        return "empty"
    return "a number without a unit" if re.fullmatch(r"[0-9]+", text) else "not a duration"


def _hint(text: str, units: Sequence[str]) -> str:
    if re.fullmatch(r"[0-9]{1,9}", text):
        words = dict(_UNITS)
        fit = [unit for unit in units if timedelta(**{words[unit]: int(text)}) <= LONGEST]
        return " or ".join(f"{text}{unit} for {words[unit]}" for unit in fit)
    plain = re.sub(r"\s", "", text).lower()
    if plain != text and _read(plain) is not None:
        return f"write {plain}"
    if match := re.fullmatch(r"([0-9]{1,9}\.[0-9]{1,6})(ms|s|m|h|d)", plain):
        exact = timedelta(**{dict(_UNITS)[match[2]]: float(match[1])})
        return f"write {format_duration(exact)}" if exact <= LONGEST else ""
    return ""
