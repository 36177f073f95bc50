"""The `filter` parameter of Langfuse's lists: v2 observations, and v1 traces and observations of newer v3 servers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from sync_worker.records import langfuse_id
from sync_worker.times import iso_time

#: Bytes that a list of ids may take in an address: bare servers took 16 KB, an edge in front may take less.
MAX_FILTER_BYTES = 6_400
#: As many ids as fit in one request by that, at 32 characters an id.
IDS_A_REQUEST = 150


def filtered(*conditions: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameter for these conditions, all of which must hold."""
    return {"filter": _json(conditions)}


def any_of(column: str, values: Sequence[str]) -> dict[str, Any]:
    """Return the condition that a column has one of these values."""
    return {
        "type": "stringOptions",
        "column": column,
        "operator": "any of",
        "value": [langfuse_id(value) for value in values],
    }


def none_of(column: str, values: Sequence[str]) -> dict[str, Any]:
    """Return the condition that a column has none of these values."""
    return any_of(column, values) | {"operator": "none of"}


def is_text(column: str, value: str) -> dict[str, Any]:
    """Return the condition that a column has this value."""
    return {"type": "string", "column": column, "operator": "=", "value": langfuse_id(value)}


def ends_with(column: str, ending: str) -> dict[str, Any]:
    """Return the condition that a column ends like this."""
    return {"type": "string", "column": column, "operator": "ends with", "value": ending}


def not_before(column: str, moment_ms: int) -> dict[str, Any]:
    """Return the condition that a time is there and not before a moment."""
    return {"type": "datetime", "column": column, "operator": ">=", "value": iso_time(moment_ms)}


def before(column: str, moment_ms: int) -> dict[str, Any]:
    """Return the condition that a time is there and before a moment."""
    return {"type": "datetime", "column": column, "operator": "<", "value": iso_time(moment_ms)}


def parts(ids: Sequence[str], most_bytes: int = MAX_FILTER_BYTES) -> Iterator[list[str]]:
    """Cut ids into lists that take at most so many bytes of an address."""
    part: list[str] = []
    used = 0
    for item in ids:
        cost = len(quote(_json(langfuse_id(item)), safe="")) + 3
        if part and used + cost > most_bytes:
            yield part
            part, used = [], 0
        part.append(item)
        used += cost
    if part:
        yield part


def _json(value: Any) -> str:
    """Return JSON text; half a surrogate pair is written as its escape, which the server reads as it was."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return text
