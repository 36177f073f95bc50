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
from dataclasses import dataclass
from typing import Any

from sync_worker.json_text import is_compact, parse
from sync_worker.spans.attribute_values import EMPTY_ARRAY, attribute_value, is_scalar_list
from sync_worker.spans.origins import ATTRIBUTES, LAYOUTS, Origin, is_of_attributes, is_of_origin, origin_of
from sync_worker.spans.span_model import Attributes, Scope, SharedAttributes
from sync_worker.spans.written_types import WrittenTypes

#: Numbers as JavaScript writes them, without needless zeros.
_AS_JAVASCRIPT = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d*[1-9])?(?:e[+-]?\d+)?\Z")
_JSON_STARTS = frozenset('-0123456789tfn[{"')
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

    scope: Scope | None
    resource: SharedAttributes
    attributes: Attributes
    user: dict[str, Any]


def take_apart(metadata: Mapping[str, Any], version: str | None = None) -> Originals:
    """Split metadata into what it was made of; `version` gives a resource's `service.version` its text back."""
    origin, attributes, user = _parted(metadata, version)
    typed = _typed(origin, attributes) if attributes and origin.keeps_attributes else {}
    return Originals(origin.scope, origin.resource, typed, user)


def own_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user's own keys alone, in the order in which they were written."""
    return _parted(metadata, None)[2]


def _parted(metadata: Mapping[str, Any], version: str | None) -> tuple[Origin, dict[str, Any], dict[str, Any]]:
    """Return where a span came from, its attributes as they came, and the user's own keys."""
    layout = LAYOUTS[tuple(metadata)]
    if layout is None:
        return _parted_by_groups(metadata, version)
    value_of = metadata.__getitem__
    origin = origin_of(layout.origin, tuple(map(value_of, layout.origin)), version)
    user = dict(zip(layout.user, map(value_of, layout.user), strict=True))
    if not layout.attributes:
        return origin, {}, user
    attributes = {name: metadata[key] for name, key in layout.attributes}
    if not origin.keeps_attributes:
        user |= {f"attributes.{name}": value for name, value in attributes.items()}
    return origin, attributes, user


def _parted_by_groups(
    metadata: Mapping[str, Any], version: str | None
) -> tuple[Origin, dict[str, Any], dict[str, Any]]:
    """Return the same for metadata with nested groups."""
    stated: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    user: dict[str, Any] = {}
    for key, value in _in_original_order(metadata):
        if is_of_attributes(key):
            attributes[key[len(ATTRIBUTES) :]] = value
        else:
            (stated if is_of_origin(key) else user)[key] = value
    origin = origin_of(tuple(stated), list(stated.values()), version)
    if not origin.keeps_attributes:
        user |= {
            f"attributes.{name}": _read(value.text) if isinstance(value, _Text) else value
            for name, value in attributes.items()
        }
    return origin, attributes, user


def has_whole_doubles(resource: SharedAttributes) -> bool:
    """Whether a double without a fraction may have been written as one: not by JavaScript."""
    return resource.get("telemetry.sdk.language") not in _JAVASCRIPT


def _typed(origin: Origin, attributes: Mapping[str, Any]) -> Attributes:
    read = {
        name: _read(payload.text) if isinstance(payload, _Text) else payload for name, payload in attributes.items()
    }
    written = WrittenTypes("" if origin.scope is None else origin.scope.name, read)
    doubles = has_whole_doubles(origin.resource)
    typed: Attributes = {}
    for name, payload in attributes.items():
        value = read[name]
        known = written.give_back(name, value)
        if isinstance(payload, _Text) and (isinstance(value, str) or isinstance(known, str)):
            typed[name] = payload.text
        else:
            typed[name] = attribute_value(name, value, doubles=doubles) if known is None else known
    return typed


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
    is_of_otlp = isinstance(value, dict) and (value == EMPTY_ARRAY or value.keys() == {"intValue"})
    return value if is_json and is_of_otlp else text
