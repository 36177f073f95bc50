"""Where spans came from: their resource and scope, which observations by the thousand share.

An observation's metadata shows them key by key. Which keys are whose follows from the keys alone, and their values are
the same for all spans of a process: both are remembered, within bytes, and nothing that is shared can be changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from sys import getsizeof
from typing import Any

from sync_worker.spans.attribute_values import attribute_value, text_of
from sync_worker.spans.memo import Memo
from sync_worker.spans.span_model import Attributes, Scope, SharedAttributes, shared

#: What keys of metadata begin with that were attributes of the span, its resource and its scope.
ATTRIBUTES, _RESOURCE, _SCOPE_ATTRIBUTES = "attributes.", "resourceAttributes.", "scope.attributes."
_SCOPE_NAME, _SCOPE_VERSION = "scope.name", "scope.version"
_SERVICE_VERSION = _RESOURCE + "service.version"
_GROUPS = frozenset(
    {"scope", "resourceAttributes", "attributes"}
)  # objects that hold the same, in other APIs' metadata

_LAYOUTS_BYTES, _ORIGINS_BYTES = 1024 * 1024, 1024 * 1024  # that those remembered may take
_ENTRY = 400  # bytes of an entry of either, beside its texts
_SLOT = 80  # bytes of one key, beside its text, in all places where it stands


@dataclass(frozen=True, slots=True)
class Layout:
    """Which keys of metadata are whose, in the order in which they were written; of attributes, name and key."""

    origin: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]
    user: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a span came from. `scope` is None when its observation did not come over OTLP.

    `keeps_attributes`: whether Langfuse keeps attributes of such a span; of its own SDK's it does not, and the keys are
    the user's.
    """

    scope: Scope | None
    resource: SharedAttributes
    keeps_attributes: bool


def is_of_attributes(key: str) -> bool:
    """Whether a key of metadata was an attribute of the span."""
    return key.startswith(ATTRIBUTES) and key != ATTRIBUTES


def is_of_origin(key: str) -> bool:
    """Whether a key of metadata shows the span's resource or scope."""
    return (
        (key.startswith(_RESOURCE) and key != _RESOURCE)
        or key in {_SCOPE_NAME, _SCOPE_VERSION}
        or key.startswith(_SCOPE_ATTRIBUTES)
    )


def _layout_of(keys: tuple[str, ...]) -> Layout | None:
    """Return the layout of metadata with these keys, which stand in reverse order; None where one may be a group."""
    if not _GROUPS.isdisjoint(keys):
        return None
    origin, attributes, user = list[str](), list[tuple[str, str]](), list[str]()
    for key in reversed(keys):
        if is_of_attributes(key):
            attributes.append((key[len(ATTRIBUTES) :], key))
        else:
            (origin if is_of_origin(key) else user).append(key)
    return Layout(tuple(origin), tuple(attributes), tuple(user))


def _weigh_layout(keys: tuple[str, ...], _layout: Layout | None) -> int:
    return _ENTRY + sum([2 * getsizeof(key) + _SLOT for key in keys])


#: Layouts by the keys of flat metadata, as they come.
LAYOUTS: Memo[tuple[str, ...], Layout | None] = Memo(_layout_of, _weigh_layout, _LAYOUTS_BYTES)

#: Keys, what stands under them, and the observation's version where it matters.
_Stated = tuple[tuple[str, ...], tuple[Any, ...], str | None]


def origin_of(keys: tuple[str, ...], values: Sequence[Any], version: str | None) -> Origin:
    """Return the origin that metadata shows under these keys; `version` gives `service.version` its text back."""
    version = version if version is not None and _SERVICE_VERSION in keys else None
    stated = _hashable(values)
    return _read_origin(keys, values, version) if stated is None else _ORIGINS[keys, stated, version]


def _hashable(values: Sequence[Any]) -> tuple[Any, ...] | None:
    """Return values as what distinguishes them, 1 from 1.0 and from true; None where one is an object or nested list.

    Texts stand for themselves, others with their type: `_plain` gives them back.
    """
    stated = tuple(values)
    kinds = set(map(type, stated))
    if kinds <= _TEXT_ALONE:
        return stated
    if not kinds <= _SCALARS_AND_LISTS:
        return None
    if any(type(value) is list and not set(map(type, value)) <= _SCALARS for value in stated):
        return None
    return tuple([value if type(value) is str else _with_type(value) for value in stated])


_TEXT_ALONE = frozenset({str})
_SCALARS = frozenset({str, int, float, bool, type(None)})
_SCALARS_AND_LISTS = _SCALARS | {list}


def _with_type(value: Any) -> tuple[type, Any]:
    if type(value) is list:
        return list, tuple(map(_with_type, value))
    return type(value), value.hex() if type(value) is float else value  # 0.0 equals -0.0, and NaN nothing


def _plain(value: Any) -> Any:
    if type(value) is str:
        return value
    kind, stated = value
    if kind is list:
        return list(map(_plain, stated))
    return float.fromhex(stated) if kind is float else stated


def _remembered(stated: _Stated) -> Origin:
    keys, values, version = stated
    return _read_origin(keys, [_plain(value) for value in values], version)


def _read_origin(keys: Sequence[str], values: Sequence[Any], version: str | None) -> Origin:
    resource: Attributes = {}
    scope_name, scope_version = "", ""
    scope_attributes: Attributes = {}
    for key, value in zip(keys, values, strict=True):
        if key.startswith(_RESOURCE):
            name = key[len(_RESOURCE) :]
            resource[name] = attribute_value(name, value)
        elif key == _SCOPE_NAME:
            scope_name = text_of(value)
        elif key == _SCOPE_VERSION:
            scope_version = text_of(value)
        else:
            name = key[len(_SCOPE_ATTRIBUTES) :]
            scope_attributes[name] = attribute_value(name, value)
    stated = resource.get("service.version")
    if stated is not None and version and _same_number(str(stated), version):
        resource["service.version"] = version
    scope = Scope(scope_name, scope_version, shared(scope_attributes)) if scope_name else None
    keeps_attributes = bool(resource) if scope is None else not scope.name.startswith("langfuse-sdk")
    return Origin(scope, shared(resource), keeps_attributes)


def _weigh_origin(stated: _Stated, _origin: Origin) -> int:
    keys, values, version = stated
    texts = sum([_SLOT + 2 * getsizeof(key) + _weigh_value(value) for key, value in zip(keys, values, strict=True)])
    return _ENTRY + texts + getsizeof(version)


def _weigh_value(value: Any) -> int:
    """Return the bytes of a value as it is remembered, and as it is in the origin."""
    items = sum([_weigh_value(item) for item in value]) if isinstance(value, tuple) else 0
    return 2 * getsizeof(value) + items


def _same_number(left: str, right: str) -> bool:
    try:
        return float(left) == float(right)
    except ValueError:
        return False


_ORIGINS: Memo[_Stated, Origin] = Memo(_remembered, _weigh_origin, _ORIGINS_BYTES)
