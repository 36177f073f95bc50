"""Deltas added up: texts joined, lists by the index of their items, objects field by field.

What a delta states beside what can be added is handed back, in `rest`, so that it gets lost nowhere.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from sync_worker.spans.messages.beside import is_beside
from sync_worker.spans.messages.parts import carries

Fields: TypeAlias = dict[str, Any]

#: Where a body that was put together keeps what its chunks stated beside the fields that add up.
REST = "stream_rest"
#: Names that a chunk repeats, or shows once.
_ONCE = frozenset({"role", "id", "type", "name", "index", "object", "model", "created", "call_id"})


class Text(list[str]):
    """Pieces of a text, joined once in the end: adding to a string each time would take the square of its length."""


def add(into: Fields, more: Fields, rest: list[Any]) -> None:
    """Add a delta to what came before: texts are joined, lists by the index of their items, objects field by field."""
    for key, item in more.items():
        if item is None:
            continue
        before = into.get(key)
        if before is None:
            into[key] = begin(item, key, rest)
        elif isinstance(before, Text):
            if isinstance(item, str):
                before.append(item)
            else:
                rest.append({key: item})
        elif isinstance(before, dict) and isinstance(item, dict):
            add(before, item, rest)
        elif isinstance(before, list) and isinstance(item, list):
            _add_items(before, item, rest)
        elif before != item and not (key in _ONCE and is_beside(key, item)):
            rest.append({key: item})


def begin(item: Any, key: str, rest: list[Any]) -> Any:
    """Return what later deltas of a field are added to."""
    if isinstance(item, str) and key not in _ONCE:
        return Text([item])
    if isinstance(item, dict):
        begun: Fields = {}
        add(begun, item, rest)
        return begun
    if isinstance(item, list):
        items: list[Any] = []
        _add_items(items, item, rest)
        return items
    return item


def _add_items(before: list[Any], more: list[Any], rest: list[Any]) -> None:
    for item in more:
        same = _of_index(before, item.get("index")) if isinstance(item, dict) else None
        if same is None:
            before.append(begin(item, "", rest) if isinstance(item, dict) else item)
        else:
            add(same, item, rest)


def _of_index(items: list[Any], index: object) -> Fields | None:
    """Return the item of an index: it stands there, or is one of the last; a search in all would be a square."""
    if not isinstance(index, int):
        return None
    near = [*items[index : index + 1], *items[-_NEAR:]] if index >= 0 else items[-_NEAR:]
    return next((item for item in near if isinstance(item, dict) and item.get("index") == index), None)


#: So many calls at once, numbered from anywhere, are distinguished.
_NEAR = 32


def final(value: Any) -> Any:
    """Return a value with its texts joined."""
    if isinstance(value, Text):
        return "".join(value)
    if isinstance(value, dict):
        return {key: final(item) for key, item in value.items()}
    return [final(item) for item in value] if isinstance(value, list) else value


def keep(body: Fields, fields: Fields, rest: list[Any]) -> None:
    """Keep fields that each chunk repeats: labels and counts of the last, anything else once."""
    for key, item in fields.items():
        if not carries(item) or body.get(key) == item:
            continue
        if key not in body or is_beside(key, item):
            body[key] = item
        else:
            rest.append({key: item})


def finished(body: Fields, rest: list[Any]) -> Fields:
    """Return a body with what did not add up."""
    return {**body, REST: rest} if rest else body
