"""A JSON Schema (draft 7) of `sync.toml`, made from the settings: editors complete and check the file by it.

It knows types, names, choices and how values are written. What takes more to decide (two names of one source, a
pattern of RE2, a file that does not exist) only the loader finds, with `check --offline`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from pydantic import PlainValidator

from sync_worker.configured import ROUTE_FIELDS
from sync_worker.redaction.redaction_rules import DETECTORS
from sync_worker.settings import durations, sync_toml, values
from sync_worker.settings.model import (
    INFO,
    LISTS,
    REQUIRED,
    SECRETS,
    SOURCE_FIELDS,
    TABLES,
    TARGET_FIELDS,
    default_text,
    file_name_of,
    meaning,
    names_of,
)
from sync_worker.targets import PRESETS

_Schema = dict[str, Any]

_ADDRESS: Final = r"^\s*[Hh][Tt][Tt][Pp][Ss]?://[^\s@?#\\]+\s*$"
_KEY: Final = r"[!-~]+\s*$"
#: The parts of a duration, as `durations.parse_duration` reads them; `m` is not the beginning of `ms`.
_PARTS: Final = r"([0-9]+d)?([0-9]+h)?([0-9]+m(?!s))?([0-9]+s)?([0-9]+ms)?"
_DURATION: Final = rf"^\s*(?=[0-9]){_PARTS}\s*$"
_POSITIVE: Final = rf"^\s*(?=[0-9]*[a-z0-9]*[1-9]){_PARTS}\s*$"
_TIME: Final = r"^\s*[0-9]{4}-?[0-9]{2}-?[0-9]{2}[T ][0-9:.,]+(Z|[+-][0-9:]+)\s*$"
_NAME: Final = "^[a-z0-9_-]+$"


def schema() -> _Schema:
    """Return the schema."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "sync.toml of sync-worker",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **_settings(sync_toml.TOP_LEVEL),
            "redact": _redact(),
            "sources": {"type": "array", "minItems": 1, "items": _source()},
        },
    }


def _source() -> _Schema:
    once = [{"required": [name, file_name_of(name)]} for name in (*SOURCE_FIELDS, *TARGET_FIELDS) if name in SECRETS]
    of_target = [{"required": [name]} for one in TARGET_FIELDS for name in _with_file(one)]
    return {
        "description": "One Langfuse project and where its traces go.",
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "pattern": _NAME, "description": "Name of the source in reports and options."},
            **_settings(sync_toml.IN_A_SOURCE),
            "redact": _redact(),
            "routes": {"type": "array", "items": _route()},
            "scores": {"type": "array", "items": _score()},
            "targets": {"type": "array", "minItems": 1, "items": {"anyOf": [_words(PRESETS), _target()]}},
        },
        "not": {"anyOf": once},
        "if": {"required": ["targets"]},
        "then": {"not": {"anyOf": of_target}},
    }


def _target() -> _Schema:
    return {
        "description": "One of several targets of a source.",
        "type": "object",
        "additionalProperties": False,
        "properties": {"name": {"type": "string", "pattern": _NAME}, **_settings(sync_toml.IN_A_TARGET)},
    }


def _route() -> _Schema:
    text: _Schema = {"type": "string", "minLength": 1}
    conditions: _Schema = dict.fromkeys(ROUTE_FIELDS, text)
    conditions["tags"] = {"type": "array", "minItems": 1, "items": text}
    conditions["metadata"] = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}}
    return {
        "description": "Traces that go to another project, or are dropped; all conditions must match.",
        "type": "object",
        "additionalProperties": False,
        "properties": {"project": _PROJECT, "drop": {"const": True}, **conditions},
        "oneOf": [{"required": ["project"]}, {"required": ["drop"]}],
        "anyOf": [{"required": [name]} for name in conditions],
    }


def _score() -> _Schema:
    text: _Schema = {"type": "string", "pattern": r"\S"}
    return {
        "description": "How scores with a matching name become signals.",
        "type": "object",
        "required": ["match"],
        "minProperties": 2,
        "additionalProperties": False,
        "properties": {
            "match": text,
            "kind": {"enum": list(sync_toml.KINDS)},
            "source": {"enum": list(sync_toml.SOURCES)},
            "trigger": text,
            "range": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
            "invert": {"type": "boolean"},
            "skip": {"type": "boolean"},
        },
    }


def _redact() -> _Schema:
    pattern = {"type": "string", "minLength": 1}
    return {
        "description": "Patterns of RE2 that are redacted, by name.",
        "type": "object",
        "required": ["patterns"],
        "additionalProperties": False,
        "properties": {
            "patterns": {
                "type": "object",
                "propertyNames": {"pattern": "^[a-z0-9_-]{1,40}$", "not": {"enum": list(DETECTORS)}},
                "additionalProperties": pattern,
            }
        },
    }


def _settings(known: Iterable[str]) -> dict[str, _Schema]:
    """Return the schemas of those of these keys that are settings."""
    known = set(known)
    found: dict[str, _Schema] = {}
    for name in INFO:
        described: _Schema = {"description": meaning(name)}
        if default_text(name) and name not in REQUIRED:
            described["default"] = default_text(name)
        for one in names_of(name):
            if one in known:
                found[one] = described | _value(name)
        if name in SECRETS and file_name_of(name) in known:
            file = f"Path of a file that contains {name}."
            found[file_name_of(name)] = {"description": file} | _text(r"\S")
    return found


def _with_file(name: str) -> tuple[str, ...]:
    return (name, file_name_of(name)) if name in SECRETS else (name,)


def _value(name: str) -> _Schema:
    """Return the schema of a setting's value, a string or what else `sync.toml` may say it as."""
    info = INFO[name]
    parser = next((one.func for one in info.metadata if isinstance(one, PlainValidator)), None)
    if parser is None:
        found = _whole(name) if _is_whole(info.annotation) else _words(get_args(info.annotation))
    else:
        found = _BY_PARSER.get(parser, _ANY)
    if name in LISTS:
        item: _Schema = {"type": "string"}
        if parser is durations.parse_horizons:
            item["pattern"] = _POSITIVE
        return {"anyOf": [found, {"type": "array", "minItems": 1, "items": item}]}
    if name in TABLES:
        return {"anyOf": [found, {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}}]}
    return found


def _is_whole(annotation: Any) -> bool:
    parts = get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)
    return any(part is int or (get_args(part) and get_args(part)[0] is int) for part in parts)


def _whole(name: str) -> _Schema:
    limits = {
        key: getattr(one, end)
        for one in INFO[name].metadata
        for end, key in (("ge", "minimum"), ("le", "maximum"))
        if hasattr(one, end)
    }
    return {"anyOf": [{"type": "integer", **limits}, _text(r"^\s*\+?[0-9]{1,18}\s*$")]}


def _words(words: Iterable[str]) -> _Schema:
    """Return a choice; editors offer the words, and the loader takes them in upper case too."""
    words = list(words)
    folded = "|".join("".join(f"[{c.upper()}{c}]" if c.isalpha() else c for c in word) for word in words)
    return {"anyOf": [{"enum": words}, _text(rf"^\s*({folded})\s*$")]}


def _text(pattern: str) -> _Schema:
    return {"type": "string", "pattern": pattern}


_ANY: Final[_Schema] = {"type": ["string", "integer", "boolean"], "pattern": r"\S"}
_PROJECT: Final = _text(r"^\s*[!-~][ -~]*\s*$")
_SWITCH: Final[_Schema] = {"anyOf": [{"type": "boolean"}, {"enum": [0, 1]}, _words(values.SWITCH)]}

_BY_PARSER: Final[Mapping[Callable[..., Any], _Schema]] = {
    durations.parse_duration: _text(_DURATION),
    durations.parse_positive_duration: _text(_POSITIVE),
    durations.parse_start: {"anyOf": [_text(_DURATION), _text(_TIME)]},
    durations.parse_horizons: _text(rf"^{_POSITIVE[1:-1]}(,{_POSITIVE[1:-1]})*$"),
    values.parse_switch: _SWITCH,
    values.parse_langfuse_url: _text(_ADDRESS),
    values.parse_kelet_url: _text(_ADDRESS),
    values.parse_target_url: _text(_ADDRESS),
    values.parse_langfuse_public_key: _text(rf"^\s*(?!sk-lf-){_KEY}"),
    values.parse_langfuse_secret_key: _text(rf"^\s*(?!pk-lf-){_KEY}"),
    values.parse_kelet_key: _text(rf"^\s*(?![sp]k-lf-){_KEY}"),
    values.parse_target_key: _text(rf"^\s*{_KEY}"),
    values.parse_project: _PROJECT,
    values.parse_share: _text(r"^\s*0*([1-9][0-9]?|100) ?%\s*$"),
    values.parse_sample: _text(r"^\s*(0*[0-9]{1,2}(\.[0-9]{1,4})?|100(\.0{1,4})?) ?%\s*$"),
    values.parse_pseudonym_key: _text(r"\S.{14,}\S"),
}
