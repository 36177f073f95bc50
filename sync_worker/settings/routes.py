"""Routes of a source: which traces go to another Kelet project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sync_worker.settings import tomlfile
from sync_worker.settings.result import Route
from sync_worker.settings.values import parse_project, refuse_leftovers
from sync_worker.settings.wrong import Found, Report, WrongValueError

_PATTERNS: Final = ("environment", "trace_name", "user", "session", "release")
_KNOWN: Final = ("project", *_PATTERNS, "tags", "metadata")


def parse_route(table: Any, place: str, report: Report) -> Route | None:
    """Understand one `[[sources.routes]]` table; `place` says which. None if it is wrong, which the report says."""
    if not isinstance(table, dict):
        report.refuse(place, WrongValueError("not a table", expected="[[sources.routes]]"))
        return None
    problems: list[tuple[str, WrongValueError, Found | None]] = [
        (f"{place} {key}", tomlfile.unknown(key, _KNOWN), None) for key in table if key not in _KNOWN
    ]
    understood: dict[str, Any] = {}
    for key, parse in (
        ("project", _project),
        *((name, _pattern) for name in _PATTERNS),
        ("tags", _tags),
        ("metadata", _metadata),
    ):
        if key not in table and key != "project":
            continue
        try:
            understood[key] = parse(table.get(key))
        except WrongValueError as wrong:
            value = table.get(key)
            found = Found(value, place) if isinstance(value, str) else None
            problems.append((f"{place} {key}", wrong, found))
    if not table.keys() & {*_PATTERNS, "tags", "metadata"}:
        problems.append((place, _no_condition(), None))
    for problem in problems:
        report.refuse(*problem)
    return None if problems else Route(**understood)


def describe(route: Route) -> str:
    """Return a route in one line: `shop-eu if environment=prod*, tags=[a, b], metadata.team=x`."""
    conditions = [f"{name}={getattr(route, name)}" for name in _PATTERNS if getattr(route, name) is not None]
    if route.tags:
        conditions.append(f"tags=[{', '.join(route.tags)}]")
    conditions.extend(f"metadata.{key}={pattern}" for key, pattern in route.metadata)
    return f"{route.project} if {', '.join(conditions)}"


def _no_condition() -> WrongValueError:
    return WrongValueError(
        "no condition, so it would take every trace",
        expected=f"at least one of {', '.join((*_PATTERNS, 'tags', 'metadata'))}",
        hint="give the source itself this project",
    )


def _project(value: Any) -> str:
    if value is None:
        raise WrongValueError("missing", expected="the name of a Kelet project")
    if not isinstance(value, str):
        raise WrongValueError("not a string", expected="the name of a Kelet project")
    refuse_leftovers(Found(value, ""))
    return parse_project(value)


def _pattern(value: Any) -> str:
    if not isinstance(value, str):
        raise WrongValueError("not a string", expected='a string with or without wildcards, such as "prod*"')
    if not value:
        raise WrongValueError("empty", expected='a string with or without wildcards, such as "prod*"')
    return value


def _tags(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(tag, str) and tag for tag in value):
        raise WrongValueError("not a list of strings", expected='a list, such as tags = ["vip"]')
    if not value:
        raise _no_condition()
    return tuple(value)


def _metadata(value: Any) -> tuple[tuple[str, str], ...]:
    expected = 'a table of strings, such as metadata = {team = "search"}'
    if not isinstance(value, Mapping) or not all(isinstance(pattern, str) for pattern in value.values()):
        raise WrongValueError("not a table of strings", expected=expected)
    if not value:
        raise _no_condition()
    return tuple(value.items())
