"""JSON text in and out, for text that strangers wrote: neither direction raises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson

#: Nested deeper than this, JSON counts as text: what works on parsed values may go into them step by step.
MAX_DEPTH = 100

#: Of an answer, what nests deeper than this is not even read: each open bracket takes memory.
_MOST_NESTED = 10_000
_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
#: Digits of an integer that Python agrees to read; a longer one stays text.
_MAX_DIGITS = 4_300
_CONTAINERS = (dict, list)
_SCALAR = re.compile(r"true|false|null|NaN|-?Infinity|(-?\d+)(\.\d+)?([eE][-+]?\d+)?")
_WORDS = {"true": True, "false": False, "null": None}
_BLANK = re.compile(r"[ \t\n\r]*")

#: JSON strings, of which white space is a part, and what else stands before the first white space.
_WITHOUT_SPACE = re.compile(r'(?:[^\s"]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+', re.DOTALL)
_SPACE = re.compile(r"\s")

_PARENTHESES = bytes.maketrans(b"[]{}", b"()()")
_NEITHER_BRACKET_NOR_QUOTE = bytes(set(range(256)) - set(b'[]{}"'))
_QUOTED = re.compile(rb'"[^"]*"')


def parse(text: str | bytes, *, deep: bool = False) -> tuple[bool, Any]:
    """Return whether the text is JSON that nests no deeper than MAX_DEPTH, and its value.

    With `deep`, as deep as Python follows. msgspec refuses lone surrogates and NaN; the standard library reads them.
    """
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError):  # of ValueError are its own error and that of lone surrogates
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return False, None
    return (True, value) if deep else _unless_deep(text, value)


def parse_answer(content: bytes) -> tuple[bool, Any]:
    """Return whether a server's answer is JSON, and its value; of its own oddities it passes all that can be read."""
    is_valid, value = parse_valid(content)
    return (True, value) if is_valid else parse_odd(content)


def parse_valid(content: bytes) -> tuple[bool, Any]:
    """Return whether a server's answer is valid JSON, and its value: no text in it holds half a surrogate pair."""
    try:
        return True, msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return False, None


def parse_odd(content: bytes) -> tuple[bool, Any]:
    """Return the same for an answer with oddities, as far as it can be read.

    Bytes that are no UTF-8 become lone surrogates (`surrogateescape`), control characters and NaN stay, an integer of
    more digits than Python reads becomes text, and so does what nests deeper than any row has a use for.
    """
    text = content.decode("utf-8", "surrogateescape")
    try:
        return True, _LENIENT.decode(text)
    except ValueError:
        return False, None
    except RecursionError:
        pass
    try:
        return True, _nested(text)
    except ValueError:
        return False, None


def parse_strictly(text: str | bytes) -> tuple[bool, Any]:
    """Return the same for text that can be written again as valid JSON with the same numbers; other text is none."""
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False, None
    return _unless_deep(text, value)


def is_deep(value: object) -> bool:
    """Whether a value nests deeper than MAX_DEPTH; found level by level, so that no depth is too deep."""
    level = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return False
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, _CONTAINERS)
        ]
    return bool(level)


def utf8(text: str) -> str:
    """Return the text with lone surrogates, which UTF-8 cannot hold, replaced."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def has_surrogates(value: object) -> bool:
    """Whether a text in a JSON value holds half a surrogate pair, which UTF-8 cannot hold."""
    try:
        orjson.dumps(value)
    except (TypeError, ValueError, RecursionError):  # integers over 64 bits too
        try:
            "".join(_written(value)).encode()
        except UnicodeEncodeError:
            return True
    return False


def is_compact(text: str) -> bool:
    """Whether JSON text has no white space around its parts; Python's `json` writes some, JavaScript's does not."""
    found = _WITHOUT_SPACE.match(text)
    return found is not None and _SPACE.search(text, found.end()) is None  # a quote may be open at that end


def dump(value: object) -> str:
    """Return compact JSON text.

    Lone surrogates become U+FFFD, numbers that JSON lacks become null, and keys that are no strings become strings.
    """
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError, RecursionError):  # integers over 64 bits, surrogates, odd keys, deep nesting
        return utf8("".join(_written(value)))


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


def _unless_deep(text: str | bytes, value: Any) -> tuple[bool, Any]:
    """Return a parsed value, or none where it nests too deep; few brackets cannot."""
    opened = text.count(b"[") + text.count(b"{") if isinstance(text, bytes) else text.count("[") + text.count("{")
    return (False, None) if opened > MAX_DEPTH and is_deep_text(text) else (True, value)


def is_deep_text(text: str | bytes) -> bool:
    """Whether JSON text nests deeper than MAX_DEPTH: many times as fast as a walk over the values.

    Of its letters only brackets and quotes are kept. Two quotes that meet are an empty string, or the border of two
    strings: without them, what stands between quotes still does.
    """
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = data.translate(_PARENTHESES, _NEITHER_BRACKET_NOR_QUOTE).replace(b'""', b"")
    if b'"' in brackets:
        brackets = _QUOTED.sub(b"", brackets)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return False
        brackets = brackets.replace(b"()", b"")  # the innermost level
    return bool(brackets)


def _read_integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


_LENIENT = json.JSONDecoder(strict=False, parse_int=_read_integer)


def _nested(text: str) -> Any:
    """Read JSON with a stack of its own, down to _MOST_NESTED. Raises ValueError when it is none."""
    open_: list[Any] = []
    keys: list[str] = []  # of each open object, the key whose value is read
    at = _skip(text, 0)
    while True:
        opener = text[at : at + 1]
        value: Any
        if opener in ("{", "[") and len(open_) >= _MOST_NESTED:
            end = _end_of(text, at)
            value, at = text[at:end], end
        elif opener in ("{", "["):
            inside = _skip(text, at + 1)
            if text[inside : inside + 1] != ("}" if opener == "{" else "]"):
                open_.append({} if opener == "{" else [])
                at = inside
                if opener == "{":
                    key, at = _read_key(text, at)
                    keys.append(key)
                continue
            value, at = ({} if opener == "{" else []), inside + 1
        else:
            value, at = _read_scalar(text, at)
        while open_:  # hand the value to what holds it, and that one on when it ends
            at = _skip(text, at)
            holder, mark = open_[-1], text[at : at + 1]
            if isinstance(holder, dict):
                holder[keys[-1]] = value
            else:
                holder.append(value)
            if mark == ",":
                at = _skip(text, at + 1)
                if isinstance(holder, dict):
                    keys[-1], at = _read_key(text, at)
                break
            if mark != ("}" if isinstance(holder, dict) else "]"):
                raise ValueError(f"no JSON at character {at}")
            value, at = open_.pop(), at + 1
            if isinstance(value, dict):
                keys.pop()
        else:
            if _skip(text, at) != len(text):
                raise ValueError("something follows the JSON")
            return value


def _end_of(text: str, at: int) -> int:
    """Return where what opens at a place is closed again."""
    level = 0
    for found in _BRACKETS.finditer(text, at):
        if found[0] in ("[", "{"):
            level += 1
        elif found[0] in ("]", "}"):
            level -= 1
            if level == 0:
                return found.end()
    raise ValueError(f"what opens at character {at} is not closed")


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return at if found is None else found.end()


def _read_key(text: str, at: int) -> tuple[str, int]:
    if text[at : at + 1] != '"':
        raise ValueError(f"no key at character {at}")
    key, at = _scan(text, at + 1)
    at = _skip(text, at)
    if text[at : at + 1] != ":":
        raise ValueError(f"no colon at character {at}")
    return key, _skip(text, at + 1)


def _scan(text: str, at: int) -> tuple[str, int]:
    """Read a string behind its quote, control characters and all, and return where it ends."""
    found: tuple[str, int] = _LENIENT.parse_string(text, at, False)  # type: ignore[attr-defined]  # noqa: FBT003
    return found


def _read_scalar(text: str, at: int) -> tuple[Any, int]:
    if text[at : at + 1] == '"':
        return _scan(text, at + 1)
    found = _SCALAR.match(text, at)
    if found is None:
        raise ValueError(f"no value at character {at}")
    whole, fraction, exponent = found.groups()
    if whole is None:
        return (_WORDS[found[0]] if found[0] in _WORDS else float(found[0])), found.end()
    if fraction or exponent:
        return float(found[0]), found.end()
    return _read_integer(whole), found.end()
