"""Traces and observations for tests, made up in the shape of the v1 endpoints, and how v2 tells the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from tests.support.rows import iso, moment_of, new_span_id, new_trace_id, row

Item = dict[str, Any]

#: Keys that Langfuse v2 (2.95.11) does not have.
NOT_IN_2_95 = {
    "usageDetails",
    "costDetails",
    "environment",
    "usagePricingTierId",
    "usagePricingTierName",
    "externalId",
}


def trace_item(trace_id: str | None = None, *, start: str | float | datetime = 0.0, **changes: Any) -> Item:
    """Return a trace as `GET /api/public/traces` lists it; `start` is a time or a number of seconds after noon."""
    begun = moment_of(start)
    made_id = trace_id or new_trace_id()
    made: Item = {
        "id": made_id,
        "projectId": "h1-proj-a",
        "name": "agent",
        "timestamp": iso(begun),
        "environment": "default",
        "tags": [],
        "bookmarked": False,
        "release": None,
        "version": None,
        "userId": None,
        "sessionId": None,
        "public": False,
        "input": None,
        "output": None,
        "metadata": {},
        "createdAt": iso(begun + timedelta(seconds=1)),
        "updatedAt": iso(begun + timedelta(seconds=1)),
        "externalId": None,
    }
    return _changed(made, changes)


def observation_item(
    trace_id: str | None,
    *,
    id: str | None = None,  # noqa: A002
    start: str | float | datetime = 0.0,
    seconds: float | None = 1.0,
    parent: str | None = None,
    **changes: Any,
) -> Item:
    """Return an observation as `GET /api/public/observations` lists it; `seconds` is how long it took (None: open)."""
    begun = moment_of(start)
    ended = None if seconds is None else begun + timedelta(seconds=seconds)
    written = iso((ended or begun) + timedelta(seconds=1))
    made: Item = {
        "id": id or new_span_id(),
        "traceId": trace_id,
        "startTime": iso(begun),
        "endTime": None if ended is None else iso(ended),
        "projectId": "h1-proj-a",
        "parentObservationId": parent,
        "type": "SPAN",
        "environment": "default",
        "name": "step",
        "level": "DEFAULT",
        "statusMessage": None,
        "version": None,
        "createdAt": written,
        "updatedAt": written,
        "input": None,
        "output": None,
        "metadata": {},
        "model": None,
        "modelParameters": None,
        "completionStartTime": None,
        "promptId": None,
        "promptName": None,
        "promptVersion": None,
        "latency": seconds,
        "timeToFirstToken": None,
        "usageDetails": {},
        "costDetails": {},
        "usagePricingTierId": None,
        "usagePricingTierName": None,
        "modelId": None,
        "inputPrice": None,
        "outputPrice": None,
        "totalPrice": None,
        "calculatedInputCost": None,
        "calculatedOutputCost": None,
        "calculatedTotalCost": 0,
        "unit": "TOKENS",
        "promptTokens": 0,
        "completionTokens": 0,
        "totalTokens": 0,
        "usage": {"unit": "TOKENS", "input": 0, "output": 0, "total": 0},
    }
    return _changed(made, changes)


def whole_trace(
    n_children: int = 2, *, start: str | float | datetime = 0.0, seconds: float = 10.0, **changes: Any
) -> tuple[Item, list[Item]]:
    """Return a trace and its observations: a root, and below it generations one after the other.

    `changes` go to the trace.
    """
    begun = moment_of(start)
    of_trace = trace_item(start=begun, **changes)
    root = observation_item(of_trace["id"], start=begun, seconds=seconds, type="AGENT", name="agent")
    each = seconds / (n_children + 1)
    children = [
        observation_item(
            of_trace["id"],
            parent=root["id"],
            start=begun + timedelta(seconds=each * number),
            seconds=each,
            type="GENERATION",
            name=f"llm-{number}",
            model="gpt-4o",
            input=[{"role": "user", "content": "hi"}],
            output="hello",
        )
        for number in range(1, n_children + 1)
    ]
    return of_trace, [root, *children]


def _changed(made: Item, changes: dict[str, Any]) -> Item:
    unknown = changes.keys() - made.keys()
    if unknown:
        raise TypeError(f"not keys of an item: {sorted(unknown)}")
    return made | changes


def as_2_95(item: Mapping[str, Any]) -> Item:
    """Return an item without what Langfuse v2 does not tell."""
    return {key: value for key, value in item.items() if key not in NOT_IN_2_95}


def v2_rows(traces: Iterable[Mapping[str, Any]], observations: Iterable[Mapping[str, Any]]) -> list[Item]:
    """Return the rows by which a server in dual mode tells traces and observations of an old SDK under v2."""
    by_id = {item["id"]: item for item in traces}
    rows = [_root_row(item) for item in by_id.values()]
    return rows + [_row(item, by_id.get(item["traceId"])) for item in observations]


def _root_row(item: Mapping[str, Any]) -> Item:
    made = row(trace=item["id"], id=f"t-{item['id']}", start=item["timestamp"], seconds=None)
    same = ("name", "environment", "version", "release", "userId", "sessionId", "createdAt", "updatedAt")
    return made | {
        **{key: item.get(key) or "" for key in same},
        "input": _text(item["input"]),
        "output": _text(item["output"]),
        "metadata": dict(item["metadata"] or {}),
        "tags": list(item["tags"]),
        "public": item["public"],
        "projectId": item["projectId"],
        "traceName": item["name"],
        "latency": None,
    }


def _row(item: Mapping[str, Any], of: Mapping[str, Any] | None) -> Item:
    made = row(trace=item["traceId"], id=item["id"], start=item["startTime"])
    context = {key: (of or {}).get(key) or "" for key in ("userId", "sessionId", "release")}
    reported = {key: value for key, value in item.items() if key in made}
    strings = ("name", "statusMessage", "version", "model", "promptId", "promptName", "environment")
    return {
        **made,
        **reported,
        **{key: item.get(key) or "" for key in strings},
        **context,
        "input": _text(item["input"]),
        "output": _text(item["output"]),
        "modelParameters": item["modelParameters"] or {},
        "parentObservationId": item["parentObservationId"]
        or (None if item["traceId"] is None else f"t-{item['traceId']}"),
        "isRootObservation": False,
        "traceName": (of or {}).get("name"),
        "tags": list((of or {}).get("tags") or []),
    }


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
