"""Messages that stand in the row themselves: without `input.value` Langfuse makes its input of `llm.input_messages.*`.

It makes objects of the dotted keys, and lists where a part is a number (`convertKeyPathToNestedObject`).
"""

from __future__ import annotations

from typing import Any

from sync_worker.json_text import parse
from sync_worker.spans.vocabularies.openinference.writing import Pairs


def unread(text: str | None) -> list[Any] | None:
    """Return the messages that an input or output consists of; none where it was something else."""
    is_json, value = parse(text) if text and text.startswith('[{"message":{') else (False, None)
    if not is_json or not isinstance(value, list):
        return None
    return (
        value
        if all(item is None or (isinstance(item, dict) and item.keys() == {"message"}) for item in value)
        else None
    )


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
