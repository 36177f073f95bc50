"""`sync.toml`: read it, and understand its top level and the types of its values."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sync_worker.settings.model import FIELDS, SECRETS, WHEREABOUTS, file_name_of, names_of
from sync_worker.settings.names import suggestion
from sync_worker.settings.places import reason
from sync_worker.settings.wrong import Found, Report, WrongValueError

TOP_LEVEL: Final = frozenset(
    {
        *(name for field in FIELDS if field not in WHEREABOUTS for name in names_of(field)),
        *(file_name_of(field) for field in SECRETS),
        "sources",
    }
)


def read(file: Path, report: Report, *, must_exist: bool) -> dict[str, Any]:
    """Return the content of the file; empty if it does not exist and need not. Problems go to the report."""
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        if must_exist:
            report.refuse("SYNC_CONFIG", WrongValueError(f"the file {file} does not exist"))
    except OSError as error:
        report.refuse(str(file), WrongValueError(f"cannot be read ({reason(error)})"))
    except UnicodeDecodeError:
        report.refuse(str(file), WrongValueError("cannot be read, since it is not UTF-8 text"))
    except tomllib.TOMLDecodeError as error:
        # The parser's own words name the line and the column, and quote at most one character.
        report.refuse(str(file), WrongValueError(f"not valid TOML: {error}"))
    except RecursionError:
        report.refuse(str(file), WrongValueError("not valid TOML: nested too deeply"))
    return {}


def top_level(data: Mapping[str, Any], file: Path, report: Report) -> dict[str, Found]:
    """Return the values of the top level, by the names under which they stand; unknown keys go to the report."""
    for key in sorted(WHEREABOUTS & data.keys()):
        report.refuse(
            f"{file.name} {key}", WrongValueError("cannot be set in this file", hint=f"set {key.upper()} instead")
        )
    return values(
        {key: value for key, value in data.items() if key != "sources" and key not in WHEREABOUTS},
        TOP_LEVEL,
        file.name,
        f"{file.name} ({file})",
        report,
    )


def values(
    table: Mapping[str, Any], known: Collection[str], place: str, origin: str, report: Report
) -> dict[str, Found]:
    """Return the values of a table as texts; `place` goes before a key in a message, `origin` to each value."""
    found = {}
    for key, value in table.items():
        secret = key in SECRETS
        if key not in known:
            report.refuse(f"{place} {key}", unknown(key, known))
            continue
        try:
            text = text_of(value, listed=key == "sync_late_horizons")
            # An empty project has a message of its own.
            if not text.strip() and key != "kelet_project":
                raise WrongValueError("empty", hint="give a value or remove the line")
        except WrongValueError as wrong:
            report.refuse(f"{place} {key}", wrong)
            continue
        found[key] = Found(text, origin, secret=secret)
    return found


def unknown(key: str, known: Collection[str]) -> WrongValueError:
    """Return what is wrong with a key that is none of `known`."""
    near = suggestion(key, known)
    return WrongValueError("not a known key", hint=near or f"use one of {', '.join(sorted(known))}")


def text_of(value: Any, *, listed: bool = False) -> str:
    """Return a TOML value as an operator would write it in a variable; raises WrongValueError without the value.

    `listed` allows a list of strings, which is joined with commas.
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
            return ",".join(value)
    expected = 'a string, such as key = "value"' if not listed else 'a list of strings, such as ["20m", "2h"]'
    raise WrongValueError(f"a {_kind(value)}", expected=expected)


def _kind(value: Any) -> str:
    names = {dict: "table", list: "list", float: "number with a fraction", int: "number", bool: "true or false"}
    return names.get(type(value), "string" if isinstance(value, str) else "date or a time")
