"""JSON text in and out, for text that strangers wrote: neither direction raises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson

#: JSON strings, of which white space is a part.
_STRINGS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SPACE = re.compile(r"\s")


def parse(text: str | bytes) -> tuple[bool, Any]:
    """Return whether the text is JSON, and its value.

    msgspec refuses lone surrogates and NaN, and follows no deep nesting; the standard library reads some of it.
    """
    is_json, value = parse_strictly(text)
    if is_json:
        return True, value
    try:
        return True, json.loads(text)
    except (ValueError, RecursionError):
        return False, None


def parse_strictly(text: str | bytes) -> tuple[bool, Any]:
    """Return the same for text that can be written again as valid JSON with the same numbers; other text is none."""
    try:
        return True, msgspec.json.decode(text)
    except (ValueError, RecursionError):  # of ValueError are its own error and that of lone surrogates
        return False, None


def is_compact(text: str) -> bool:
    """Whether JSON text has no white space around its parts; Python's `json` writes some, JavaScript's does not."""
    return _SPACE.search(_STRINGS.sub("", text)) is None


def dump(value: object) -> str:
    """Return compact JSON text.

    Lone surrogates become U+FFFD, numbers that JSON lacks become null, and keys that are no strings become strings.
    """
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError, RecursionError):  # integers over 64 bits, surrogates, odd keys, deep nesting
        return "".join(_written(value)).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _written(value: object) -> Iterator[str]:
    """Write any value with a stack of its own, so that no depth is too deep."""
    stack: list[Iterator[tuple[str, object]]] = [iter([("", value)])]
    closers = [""]
    above: dict[int, None] = {}  # containers that are open, by identity and in order: a cycle must end
    while stack:
        following = next(stack[-1], None)
        if following is None:
            stack.pop()
            yield closers.pop()
            if above:
                above.popitem()
            continue
        lead, item = following
        yield lead
        if isinstance(item, dict | list | tuple) and id(item) not in above:
            above[id(item)] = None
            opener, closer, entries = _entries(item)
            yield opener
            stack.append(entries)
            closers.append(closer)
        else:
            yield _scalar(item)


def _entries(
    item: dict[Any, Any] | list[Any] | tuple[Any, ...],
) -> tuple[str, str, Iterator[tuple[str, object]]]:
    if isinstance(item, dict):
        pairs = ((("," if i else "") + _key(key) + ":", v) for i, (key, v) in enumerate(item.items()))
        return "{", "}", pairs
    return "[", "]", (("," if i else "", v) for i, v in enumerate(item))


def _key(key: object) -> str:
    if isinstance(key, str):
        return json.dumps(key, ensure_ascii=False)
    return json.dumps(json.dumps(key) if key is None or isinstance(key, bool) else str(key), ensure_ascii=False)


def _scalar(item: object) -> str:
    if item is None or isinstance(item, bool):
        return json.dumps(item)
    if isinstance(item, int):
        return _integer(item)
    if isinstance(item, float):
        return repr(item) if item - item == 0 else "null"  # the difference of NaN or infinity is NaN
    return json.dumps(item if isinstance(item, str) else str(item), ensure_ascii=False)


def _integer(item: int) -> str:
    try:
        return str(int(item))
    except ValueError:  # more digits than Python agrees to write
        return f'"{item:#x}"'
