"""Keeps attribute values and attribute counts within bounds, and states what was cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from sync_worker.json_text import dump, parse, utf8
from sync_worker.spans.span_model import Attributes, AttributeValue

#: Attributes whose value is JSON that a reader parses: they are cut inside their texts, so that they stay JSON.
_JSON_MESSAGES = frozenset({"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"})

#: A reference that Langfuse left in place of media or of a field over its own limit; it is never cut in half.
_MEDIA_TOKEN = re.compile(r"@@@langfuseMedia:[^@]{1,512}@@@")
_MAX_TOKEN_LENGTH = 1024  # characters; more than any token takes

_MIN_LEAF_BYTES = 64
#: Bytes after which the name of an attribute is cut, whatever a value may take.
MAX_KEY_BYTES = 1024


def mark(size: int) -> str:
    """Return the mark that ends a value cut by this worker; `size` is the original size in bytes."""
    return f" …[cut by the sync worker: {size} bytes in all]"


def cut_text(text: str, limit: int) -> str:
    """Return the text, cut on a character so that it is at most `limit` bytes of UTF-8 with its mark."""
    if len(text) * 4 <= limit:
        return text
    text = utf8(text)
    encoded = text.encode()
    return text if len(encoded) <= limit else _head(text, encoded, limit, mark(len(encoded)))


def cut_value(key: str, value: AttributeValue, limit: int) -> AttributeValue:
    """Return the value within `limit` bytes; messages stay JSON, lists lose their end."""
    if isinstance(value, str):
        cut = cut_text(value, limit)
        return _cut_messages(value, limit) or cut if cut is not value and key in _JSON_MESSAGES else cut
    if isinstance(value, list) and value and isinstance(value[0], str):
        texts = [utf8(str(item)) for item in value]
        size = sum(len(item.encode()) for item in texts)
        return _cut_list(texts, limit, mark(size)) if size > limit else value
    return value


def within(attributes: Attributes, *, max_value_bytes: int, max_attributes: int) -> tuple[Attributes, int]:
    """Return the first `max_attributes` attributes with names and values cut, and how many were dropped."""
    short, short_key = max_value_bytes // 4, MAX_KEY_BYTES // 4  # characters that need no cut, whichever they are
    kept = attributes if len(attributes) <= max_attributes else dict(islice(attributes.items(), max_attributes))
    long = [
        key
        for key, value in kept.items()
        if (len(value) > short if isinstance(value, str) else isinstance(value, list) and _is_long(value, short))
    ]
    if long:
        kept = dict(kept)
    for key in long:
        kept[key] = cut_value(key, kept[key], max_value_bytes)
    if max(map(len, kept), default=0) > short_key:
        kept = {cut_text(key, MAX_KEY_BYTES): value for key, value in kept.items()}
    return kept, len(attributes) - len(kept)


def _is_long(values: list[str] | list[bool] | list[int] | list[float], short: int) -> bool:
    """Whether a list is one of texts that have more than so many characters."""
    return bool(values) and isinstance(values[0], str) and sum([len(str(item)) for item in values]) > short


def _head(text: str, encoded: bytes, limit: int, ending: str) -> str:
    """Return the beginning of a text with an ending, in `limit` bytes; a token on the cut is left out as a whole."""
    head = encoded[: max(0, limit - len(ending.encode()))].decode("utf-8", "ignore")
    around = max(0, len(head) - _MAX_TOKEN_LENGTH)
    for token in _MEDIA_TOKEN.finditer(text, around, len(head) + _MAX_TOKEN_LENGTH):
        if token.start() < len(head) < token.end():
            return head[: token.start()] + ending
    return head + ending


def _cut_list(texts: list[str], limit: int, ending: str) -> list[str]:
    kept: list[str] = []
    left = limit - len(ending.encode())
    for text in texts:
        encoded = text.encode()
        if len(encoded) > left:
            return [*kept, _head(text, encoded, max(0, left) + len(ending.encode()), ending)]
        kept.append(text)
        left -= len(encoded)
    return kept


def _cut_messages(text: str, limit: int) -> str | None:
    is_json, value = parse(text, deep=True)
    if not is_json:
        return None
    size = len(utf8(text).encode())
    try:
        for leaf in _leaf_sizes(value, limit):
            shorter = dump(_cut_leaves(value, leaf))
            if len(shorter.encode()) <= limit:
                return shorter
        return _last_of(value, limit, size) if isinstance(value, list) else None
    except RecursionError:  # nested deeper than Python follows
        return _last_of([], limit, size) if isinstance(value, list) else None


def _leaf_sizes(value: Any, limit: int) -> Iterator[int]:
    """Yield sizes, halved each time, that may make a value fit when its texts are cut to them.

    To cut a text takes no more than it holds beyond the mark: sizes with which that is too little are passed over, so
    that a conversation of many short messages is not written again for each of them.
    """
    whole = len(dump(value).encode())
    leaves = sorted((len(utf8(text).encode()), len(dump(text).encode())) for text in _long_texts(value))
    mark_size = len(mark(0).encode())
    saved = 0  # at most, by cutting the leaves that are longer than the size
    leaf = limit
    while leaf >= _MIN_LEAF_BYTES:
        while leaves and leaves[-1][0] > leaf:
            saved += leaves.pop()[1] - mark_size
        if whole - saved <= limit:
            yield leaf
        leaf //= 2


def _long_texts(value: Any) -> Iterator[str]:
    """Yield the texts that are long enough to be cut, wherever they stand."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            if len(item) * 4 > _MIN_LEAF_BYTES:
                yield item
        elif isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _last_of(items: list[Any], limit: int, size: int) -> str:
    """Return the last messages that fit beside the mark, for a conversation too long to be cut inside its texts."""
    payload: dict[str, Any] = {"type": "text", "content": mark(size).strip()}
    is_message = bool(items) and isinstance(items[0], dict) and "role" in items[0]
    note = dump({"role": "system", "parts": [payload]} if is_message else payload)
    left = limit - len(note.encode()) - len("[]")
    kept: list[str] = []
    for item in reversed(items):
        shorter = dump(_cut_leaves(item, _MIN_LEAF_BYTES))
        left -= len(shorter.encode()) + len(",")
        if left < 0:
            break
        kept.append(shorter)
    return f"[{','.join([note, *reversed(kept)])}]"


def _cut_leaves(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return cut_text(value, limit)
    if isinstance(value, list):
        return [_cut_leaves(item, limit) for item in value]
    if isinstance(value, dict):
        return {key: _cut_leaves(item, limit) for key, item in value.items()}
    return value
