"""The query string of the v1 lists, read as Langfuse v3.225.4 reads it, or, with less in it, v2.95.11."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sync_worker.demo.query import LEVELS, TYPES, QueryRejected, invalid, parse_filter, parse_time
from tests.support.v1_items import Item

Predicate = Callable[[Item], bool]
_Item = TypeVar("_Item", bound=Item)

MAX_LIMIT = 100
OLD_TYPES = ("GENERATION", "SPAN", "EVENT")
_ORDERS = ("id", "timestamp", "name", "userId", "release", "version", "public", "bookmarked", "sessionId")
_TRACE_COLUMNS = ("id", "name", "timestamp", "userId", "sessionId", "environment", "version", "release")
_OBSERVATION_COLUMNS = (
    *("id", "type", "name", "traceId", "parentObservationId", "startTime", "endTime", "level", "statusMessage"),
    *("environment", "version", "model", "promptName"),
)


@dataclass(frozen=True)
class Kind:
    """One of the two lists."""

    start: str  # key of the start
    bounds: tuple[str, str]
    exact: tuple[str, ...]  # parameters that compare one string
    columns: tuple[str, ...]  # of `filter`


TRACES = Kind(
    start="timestamp",
    bounds=("fromTimestamp", "toTimestamp"),
    exact=("userId", "name", "sessionId", "version", "release", "environment"),
    columns=_TRACE_COLUMNS,
)
OBSERVATIONS = Kind(
    start="startTime",
    bounds=("fromStartTime", "toStartTime"),
    exact=("type", "name", "level", "traceId", "version", "parentObservationId", "environment"),
    columns=_OBSERVATION_COLUMNS,
)


@dataclass
class Query:
    """What to list."""

    page: int = 1
    limit: int = 50
    order: tuple[str, str] | None = None  # key and "asc" or "desc"; None: newest first
    fields: frozenset[str] | None = None
    since: float = -math.inf  # of the start, in milliseconds
    until: float = math.inf  # without this one
    predicates: list[Predicate] = field(default_factory=list)

    def bound(self, operator: str, ms: int) -> None:
        """Leave out what starts earlier (`>`, `>=`) or later (`<`, `<=`)."""
        beyond = ms + (operator in (">", "<="))
        if operator.startswith(">"):
            self.since = max(self.since, beyond)
        else:
            self.until = min(self.until, beyond)

    def matching(self, items: list[_Item]) -> list[_Item]:
        """Return the items, which start within the bounds, that meet all other conditions."""
        for predicate in self.predicates:
            items = [item for item in items if predicate(item)]
        return items


def parse(kind: Kind, params: Sequence[tuple[str, str]], *, old: bool, filter_replaces: bool) -> Query:
    """Read the query; names that the server does not know are passed over. Raises Rejected."""
    single = dict(params)
    query = Query(_number(single, "page", 1, least=1), _number(single, "limit", 50, least=1, most=MAX_LIMIT))
    if kind is TRACES and single.get("orderBy"):
        column, _, way = single["orderBy"].partition(".")
        if column not in _ORDERS or way not in ("asc", "desc"):
            raise QueryRejected(400, f"Invalid order by column: {column}", "InvalidRequestError")
        query.order = (column, way)
    if not old and kind is TRACES and single.get("fields"):
        query.fields = frozenset(single["fields"].split(",")) | {"core"}
    filtered = set[str]()
    if not old and single.get("filter"):
        filtered = _read_filter(query, kind, single["filter"])
    replaced = filtered if filter_replaces else set[str]()
    _read_params(query, kind, single, old=old, replaced=replaced)
    return query


def _read_params(query: Query, kind: Kind, single: Mapping[str, str], *, old: bool, replaced: set[str]) -> None:
    since, until = kind.bounds
    bounds = {name: parse_time(single[name], name) for name in kind.bounds if name in single}
    if kind.start not in replaced:
        if since in bounds:
            query.bound(">=", bounds[since])
        if until in bounds:
            query.bound("<", bounds[until])
    if "type" in single and kind is OBSERVATIONS and single["type"] not in (OLD_TYPES if old else TYPES):
        raise invalid({"code": "invalid_value", "path": ["type"], "message": "Invalid option"})
    if "level" in single and kind is OBSERVATIONS and not old and single["level"] not in LEVELS:
        raise invalid({"code": "invalid_value", "path": ["level"], "message": "Invalid option"})
    unknown = {"level", "environment"} if old else set[str]()
    for name in kind.exact:
        if name in single and name not in unknown and name not in replaced:
            query.predicates.append(_any_of(name, [single[name]]))


def _number(single: Mapping[str, str], name: str, default: int, *, least: int, most: int | None = None) -> int:
    text = single.get(name)
    if text is None:
        return default
    if not text.lstrip("-").isdigit():
        bad = {"expected": "number", "code": "invalid_type", "received": "NaN", "path": [name]}
        raise invalid({**bad, "message": "Invalid input: expected number, received NaN"})
    value = int(text)
    if value < least:
        bound = {"origin": "number", "code": "too_small", "minimum": least, "inclusive": True, "path": [name]}
        raise invalid({**bound, "message": f"Too small: expected number to be >={least}"})
    if most is not None and value > most:
        bound = {"origin": "number", "code": "too_big", "maximum": most, "inclusive": True, "path": [name]}
        raise invalid({**bound, "message": f"Too big: expected number to be <={most}"})
    return value


def _read_filter(query: Query, kind: Kind, text: str) -> set[str]:
    conditions = parse_filter(text)
    for condition in conditions:
        predicate = _condition(kind, condition)
        if condition["column"] == kind.start and condition["type"] == "datetime":
            query.bound(condition["operator"], parse_time(condition["value"], "filter", "value"))
        else:
            query.predicates.append(predicate)
    return {condition["column"] for condition in conditions}


def _condition(kind: Kind, condition: Mapping[str, Any]) -> Predicate:
    column, operator, value = condition.get("column"), condition.get("operator"), condition.get("value")
    if not isinstance(column, str) or column not in kind.columns:
        raise QueryRejected(400, f"Column {column} does not match a UI / CH table mapping.", "InvalidRequestError")
    is_time = column in ("timestamp", "startTime", "endTime")
    match condition.get("type"), operator, value:
        case "datetime", (">" | ">=" | "<" | "<="), str() if is_time:
            return _time_is(column, operator, parse_time(value, "filter", "value"))
        case "null", ("is null" | "is not null"), "":
            return _absent(column, wanted=operator == "is null")
        case "stringOptions", ("any of" | "none of"), [_, *_] if not is_time:
            listed = _any_of(column, value)
            return listed if operator == "any of" else lambda item: not listed(item)
        case "string", ("=" | "contains" | "does not contain" | "starts with" | "ends with"), str() if not is_time:
            return _text_is(column, operator, value)
        case _:
            what = {"code": "invalid_union", "path": ["filter"]}
            raise invalid({**what, "message": f"Invalid input: {operator!r} does not go with the column {column}"})


def _any_of(key: str, values: Sequence[str]) -> Predicate:
    wanted = frozenset(values)
    return lambda item: item.get(key) in wanted


def _absent(key: str, *, wanted: bool) -> Predicate:
    return lambda item: (item.get(key) is None) is wanted


def _text_is(key: str, operator: str, text: str) -> Predicate:
    tests: dict[str, Callable[[str], bool]] = {
        "=": lambda value: value == text,
        "contains": lambda value: text in value,
        "does not contain": lambda value: text not in value,
        "starts with": lambda value: value.startswith(text),
        "ends with": lambda value: value.endswith(text),
    }
    test = tests[operator]
    return lambda item: item.get(key) is not None and test(item[key])


def _time_is(key: str, operator: str, ms: int) -> Predicate:
    ms_key = f"{key} ms"
    if operator in ("<", "<="):
        last = ms if operator == "<=" else ms - 1
        return lambda item: (at := item.get(ms_key)) is not None and at <= last
    first = ms if operator == ">=" else ms + 1
    return lambda item: (at := item.get(ms_key)) is not None and at >= first
