"""Messages that are the input itself: without `input.value` Langfuse makes it of `llm.input_messages.*`.

It makes objects of the dotted keys, and lists where a part is a number (`convertKeyPathToNestedObject`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sync_worker.json_text import parse
from sync_worker.spans.conventions.openinference.writing import Pairs
from sync_worker.spans.span_model import AttributeValue

_KEYS = frozenset({"message", "thought", "function"})
_SCATTERED = re.compile(r"input\.value\.(\d{1,6})\.(role|content)\Z")


def unread(text: str | None) -> list[Any] | None:
    """Return the messages that an input or output consists of; none where it was something else."""
    is_json, value = parse(text) if text and text.startswith('[{"message":{') else (False, None)
    if not is_json or not isinstance(value, list):
        return None
    return value if all(item is None or _is_message(item) for item in value) else None


def _is_message(item: Any) -> bool:
    """Whether an item is a message; AutoGen writes some keys beside it (`thought`, `function`)."""
    return isinstance(item, dict) and isinstance(item.get("message"), dict) and item.keys() <= _KEYS


def scattered(attributes: Mapping[str, AttributeValue]) -> Pairs:
    """Yield the messages that Instructor's instrumentation wrote into its input as well, each field under a key.

    Langfuse takes none of `input.value.0.role` for an input (openinference-instrumentation-instructor 0.1.14).
    """
    for key, value in attributes.items():
        found = _SCATTERED.match(key)
        if found is not None:
            yield f"{found[1]}.message.{found[2]}", value


def pairs(messages: list[Any]) -> Pairs:
    """Yield the dotted keys of messages with their values."""
    pending: list[tuple[str, Any]] = [(str(at), item) for at, item in reversed(list(enumerate(messages)))]
    while pending:
        key, value = pending.pop()
        if isinstance(value, dict):
            pending.extend((f"{key}.{name}", item) for name, item in reversed(value.items()))
        elif isinstance(value, list):
            pending.extend((f"{key}.{at}", item) for at, item in reversed(list(enumerate(value))))
        elif value is not None:
            yield key, value
