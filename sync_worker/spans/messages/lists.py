"""Lists of messages, in which every element has to be one."""

from __future__ import annotations

from typing import Any

from sync_worker.spans.messages.blocks import BLOCK_TYPES, to_parts
from sync_worker.spans.messages.chat import chat_message
from sync_worker.spans.messages.conversation import Draft, Message
from sync_worker.spans.messages.langchain import plain_message
from sync_worker.spans.messages.responses import response_item
from sync_worker.spans.messages.untyped import untyped_parts


def read_message(value: object, role: str) -> Message | None:
    """Return the message that a value is, or None."""
    plain = plain_message(value)
    if plain is not None:
        return chat_message(plain, role)
    if not isinstance(value, dict):
        return None
    if "toolCallId" in value and "toolName" in value and "role" not in value and "type" not in value:
        parts = untyped_parts(value)
        return {"role": role, "parts": parts} if parts else None
    return response_item(value) or chat_message(value, role)


def read_list(value: object, role: str) -> Draft | None:
    """Return the conversation that a list is: of messages, of blocks of one message, or a batch of one."""
    if not isinstance(value, list) or not value:
        return None
    draft = Draft()
    for element in value:
        definition = _tool_definition(element)
        if definition is not None:
            draft.tools.append(definition)
            continue
        message = read_message(element, role)
        if message is None:
            return _read_other_list(value, role)
        draft.messages.append(message)
    if all(_is_bare_call(element) for element in value):
        _join(draft)
    return draft


def _read_other_list(value: list[Any], role: str) -> Draft | None:
    if all(isinstance(block, dict) and _is_block(block) for block in value):
        return Draft(messages=[{"role": role, "parts": to_parts(value)}])
    return read_list(value[0], role) if len(value) == 1 and isinstance(value[0], list) else None


def _is_block(block: dict[str, Any]) -> bool:
    kind = block.get("type")
    return isinstance(kind, str) and kind in BLOCK_TYPES


def _is_bare_call(element: object) -> bool:
    return (
        isinstance(element, dict) and "role" not in element and ("toolCallId" in element or "function_call" in element)
    )


def _join(draft: Draft) -> None:
    """Join calls that stand in a list without messages (Vercel's output): they are one turn."""
    parts = [part for message in draft.messages for part in message["parts"]]
    draft.messages = [{"role": draft.messages[0]["role"], "parts": parts}]


def _tool_definition(value: object) -> dict[str, Any] | None:
    """Return the definition in what Langfuse's LangChain callback writes for each tool: a message of a tool."""
    if not isinstance(value, dict) or value.get("role") != "tool" or value.keys() != {"role", "content"}:
        return None
    content = value["content"]
    if isinstance(content, dict) and content.get("type") == "function" and isinstance(content.get("function"), dict):
        return content
    return None
