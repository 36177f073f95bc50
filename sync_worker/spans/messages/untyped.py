"""Blocks that name no type and are told apart by their keys: Gemini's parts, Bedrock's blocks, Vercel's calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from sync_worker.spans.messages.conversation import Part
from sync_worker.spans.messages.media import media_part
from sync_worker.spans.messages.parts import CALL_ID_KEYS, first_string, tool_call, tool_response, with_rest

Block: TypeAlias = dict[str, Any]


def untyped_parts(block: Block) -> list[Part]:
    """Return the parts of a block without a type, or none where no key is known."""
    if "toolCallId" in block and "toolName" in block:
        call = tool_call(block)
        return [] if call is None else [call]
    parts: list[Part] = []
    used: set[str] = set()
    text = block.get("text")
    if isinstance(text, str):
        thought = block.get("thought") is True
        parts.append({"type": "reasoning" if thought else "text", "content": text})
        used |= {"text", "thought"} if thought else {"text"}
    for key, reader in _READERS.items():
        value = block.get(key)
        part = reader(value) if isinstance(value, dict) else None
        if part is not None:
            parts.append(part)
            used.add(key)
    if parts:
        with_rest(parts[0], block, used)
    return parts


def _response(value: Block) -> Part | None:
    call_id = first_string(value, CALL_ID_KEYS)
    name = first_string(value, ("name",))
    key = next((key for key in ("response", "content") if key in value), None)
    if key is None:
        return None
    used = {found[0] for found in (call_id, name) if found is not None}
    return with_rest(
        tool_response(call_id and call_id[1], value[key], name and name[1]), value, {key, "type", "result", *used}
    )


def _inline(value: Block) -> Part | None:
    return media_part(value, None)


_READERS: dict[str, Callable[[Block], Part | None]] = {
    "functionCall": tool_call,
    "function_call": tool_call,
    "functionResponse": _response,
    "function_response": _response,
    "inlineData": _inline,
    "inline_data": _inline,
    "fileData": _inline,
    "file_data": _inline,
    "toolUse": tool_call,
    "toolResult": _response,
}
