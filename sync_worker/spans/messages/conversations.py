"""From an observation's text to a conversation."""

from __future__ import annotations

from sync_worker.spans.messages.bodies import read_value
from sync_worker.spans.messages.conversation import Conversation, Draft, Message
from sync_worker.spans.messages.encoded import decoded, lines_of
from sync_worker.spans.messages.parts import text_part

#: How the text of server-sent events begins.
_EVENTS = ("data:", "event:")


def read_input(text: str | None) -> Conversation | None:
    """Return what a model was given, or None where there is nothing."""
    if not text:
        return None
    draft, recognised = _read(text, "user")
    opening = _opening(draft.messages)
    payload = [part for message in draft.messages[:opening] for part in message["parts"]]
    return Conversation(draft.messages[opening:], draft.system + payload, draft.tools or None, [], recognised)


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
    is_json, value = decoded(text)
    if not is_json and (text[0] != '"'):
        is_json, value = lines_of(text)
    try:
        draft = read_value(value, role) if is_json else None
    except RecursionError:  # nested deeper than Python compares
        draft = None
    if draft is not None:
        return draft, True
    return whole, not is_json and text.lstrip()[:1] not in {"[", "{"}  # a text in quotes is plain text


def _looks_structured(text: str) -> bool:
    head = text[0]
    if head.isspace():
        head = text.lstrip()[:1]
    return head in {"[", "{", '"'} or text.startswith(_EVENTS)


def _opening(messages: list[Message]) -> int:
    """Return how many messages of the system open a conversation; one with a name is part of an example."""
    for index, message in enumerate(messages):
        if message["role"] != "system" or "name" in message:
            return index
    return len(messages)
