"""What Langfuse folded into `metadata` at ingestion goes back to where it came from.

An observation's metadata holds three things: the original resource and scope, the original span attributes that
Langfuse did not consume, and the user's own keys, in reverse order. Written directly over OTLP they come as flat dotted
keys (`attributes.gen_ai.system`), and values were turned to text and parsed as JSON again on the way. From older write
paths, and from v2 and v3, they come as nested objects, whose attributes are all text still. Either way a few types are
rules of thumb; they were checked against spans exported directly.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sync_worker.json_text import dump, is_compact, parse
from sync_worker.spans.model import Attributes, AttributeValue, Scope
from sync_worker.spans.written_types import WrittenTypes

_INT64 = 2**63

#: Keys whose numbers were doubles: JSON text drops the ".0" of a whole one.
_DOUBLE = re.compile(
    r"(?:temperature|top_p|topP|penalty|Penalty|_cost|score|PerSecond|_per_second|ratio|time_to_first_chunk)\Z"
    r"|msTo[A-Z]\w*\Z|(?:\A|\.)cost(?:\.|\Z)"
)
#: Keys whose numbers were text that only looked like a number.
_VERSION = re.compile(r"(?:\A|[._])(?:version|release)\Z")
#: Numbers as JavaScript writes them, without needless zeros.
_AS_JAVASCRIPT = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d*[1-9])?(?:e[+-]?\d+)?\Z")
_JSON_STARTS = frozenset('-0123456789tfn[{"')
_EMPTY_ARRAY: dict[str, dict[str, Any]] = {"arrayValue": {}}
#: JavaScript has one kind of number, and OpenTelemetry's exporter (`@opentelemetry/otlp-transformer` 0.223) writes
#: every whole one as an integer.
_JAVASCRIPT = frozenset({"nodejs", "webjs"})


@dataclass(frozen=True, slots=True)
class _Text:
    """A nested attribute: text as it was written, or as JavaScript writes a value of another type."""

    text: str


@dataclass(slots=True)
class Originals:
    """An observation's metadata taken apart. `scope` is None when the observation did not come over OTLP."""

    scope: Scope | None = None
    resource: Attributes = field(default_factory=dict)
    attributes: Attributes = field(default_factory=dict)
    user: dict[str, Any] = field(default_factory=dict)


def take_apart(metadata: Mapping[str, Any], version: str | None = None) -> Originals:
    """Split metadata into what it was made of; `version` gives a resource's `service.version` its text back."""
    found, attributes = _parted(metadata)
    if _keeps_attributes(found):
        found.attributes = _typed(found, attributes)
    service_version = found.resource.get("service.version")
    if service_version is not None and version and _same_number(str(service_version), version):
        found.resource["service.version"] = version
    return found


def own_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user's own keys alone, in the order in which they were written."""
    return _parted(metadata)[0].user


def _parted(metadata: Mapping[str, Any]) -> tuple[Originals, dict[str, Any]]:
    """Return what needs no types, and the span's attributes as they came."""
    found = Originals()
    attributes: dict[str, Any] = {}
    scope_name, scope_version = "", ""
    scope_attributes: Attributes = {}
    has_scope = False
    for key, value in _in_original_order(metadata):
        if key.startswith("attributes.") and key != "attributes.":
            attributes[key[11:]] = value
        elif key.startswith("resourceAttributes.") and key != "resourceAttributes.":
            name = key[19:]
            found.resource[name] = value if isinstance(value, str) else attribute_value(name, value)
        elif key == "scope.name":
            has_scope, scope_name = True, _text(value)
        elif key == "scope.version":
            has_scope, scope_version = True, _text(value)
        elif key.startswith("scope.attributes."):
            has_scope = True
            name = key[17:]
            scope_attributes[name] = attribute_value(name, value)
        else:
            found.user[key] = value
    if has_scope and scope_name:
        found.scope = Scope(scope_name, scope_version, scope_attributes)
    if not _keeps_attributes(found):
        found.user |= {
            f"attributes.{name}": _read(value.text) if isinstance(value, _Text) else value
            for name, value in attributes.items()
        }
    return found, attributes


def _keeps_attributes(found: Originals) -> bool:
    """Whether Langfuse keeps attributes of such a span; of its own SDK's it does not, and the keys are the user's."""
    return bool(found.resource) if found.scope is None else not found.scope.name.startswith("langfuse-sdk")


def has_whole_doubles(resource: Attributes) -> bool:
    """Whether a double without a fraction may have been written as one: not by JavaScript."""
    return resource.get("telemetry.sdk.language") not in _JAVASCRIPT


def _typed(found: Originals, attributes: Mapping[str, Any]) -> Attributes:
    read = {name: _read(said.text) if isinstance(said, _Text) else said for name, said in attributes.items()}
    written = WrittenTypes("" if found.scope is None else found.scope.name, read)
    doubles = has_whole_doubles(found.resource)
    typed: Attributes = {}
    for name, said in attributes.items():
        value = read[name]
        known = written.give_back(name, value)
        if isinstance(said, _Text) and (isinstance(value, str) or isinstance(known, str)):
            typed[name] = said.text
        else:
            typed[name] = attribute_value(name, value, doubles=doubles) if known is None else known
    return typed


def attribute_value(key: str, value: Any, *, doubles: bool = True) -> AttributeValue:
    """Return the OTLP value that most likely stood under `key` before Langfuse turned it to JSON.

    `doubles` says whether a whole number may have been one.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        if _VERSION.search(key):
            return _text(value)
        if isinstance(value, int) and not -_INT64 <= value < _INT64:
            return dump(value)
        return float(value) if isinstance(value, float) or (doubles and _DOUBLE.search(key)) else value
    if value is None:
        return "null"
    if value == _EMPTY_ARRAY:
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


def _in_original_order(metadata: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Return flat keys in the order they were written; nested groups are flattened by one level."""
    nested = {
        group: metadata[group]
        for group in ("scope", "resourceAttributes", "attributes")
        if isinstance(metadata.get(group), Mapping)
    }
    if "scope" in nested and not isinstance(nested["scope"].get("name"), str):
        del nested["scope"]  # a user's own key of that name
    in_order = reversed(list(metadata.items()))
    return _flattened(in_order, nested) if nested else in_order


def _flattened(
    in_order: Iterable[tuple[str, Any]], nested: Mapping[str, Mapping[str, Any]]
) -> Iterable[tuple[str, Any]]:
    for key, value in in_order:
        group = nested.get(key)
        if group is None:
            yield key, value
        elif key == "scope":
            yield "scope.name", group["name"]
            yield "scope.version", group.get("version") or ""
            for name, item in group.items():
                if name not in {"name", "version", "attributes"}:
                    yield f"scope.{name}", item
            attributes = group.get("attributes")
            if isinstance(attributes, Mapping):
                for name, item in attributes.items():
                    yield f"scope.attributes.{name}", item
        else:
            for name, item in group.items():
                yield f"{key}.{name}", _Text(item) if key == "attributes" and isinstance(item, str) else item


def _read(text: str) -> Any:
    """Return the value that a nested attribute's text stands for; the text itself where it was one.

    JavaScript writes numbers in one way and lists without white space: whatever looks otherwise was text. So was an
    object, but for two in which earlier servers kept a value of OTLP.
    """
    is_json, value = parse(text) if text[:1] in _JSON_STARTS else (False, None)
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value if _AS_JAVASCRIPT.match(text) else text
    if isinstance(value, list):
        return value if is_scalar_list(value) and is_compact(text) else text
    is_of_otlp = isinstance(value, dict) and (value == _EMPTY_ARRAY or value.keys() == {"intValue"})
    return value if is_json and is_of_otlp else text


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else dump(value)


def _same_number(left: str, right: str) -> bool:
    try:
        return float(left) == float(right)
    except ValueError:
        return False
