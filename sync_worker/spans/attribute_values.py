"""The OTLP value that an attribute had before Langfuse turned it to JSON."""

from __future__ import annotations

import re
from typing import Any

from sync_worker.json_text import dump
from sync_worker.spans.span_model import AttributeValue

_INT64 = 2**63

#: Keys whose numbers were doubles: JSON text drops the ".0" of a whole one.
_DOUBLE = re.compile(
    r"(?:temperature|top_p|topP|penalty|Penalty|_cost|score|PerSecond|_per_second|ratio|time_to_first_chunk)\Z"
    r"|msTo[A-Z]\w*\Z|(?:\A|\.)cost(?:\.|\Z)"
)
#: Keys whose numbers were text that only looked like a number.
_VERSION = re.compile(r"(?:\A|[._])(?:version|release)\Z")
#: How servers before 4 show an array without items.
EMPTY_ARRAY: dict[str, dict[str, Any]] = {"arrayValue": {}}


def attribute_value(key: str, value: Any, *, doubles: bool = True) -> AttributeValue:
    """Return the OTLP value that most likely stood under `key` before Langfuse turned it to JSON.

    `doubles` states whether a whole number may have been one.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        if _VERSION.search(key):
            return text_of(value)
        if isinstance(value, int) and not -_INT64 <= value < _INT64:
            return dump(value)
        return float(value) if isinstance(value, float) or (doubles and _DOUBLE.search(key)) else value
    if value is None:
        return "null"
    if value == EMPTY_ARRAY:
        return []
    if isinstance(value, dict) and value.keys() == {"intValue"} and isinstance(value["intValue"], int | str):
        return _integer(value["intValue"])
    if isinstance(value, list) and is_scalar_list(value):
        return scalars(value)
    return dump(value)


def _integer(value: int | str) -> AttributeValue:
    """Return a number that Langfuse's versions before 4 took for an object: zero, or one of 64 bits."""
    try:
        number = int(value)
    except ValueError:
        return dump({"intValue": value})
    return number if -_INT64 <= number < _INT64 else dump(number)


def is_scalar_list(value: list[Any]) -> bool:
    """Whether a list can be an OTLP array: scalars of one kind."""
    return bool(value) and (
        all(isinstance(item, str) for item in value)
        or all(isinstance(item, bool) for item in value)
        or all(isinstance(item, int | float) and not isinstance(item, bool) and abs(item) < _INT64 for item in value)
    )


def scalars(value: list[Any]) -> AttributeValue:
    """Return a list of scalars as an attribute value; numbers of mixed kind become doubles."""
    if any(isinstance(item, float) for item in value):
        return [float(item) for item in value]
    return value


def text_of(value: Any) -> str:
    """Return a value as text: itself where it is one, nothing for null, else its JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else dump(value)
