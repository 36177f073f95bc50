"""Rows for tests: made up in the shape of the wire, or recorded."""

from __future__ import annotations

import gzip
import itertools
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import orjson

Row = dict[str, Any]

DATA = Path(__file__).resolve().parent.parent / "data"

#: The time that made-up rows are counted from.
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

_ids = itertools.count(1)


def new_trace_id() -> str:
    """Return a trace id that no other row of this run has."""
    return f"{next(_ids):032x}"


def new_span_id() -> str:
    """Return a span id that no other row of this run has."""
    return f"{next(_ids):016x}"


def at(seconds: float = 0.0, since: datetime = NOON) -> str:
    """Return a time in the form of the wire, so many seconds after noon."""
    return iso(since + timedelta(seconds=seconds))


def iso(moment: datetime) -> str:
    """Return a time in the form of the wire: UTC, exactly milliseconds, `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment_of(value: str | float | datetime) -> datetime:
    """Return the time that a test names: itself, ISO text, or seconds after noon."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    return NOON + timedelta(seconds=value)


def row(
    *,
    trace: str | None = "",
    id: str | None = None,  # noqa: A002
    start: str | float | datetime = 0.0,
    seconds: float | None = 1.0,
    parent: str | None = None,
    **changes: Any,
) -> Row:
    """Return a row with every key that a 4.16.0 server returns.

    `start` is a time or a number of seconds after noon, `seconds` how long it took (None: not ended). A `trace` of ''
    is a new one. `changes` are keys of the wire; a row is a root when it has no parent, unless they say otherwise.
    """
    begun = moment_of(start)
    ended = None if seconds is None else begun + timedelta(seconds=seconds)
    written = iso((ended or begun) + timedelta(seconds=1))
    made: Row = {
        "id": id or new_span_id(),
        "traceId": new_trace_id() if trace == "" else trace,
        "startTime": iso(begun),
        "endTime": None if ended is None else iso(ended),
        "projectId": "h1-proj-a",
        "parentObservationId": parent,
        "type": "SPAN",
        "name": "step",
        "level": "DEFAULT",
        "statusMessage": "",
        "version": "",
        "environment": "default",
        "completionStartTime": None,
        "createdAt": written,
        "updatedAt": written,
        "input": None,
        "output": None,
        "metadata": {},
        "model": "",
        "internalModelId": "",
        "modelParameters": {},
        "usageDetails": {},
        "inputUsage": 0,
        "outputUsage": 0,
        "totalUsage": 0,
        "costDetails": {},
        "inputCost": None,
        "outputCost": None,
        "totalCost": 0,
        "promptId": "",
        "promptName": "",
        "promptVersion": None,
        "usagePricingTierId": None,
        "usagePricingTierName": None,
        "latency": seconds or None,
        "timeToFirstToken": None,
        "userId": "",
        "sessionId": "",
        "isRootObservation": parent is None,
        "traceName": None,
        "release": "",
        "tags": [],
        "bookmarked": False,
        "public": False,
        "modelId": None,
        "inputPrice": None,
        "outputPrice": None,
        "totalPrice": None,
    }
    unknown = changes.keys() - made.keys()
    if unknown:
        raise TypeError(f"not keys of a row: {sorted(unknown)}")
    return made | changes


def trace(
    n_children: int = 2,
    *,
    trace: str = "",
    start: str | float | datetime = 0.0,
    seconds: float = 10.0,
    session: str = "",
    user: str = "",
    **changes: Any,
) -> list[Row]:
    """Return a whole trace, root first: an agent, and under it generations that start one after the other.

    Session and user stand on the root alone, as an old SDK leaves them; `changes` go to every row.
    """
    begun = moment_of(start)
    trace_id = trace or new_trace_id()
    own = {"name": "agent", "type": "AGENT", "sessionId": session, "userId": user, "traceName": "agent"}
    root = row(trace=trace_id, start=begun, seconds=seconds, **(own | changes))
    each = seconds / (n_children + 1)
    child = {"type": "GENERATION", "model": "gpt-4o", "input": '[{"role":"user","content":"hi"}]', "output": "hello"}
    children = [
        row(
            trace=trace_id,
            parent=root["id"],
            start=begun + timedelta(seconds=each * number),
            seconds=each,
            **(child | {"name": f"llm-{number}"} | changes),
        )
        for number in range(1, n_children + 1)
    ]
    return [root, *children]


@cache
def _recorded() -> bytes:
    return gzip.decompress((DATA / "v4.16.0-rows.jsonl.gz").read_bytes())


def recorded_rows() -> list[Row]:
    """Return the 822 rows of the recorded server with all fields, newest first, in fresh copies."""
    return [orjson.loads(line) for line in _recorded().splitlines()]


def score(number: int, trace_id: str | None, when: datetime, **changes: Any) -> dict[str, Any]:
    """Return a score on a trace as `v3/scores` shows it with all fields; `changes` are keys of the wire."""
    time = iso(when)
    return {
        "id": f"score-{number}", "projectId": "h1-proj-a", "name": "quality", "source": "API", "timestamp": time,
        "environment": "default", "createdAt": time, "updatedAt": time, "comment": None, "configId": None,
        "metadata": {}, "authorUserId": "author", "queueId": "queue", "subject": {"kind": "trace", "id": trace_id},
        "dataType": "NUMERIC", "value": 0.5, **changes,
    }  # fmt: skip
