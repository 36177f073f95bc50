"""Keeps attribute values and attribute counts within bounds, and says what was cut."""

from __future__ import annotations

import re
from typing import Any

from sync_worker.json_text import dump, parse
from sync_worker.spans.model import Attributes, AttributeValue

#: Attributes whose value is JSON that a reader parses: they are cut inside their texts, so that they stay JSON.
_JSON_MESSAGES = frozenset({"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"})

#: A reference that Langfuse left in place of media or of a field over its own limit; it is never cut in half.
_MEDIA_TOKEN = re.compile(r"@@@langfuseMedia:[^@]{1,512}\Z|@@@langfuseMedia:[^@]{1,512}@{1,2}\Z|@{1,3}\Z")

_MIN_LEAF_BYTES = 64


def mark(size: int) -> str:
    """Return the mark that ends a value cut by this worker; `size` is the original size in bytes."""
    return f" …[cut by the sync worker: {size} bytes in all]"


def cut_text(text: str, limit: int) -> str:
    """Return the text, cut on a character so that it is at most `limit` bytes of UTF-8 with its mark."""
    if len(text) * 4 <= limit:
        return text
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return text
    ending = mark(len(encoded))
    head = encoded[: max(0, limit - len(ending.encode()))].decode("utf-8", "ignore")
    return _MEDIA_TOKEN.sub("", head) + ending


def cut_value(key: str, value: AttributeValue, limit: int) -> AttributeValue:
    """Return the value within `limit` bytes; messages stay JSON, lists are cut item by item."""
    if isinstance(value, str):
        if len(value) * 4 <= limit:
            return value
        cut = cut_text(value, limit)
        return _cut_messages(value, limit) or cut if cut is not value and key in _JSON_MESSAGES else cut
    if isinstance(value, list) and value and isinstance(value[0], str):
        texts = [str(item) for item in value]
        size = sum(len(item.encode("utf-8", "replace")) for item in texts)
        if size > limit:
            return [cut_text(item, max(_MIN_LEAF_BYTES * 2, limit // len(texts))) for item in texts[: limit // 8]]
    return value


def within(attributes: Attributes, *, max_value_bytes: int, max_attributes: int) -> tuple[Attributes, int]:
    """Return the first `max_attributes` attributes with their values cut, and how many were dropped."""
    kept = {
        key: cut_value(key, value, max_value_bytes)
        for _, (key, value) in zip(range(max_attributes), attributes.items(), strict=False)
    }
    return kept, len(attributes) - len(kept)


def _cut_messages(text: str, limit: int) -> str | None:
    is_json, value = parse(text)
    if not is_json:
        return None
    leaf = limit
    while leaf >= _MIN_LEAF_BYTES:
        shorter = dump(_cut_leaves(value, leaf))
        if len(shorter.encode("utf-8", "replace")) <= limit:
            return shorter
        leaf //= 2
    return None


def _cut_leaves(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return cut_text(value, limit)
    if isinstance(value, list):
        return [_cut_leaves(item, limit) for item in value]
    if isinstance(value, dict):
        return {key: _cut_leaves(item, limit) for key, item in value.items()}
    return value
