"""Times as Langfuse writes them, to and from Unix milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLAIN_EPOCH = _EPOCH.replace(tzinfo=None)  # with which moments are written without an offset
_MILLISECOND = timedelta(milliseconds=1)
#: The first and the last millisecond of the calendar, counted from 1970.
_FIRST_MS = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
_LAST_MS = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND


def iso_time(unix_ms: int) -> str:
    """Return Unix milliseconds as ISO 8601, UTC, with three decimals and a Z; what no calendar has, as its end."""
    moment = _PLAIN_EPOCH + timedelta(milliseconds=min(max(unix_ms, _FIRST_MS), _LAST_MS))
    return moment.isoformat(timespec="milliseconds") + "Z"


def unix_ms(value: Any) -> int | None:
    """Return an ISO 8601 time with an offset as Unix milliseconds, floored; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment_ms(moment)


def moment_ms(moment: datetime) -> int:
    """Return a time that knows its offset as Unix milliseconds, floored."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000


def span_ms(length: timedelta) -> int:
    """Return a duration in milliseconds."""
    return length // _MILLISECOND
