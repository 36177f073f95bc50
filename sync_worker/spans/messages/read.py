"""From an observation's text to a conversation."""

from __future__ import annotations

from typing import Any

from sync_worker.json_text import parse
from sync_worker.spans.messages.bodies import read_body
from sync_worker.spans.messages.conversation import Conversation, Draft, Message
from sync_worker.spans.messages.lists import read_list
from sync_worker.spans.messages.parts import text_part


def read_input(text: str | None) -> Conversation | None:
    """Return what a model was given, or None where there is nothing."""
    if not text:
        return None
    draft, recognised = _read(text, "user")
    opening = _opening(draft.messages)
    said = [part for message in draft.messages[:opening] for part in message["parts"]]
    return Conversation(draft.messages[opening:], draft.system + said, draft.tools or None, [], recognised)


def read_output(text: str | None) -> Conversation | None:
    """Return what a model answered, or None where there is nothing."""
    if not text:
        return None
    draft, recognised = _read(text, "assistant")
    reasons = [message["finish_reason"] for message in draft.messages if "finish_reason" in message]
    return Conversation(draft.messages, draft.system, draft.tools or None, reasons, recognised)


def _read(text: str, role: str) -> tuple[Draft, bool]:
    whole = Draft(messages=[{"role": role, "parts": [text_part(text)]}])
    if not _looks_structured(text):
        return whole, True
    is_json, value = parse(text)
    try:
        draft = _read_value(value, role) if is_json else None
    except RecursionError:  # nested deeper than Python compares
        draft = None
    return (whole, False) if draft is None else (draft, True)


def _looks_structured(text: str) -> bool:
    head = text[0]
    if head.isspace():
        head = text.lstrip()[:1]
    return head in {"[", "{"}


def _read_value(value: Any, role: str) -> Draft | None:
    return read_body(value, role) if isinstance(value, dict) else read_list(value, role)


def _opening(messages: list[Message]) -> int:
    """Return how many messages of the system open a conversation; one with a name is part of an example."""
    for index, message in enumerate(messages):
        if message["role"] != "system" or "name" in message:
            return index
    return len(messages)
