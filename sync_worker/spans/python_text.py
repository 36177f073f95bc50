"""Values that Python wrote as text: `str()` of a dict, and `repr()` of dataclasses and of pydantic's models.

Frameworks put such text where JSON was meant: LangChain a tool's input (`{'path': 'a.md', 'draft': True}`) and output
(`content='done' name='write' tool_call_id='call_7'`), LlamaIndex and smolagents their messages
(`ChatMessage(role=<MessageRole.USER: 'user'>, content='hi')`). It is read in one pass; nothing of it is run.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from sync_worker.json_text import MAX_DEPTH

_STRING = re.compile(r"'[^'\\]*(?:\\.[^'\\]*)*'|\"[^\"\\]*(?:\\.[^\"\\]*)*\"", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(\n)|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}
_NUMBER = re.compile(r"-?(?:\d{1,4300}(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+)(?![\w.])")
_NAME = re.compile(r"[A-Za-z_][\w.]*")
_KEY = re.compile(r"\s*([A-Za-z_]\w*)=")
_BLANK = re.compile(r"[ \t\r\n]*")
#: An enum's member (`<Role.USER: 'user'>`), of which the value counts.
_MEMBER = re.compile(r"<[A-Za-z_][\w.]*: ")
#: What can stand within an object that is shown in a way of its own, `<Node object at 0x7f>` or `date(2026, 1, 2)`.
_PIECE = re.compile(r"[^'\"()\[\]{}<>]+")
_CLOSERS = {"(": ")", "[": "]", "{": "}", "<": ">"}
_WORDS: dict[str, Any] = {"True": True, "False": False, "None": None, "nan": None, "inf": None}
_NO_TEXT = "not a value that Python wrote"


class Record(dict[str, Any]):
    """An object by its fields, and `kind`, the name of its class: "" where the text has none."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind


class Shown(str):
    """The text of an object that shows no fields, such as `datetime.date(2026, 1, 2)`."""

    __slots__ = ()


def read(text: str) -> tuple[bool, Any]:
    """Return whether a text is a container or an object as Python shows it, and its value.

    Tuples and sets are lists, members of an enum their values. A string, a number or a word alone is plain text.
    """
    at = _skip(text, 0)
    if text[at : at + 1] not in {"{", "[", "("} and not _NAME.match(text, at):
        return False, None
    reader = _Reader(text)
    try:
        value, end = reader.fields(at) if _KEY.match(text, at) else reader.value(at, 0)
    except ValueError:
        return False, None
    return _skip(text, end) == len(text) and isinstance(value, dict | list), value


class _Reader:
    """Reads values out of one text: each method takes where one begins, and returns it and where it ends."""

    __slots__ = ("_text",)

    _OPENERS: ClassVar[dict[str, str]] = {"{": "}", "[": "]", "(": ")"}

    def __init__(self, text: str) -> None:
        self._text = text

    def value(self, at: int, depth: int) -> tuple[Any, int]:
        """Read any value. Raises ValueError."""
        text = self._text
        at = _skip(text, at)
        first = text[at : at + 1]
        if first in {"'", '"'}:
            return self._string(at)
        if depth >= MAX_DEPTH:
            raise ValueError(_NO_TEXT)
        if first in self._OPENERS:
            return self._container(at, depth)
        if first == "<":
            return self._member(at, depth)
        number = _NUMBER.match(text, at)
        if number is not None:
            return _number(number[0]), number.end()
        name = _NAME.match(text, at)
        if name is None:
            raise ValueError(_NO_TEXT)
        end = name.end()
        if text[end : end + 1] == "(":
            return self._object(name[0], end, depth)
        if name[0] in _WORDS:
            return _WORDS[name[0]], end
        if name[0] in {"b", "B"} and text[end : end + 1] in {"'", '"'}:
            end = self._end_of_string(end)
            return Shown(text[at:end]), end
        raise ValueError(_NO_TEXT)

    def fields(self, at: int) -> tuple[Record, int]:
        """Read what `str()` makes of a pydantic model: fields with blanks between them. Raises ValueError."""
        found = Record("")
        while (key := _KEY.match(self._text, at)) is not None:
            found[key[1]], at = self.value(key.end(), 1)
        return found, at

    def _string(self, at: int) -> tuple[str, int]:
        end = self._end_of_string(at)
        body = self._text[at + 1 : end - 1]
        return (_ESCAPE.sub(_unescaped, body) if "\\" in body else body), end

    def _end_of_string(self, at: int) -> int:
        found = _STRING.match(self._text, at)
        if found is None:
            raise ValueError(_NO_TEXT)
        return found.end()

    def _container(self, at: int, depth: int) -> tuple[Any, int]:
        """Read a dict, list, tuple or set."""
        text = self._text
        closer, at = self._OPENERS[text[at]], _skip(text, at + 1)
        items: list[Any] = []
        pairs: dict[Any, Any] = {}
        while text[at : at + 1] != closer:
            item, at = self.value(at, depth + 1)
            at = _skip(text, at)
            if closer == "}" and not items and text[at : at + 1] == ":":
                stated, at = self.value(at + 1, depth + 1)
                pairs[item if isinstance(item, str) else str(item)] = stated
                at = _skip(text, at)
            elif pairs:
                raise ValueError(_NO_TEXT)
            else:
                items.append(item)
            at = self._next(at, closer)
        return (pairs if closer == "}" and not items else items), at + 1

    def _object(self, name: str, at: int, depth: int) -> tuple[Any, int]:
        """Read `Name(field=value, …)`; `UUID('…')` is the text in it, any other the text that shows it."""
        text = self._text
        start, found = at, Record(name.rpartition(".")[2])
        at = _skip(text, at + 1)
        alone = _STRING.match(text, at)
        if alone is not None and text[alone.end() : alone.end() + 1] == ")":
            return self._string(at)[0], alone.end() + 1
        while text[at : at + 1] != ")":
            key = _KEY.match(text, at)
            if key is None:
                end = self._closed(start)
                return Shown(text[start - len(name) : end]), end
            found[key[1]], at = self.value(key.end(), depth + 1)
            at = self._next(_skip(text, at), ")")
        return found, at + 1

    def _member(self, at: int, depth: int) -> tuple[Any, int]:
        """Read `<Role.USER: 'user'>` as its value, and other objects in such brackets as their text."""
        named = _MEMBER.match(self._text, at)
        if named is not None:
            value, end = self.value(named.end(), depth + 1)
            if self._text[end : end + 1] == ">":
                return value, end + 1
        end = self._closed(at)
        return Shown(self._text[at:end]), end

    def _next(self, at: int, closer: str) -> int:
        """Return where the next item begins, or the closer stands. Raises ValueError."""
        if self._text[at : at + 1] == ",":
            return _skip(self._text, at + 1)
        if self._text[at : at + 1] != closer:
            raise ValueError(_NO_TEXT)
        return at

    def _closed(self, at: int) -> int:
        """Return where what opens at a place has been closed. Raises ValueError."""
        text, open_ = self._text, list[str]()
        while at < len(text):
            first = text[at]
            if first in {"'", '"'}:
                at = self._end_of_string(at)
                continue
            piece = _PIECE.match(text, at)
            if piece is not None:
                at = piece.end()
                continue
            if first in _CLOSERS:
                open_.append(_CLOSERS[first])
            elif open_ and first == open_[-1]:
                open_.pop()
            else:
                break
            at += 1
            if not open_:
                return at
        raise ValueError(_NO_TEXT)


def _unescaped(found: re.Match[str]) -> str:
    digits = found[1] or found[2] or found[3]
    if digits:
        number = int(digits, 16)
        return chr(number) if number <= 0x10FFFF else found[0]
    if found[4]:
        return ""
    return _ESCAPED.get(found[5], found[5] if found[5] in "\\'\"" else found[0])


def _number(digits: str) -> int | float:
    return float(digits) if any(mark in digits for mark in ".eE") else int(digits)


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return at if found is None else found.end()
