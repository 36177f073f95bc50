"""`sync.toml`: the types of its values, and the routes of its sources. What is wrong names the table and the key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sync_worker.configured import ROUTE_FIELDS, Route, ScoreOverride
from sync_worker.redaction.redaction_rules import DETECTORS
from sync_worker.settings.file_reading import read_text
from sync_worker.settings.model import (
    FIELDS,
    LISTS,
    PER_SOURCE,
    SECRETS,
    SOURCE_FIELDS,
    TABLES,
    TARGET_FIELDS,
    WHEREABOUTS,
    file_name_of,
    names_of,
)
from sync_worker.settings.setting_errors import Problems, RawValue, WrongValueError
from sync_worker.settings.setting_sources import ANOTHER_PATH, leftovers, unreadable
from sync_worker.settings.values import check_pattern, parse_project, split_list
from sync_worker.wording import nearest

_KEY_FILES: Final = tuple(file_name_of(name) for name in (*SOURCE_FIELDS, *TARGET_FIELDS) if name in SECRETS)
_OF_TARGET: Final = (*(name for name in SOURCE_FIELDS if name.startswith("kelet_")), *TARGET_FIELDS)
_ALL_KEY_FILES: Final = tuple(file_name_of(name) for name in FIELDS if name in SECRETS)
TOP_LEVEL: Final = (
    *(one for name in FIELDS if name not in WHEREABOUTS for one in names_of(name)),
    *_ALL_KEY_FILES,
    "sources",
    "redact",
)
IN_A_SOURCE: Final = (
    "name", "routes", "redact", "scores", "targets", *(one for name in SOURCE_FIELDS for one in names_of(name)),
    *TARGET_FIELDS,
    *_KEY_FILES, *PER_SOURCE,
)  # fmt: skip
IN_A_TARGET: Final = (
    "name", *_OF_TARGET, *(file_name_of(name) for name in _OF_TARGET if name in SECRETS), *PER_SOURCE
)  # fmt: skip
_CONDITIONS: Final = (*ROUTE_FIELDS, "tags", "metadata")
_FIELD: Final = re.compile(r"\{([^{}]*)\}")
_OVERRIDES: Final = ("match", "kind", "source", "trigger", "range", "invert", "skip")
KINDS: Final = ("feedback", "edit", "event", "metric", "arbitrary")
SOURCES: Final = ("human", "label", "synthetic")


def read_toml(file: Path, problems: Problems, *, named_by: str | None) -> dict[str, Any]:
    """Return the content of the file; empty if it does not exist, which is wrong where something named it."""
    try:
        return tomllib.loads(read_text(file))
    except FileNotFoundError:
        if named_by is not None:
            problems.refuse(named_by, WrongValueError(f"the file {file} does not exist", hint=ANOTHER_PATH))
    except (OSError, UnicodeDecodeError) as error:
        problems.refuse(str(file), unreadable(error))
    except tomllib.TOMLDecodeError as error:
        # The parser's own words name the line and the column, and quote at most one character.
        problems.refuse(str(file), WrongValueError(f"not valid TOML: {error}"))
    except RecursionError:
        problems.refuse(str(file), WrongValueError("not valid TOML: nested too deeply"))
    return {}


def top_level(data: Mapping[str, Any], file: Path, problems: Problems) -> dict[str, RawValue]:
    """Return the values of the top level, by the names under which they stand."""
    for key in sorted(WHEREABOUTS & data.keys()):
        wrong = WrongValueError("cannot be set in this file", hint=f"set {key.upper()} instead")
        problems.refuse(f"{file.name} {key}", wrong)
    table = {key: value for key, value in data.items() if key not in {"sources", "redact", *WHEREABOUTS}}
    return _raws(table, TOP_LEVEL, file.name, RawValue("", f"{file.name} ({file})"), problems)


def source_values(
    table: Mapping[str, Any], toml_table: str, problems: Problems
) -> tuple[dict[str, RawValue], set[str]]:
    """Return the values of a source, by the names under which they stand, and the settings that are wrong already."""
    return _values(table, IN_A_SOURCE, toml_table, problems)


def target_tables(table: Mapping[str, Any], toml_table: str, problems: Problems) -> list[Mapping[str, Any]] | None:
    """Return the tables of a source's targets, a text among them as one with this preset; None without `targets`."""
    if "targets" not in table:
        return None
    written = table["targets"]
    if not isinstance(written, list) or not all(isinstance(one, dict | str) for one in written) or not written:
        expected = 'tables [[sources.targets]], or a list such as ["kelet", "phoenix"]'
        problems.refuse(f"{toml_table} targets", WrongValueError("not a list of targets", expected=expected))
        return []
    for key in sorted(table.keys() & {one for name in TARGET_FIELDS for one in (name, file_name_of(name))}):
        wrong = WrongValueError("belongs to one target", hint="move it into [[sources.targets]]")
        problems.refuse(f"{toml_table} {key}", wrong)
    return [{"sync_target": one} if isinstance(one, str) else one for one in written]


def target_values(
    table: Mapping[str, Any], toml_table: str, problems: Problems
) -> tuple[dict[str, RawValue], set[str]]:
    """Return the same of one of a source's targets."""
    return _values(table, IN_A_TARGET, toml_table, problems)


def _values(
    table: Mapping[str, Any], known: Collection[str], toml_table: str, problems: Problems
) -> tuple[dict[str, RawValue], set[str]]:
    structure = {"name", "routes", "redact", "scores", "targets"}.intersection(known)
    written = {key: value for key, value in table.items() if key not in structure}
    raws = _raws(written, known, toml_table, RawValue("", toml_table, toml_table), problems)
    wrong = set()
    for name in (*SOURCE_FIELDS, *TARGET_FIELDS):
        file_name = file_name_of(name)
        if any(one in table and one not in raws for one in (*names_of(name), file_name)):
            wrong.add(name)
        if name in raws and file_name in raws:
            twice = WrongValueError(f"given twice, as {name} and as {file_name}", hint="remove one")
            problems.refuse(f"{toml_table} {name}", twice)
            wrong.add(name)
            del raws[name], raws[file_name]
    return raws, wrong


def parse_route(table: Any, toml_table: str, problems: Problems) -> Route | None:
    """Parse one `[[sources.routes]]` table; `toml_table` says which. None if it is wrong."""
    if not isinstance(table, dict):
        problems.refuse(toml_table, WrongValueError("not a table", expected="[[sources.routes]]"))
        return None
    needed = set() if "drop" in table else {"project"}
    parsed = _parse_keys(
        table, ("project", "drop", *_CONDITIONS), needed, lambda key, value: _parsed(key, value, table),
        toml_table, problems,
    )  # fmt: skip
    if not table.keys() & {*_CONDITIONS}:
        problems.refuse(toml_table, _no_condition())
        return None
    return None if parsed is None else Route(**parsed)


def _parse_keys(
    table: Mapping[str, Any],
    known: Sequence[str],
    needed: Collection[str],
    parse: Callable[[str, Any], Any],
    toml_table: str,
    problems: Problems,
) -> dict[str, Any] | None:
    """Return the keys of a table, and those that are needed, as `parse` reads them; None where any is wrong."""
    wrong = {key: _unknown(key, known) for key in table if key not in known}
    parsed: dict[str, Any] = {}
    for key in known:
        try:
            if key in table or key in needed:
                parsed[key] = parse(key, table.get(key))
        except WrongValueError as error:
            wrong[key] = error
    for key, problem in wrong.items():
        text = table.get(key)
        shown = RawValue(text, toml_table) if isinstance(text, str) and key in known else None
        problems.refuse(f"{toml_table} {key}", problem, shown)
    return None if wrong else parsed


def parse_patterns(table: Any, toml_table: str, problems: Problems) -> tuple[tuple[str, str], ...]:
    """Parse `[redact.patterns]`, names and expressions of RE2; `toml_table` says which table `redact` is.

    An expression that cannot be used is reported, and left out of what is returned.
    """
    patterns = table.get("patterns") if isinstance(table, dict) else None
    if not isinstance(patterns, dict) or not isinstance(table, dict) or len(table) > 1:
        expected = "[redact.patterns] with lines such as staff = 'EMP-[0-9]{6}', and nothing else in [redact]"
        problems.refuse(toml_table, WrongValueError("not a table of patterns", expected=expected))
        return ()
    parsed: list[tuple[str, str]] = []
    for name, pattern in patterns.items():
        try:
            parsed.append((_pattern_name(name), _pattern(pattern)))
        except WrongValueError as error:
            shown = RawValue(pattern, toml_table) if isinstance(pattern, str) else None
            problems.refuse(f"{toml_table}.patterns {name}", error, shown)
    return tuple(parsed)


def _pattern_name(name: str) -> str:
    if name in DETECTORS:
        raise WrongValueError("the name of a ready detector", hint="give it another name")
    if not re.fullmatch(r"[a-z0-9_-]{1,40}", name):
        raise WrongValueError("not a name", expected="a short name of the characters a-z, 0-9, _ and -")
    return name


def _pattern(pattern: Any) -> str:
    expected = "an expression of RE2 (https://github.com/google/re2/wiki/Syntax)"
    if not isinstance(pattern, str) or not pattern:
        raise WrongValueError("not a string" if pattern != "" else "empty", expected=expected)
    from sync_worker.expressions import NoRe2Error  # noqa: PLC0415 - only where there are rules
    from sync_worker.redaction.matcher import why_not  # noqa: PLC0415 - only where there are rules

    try:
        wrong = why_not(pattern)
    except NoRe2Error:
        return pattern  # reported once for all
    if wrong is not None:
        raise WrongValueError(wrong, expected=expected)
    return pattern


def parse_score_override(table: Any, toml_table: str, problems: Problems) -> ScoreOverride | None:
    """Parse one `[[sources.scores]]` table; `toml_table` says which. None if it is wrong."""
    if not isinstance(table, dict):
        problems.refuse(toml_table, WrongValueError("not a table", expected="[[sources.scores]]"))
        return None
    parsed = _parse_keys(table, _OVERRIDES, {"match"}, _override, toml_table, problems)
    if parsed is not None and len(parsed) < 2:
        expected = f"at least one of {', '.join(_OVERRIDES[1:])}"
        problems.refuse(toml_table, WrongValueError("says nothing of the scores that match", expected=expected))
        return None
    return None if parsed is None else ScoreOverride(**parsed)


def describe_override(override: ScoreOverride) -> str:
    """Return an override in one line: `csat*: kind=feedback, range=[1, 5], invert=true`."""
    parts = [f"{key}={getattr(override, key)}" for key in ("kind", "source", "trigger") if getattr(override, key)]
    if override.range is not None:
        parts.append(f"range=[{override.range[0]:g}, {override.range[1]:g}]")
    if override.invert is not None:
        parts.append(f"invert={str(override.invert).lower()}")
    if override.skip:
        parts.append("skip=true")
    return f"{override.match}: {', '.join(parts)}"


def describe(route: Route) -> str:
    """Return a route in one line: `shop-eu if environment=prod*, tags=[a, b], metadata.team=x`."""
    return f"{'drop' if route.drop else route.project} if {route.conditions}"


def _raws(
    table: Mapping[str, Any], known: Collection[str], toml_table: str, like: RawValue, problems: Problems
) -> dict[str, RawValue]:
    """Return the values of a table as raw values; `toml_table` goes before a key in a message."""
    raws = {}
    for key, value in table.items():
        try:
            if key not in known:
                raise _unknown(key, known)
            text = _text_of(value, listed=key in LISTS, tabled=key in TABLES)
            # An empty project has a message of its own.
            if not text.strip() and key != "kelet_project":
                raise WrongValueError("empty", hint="give a value or remove the line")
        except WrongValueError as wrong:
            problems.refuse(f"{toml_table} {key}", wrong)
        else:
            raws[key] = RawValue(text, like.origin, like.toml_table, secret=key in SECRETS)
    return raws


def _unknown(key: str, known: Collection[str]) -> WrongValueError:
    return WrongValueError("not a known key", hint=nearest(key, known) or f"use one of {', '.join(sorted(known))}")


_COMMA = r"make two items of it, or write a comma in an expression as \x2C"


def _text_of(value: Any, *, listed: bool, tabled: bool) -> str:
    """Return a TOML value as an operator would write it in a variable; raises WrongValueError without the value.

    `listed` allows a list of strings, which is joined with commas, `tabled` a table of strings, as `headers_of` reads.
    """
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case datetime():
            return value.isoformat()
        case list() if listed and all(isinstance(item, str) for item in value):
            if any(len(split_list(item)) > 1 for item in value):
                raise WrongValueError("a comma in an item of a list", expected="one value an item", hint=_COMMA)
            return ",".join(value)
        case dict() if tabled and all(isinstance(item, str) for item in value.values()):
            return "\n".join(f"{key}={quote(item, safe=' ')}" for key, item in value.items())
    kinds = {dict: "table", list: "list", float: "number with a fraction"}
    expected = 'a list of strings, such as ["20m", "2h"]' if listed else 'a string, such as key = "value"'
    raise WrongValueError(f"a {kinds.get(type(value), 'date or a time')}", expected=expected)


def _no_condition() -> WrongValueError:
    return WrongValueError(
        "no condition, so it would take every trace",
        expected=f"at least one of {', '.join(_CONDITIONS)}",
        hint="give the source itself this project",
    )


def _project(value: Any) -> str:
    if not isinstance(value, str):
        problem = "missing" if value is None else "not a string"
        raise WrongValueError(problem, expected="the name of a Kelet project")
    if wrong := leftovers(RawValue(value, "")):
        raise wrong
    return parse_project(value)


def _parsed(key: str, value: Any, table: Mapping[str, Any]) -> Any:
    """Return the value of a key of a route."""
    if key == "project":
        if table.get("drop") is True:
            raise WrongValueError("given with drop = true", hint="remove one of the two")
        return _template(_project(value))
    if key == "drop":
        if value is not True:
            raise WrongValueError("not true", expected="drop = true", hint="remove the line")
        return True
    found = _condition(key, value)
    match key:
        case "tags":
            patterns = found
        case "metadata":
            patterns = [pattern for _, pattern in found]
        case _:
            patterns = [found]
    for pattern in patterns:
        check_pattern(pattern)
    return found


def _template(project: str) -> str:
    """Return a project; raises WrongValueError for a template with fields that no trace has."""
    rest = _FIELD.sub("", project)
    unknown = [
        name
        for name in _FIELD.findall(project)
        if name not in ROUTE_FIELDS and not (name.startswith("metadata.") and name != "metadata.")
    ]
    if "{" in rest or "}" in rest or unknown:
        what = f"{{{unknown[0]}}} is no field of a trace" if unknown else "a brace without its other one"
        raise WrongValueError(what, expected=f"a template with {{{'}, {'.join(ROUTE_FIELDS)}}} or {{metadata.KEY}}")
    return project


def _condition(key: str, value: Any) -> Any:
    match key:
        case "tags":
            kind, expected = "list of strings", 'a list, such as tags = ["vip"]'
            fits = isinstance(value, list) and all(isinstance(tag, str) and tag for tag in value)
        case "metadata":
            kind, expected = "table of strings", 'a table of strings, such as metadata = {team = "search"}'
            fits = isinstance(value, dict) and all(isinstance(pattern, str) for pattern in value.values())
        case _:
            kind, expected = "string", 'a string with or without wildcards, such as "prod*"'
            fits = isinstance(value, str)
    if not fits:
        raise WrongValueError(f"not a {kind}", expected=expected)
    if not value:
        raise WrongValueError("empty", expected=expected) if kind == "string" else _no_condition()
    return value if kind == "string" else tuple(value.items() if kind == "table of strings" else value)


def _override(key: str, value: Any) -> Any:
    """Return a value of an override; raises WrongValueError."""
    match key:
        case "kind" | "source":
            known = KINDS if key == "kind" else SOURCES
            if value not in known:
                raise WrongValueError("not a known one", expected=f"one of {', '.join(known)}")
        case "invert" | "skip":
            if not isinstance(value, bool):
                raise WrongValueError("neither true nor false", expected="true or false")
        case "range":
            numbers = isinstance(value, list) and all(
                isinstance(one, int | float) and not isinstance(one, bool) for one in value
            )
            if not numbers or len(value) != 2 or not value[0] < value[1]:
                raise WrongValueError("not a range", expected="the lowest and the highest value, such as [1, 5]")
            return float(value[0]), float(value[1])
        case _:
            if not isinstance(value, str) or not value.strip():
                problem = "missing" if value is None else "empty" if value == "" else "not a string"
                expected = "a name or a glob, such as csat-*" if key == "match" else "a name such as user-csat"
                raise WrongValueError(problem, expected=expected)
    return value
