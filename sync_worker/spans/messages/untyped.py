"""Blocks that name no type and are distinguished by their keys: Gemini's parts, Bedrock's blocks, Vercel's calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from sync_worker.spans.messages.conversation import Part
from sync_worker.spans.messages.media import bedrock_media, media_part
from sync_worker.spans.messages.parts import (
    CALL_ID_KEYS,
    first_string,
    plain_text,
    tool_call,
    tool_response,
    with_rest,
)

Block: TypeAlias = dict[str, Any]


def untyped_parts(block: Block) -> list[Part]:
    """Return the parts of a block without a type, or none where no key is known."""
    whole = _whole(block)
    if whole is not None:
        return [whole]
    parts: list[Part] = []
    used: set[str] = set()
    text = block.get("text")
    if isinstance(text, str):
        thought = block.get("thought") is True
        parts.append({"type": "reasoning" if thought else "text", "content": text})
        used |= {"text", "thought"} if thought else {"text"}
    for key, value in block.items():
        part = _READERS[key](value) if key in _READERS and isinstance(value, dict) else None
        if part is not None:
            parts.append(part)
            used.add(key)
    if not parts:
        return [{"type": key, "content": block[key]} for key in block if len(block) == 1 and key in _OWN_TYPES]
    with_rest(parts[0], block, used)
    return parts


def is_known(block: Block) -> bool:
    """Whether a block has a key that is seen in messages alone."""
    return not block.keys().isdisjoint(_DISTINCT) and bool(untyped_parts(block))


def _whole(block: Block) -> Part | None:
    """Return the part of a block that is a call or an answer itself: Vercel's, AutoGen's."""
    if "toolCallId" in block and "toolName" in block:
        return tool_call(block)
    if "arguments" in block and "name" in block:
        return tool_call(block)
    if "content" in block and isinstance(block.get("call_id"), str):
        part = tool_response(block["call_id"], block["content"], block.get("name"))
        return with_rest(part, block, {"call_id", "content", *(("name",) if "name" in part else ())})
    return None


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


def _thought(value: Block) -> Part:
    """Read Bedrock's reasoningContent {reasoningText: {text, signature} | redactedContent} or Haystack's reasoning."""
    inner = value.get("reasoningText")
    flat = with_rest(dict(inner), value, {"reasoningText"}) if isinstance(inner, dict) else value
    found = first_string(flat, ("text", "reasoning_text", "reasoningText"))
    if found is None:
        return with_rest({"type": "reasoning", "content": ""}, flat, ())
    return with_rest({"type": "reasoning", "content": found[1]}, flat, {found[0]})


def _cited(value: Block) -> Part | None:
    """Read Bedrock's citationsContent {content: [{text}], citations}."""
    text = plain_text(value.get("content"))
    return None if text is None else with_rest({"type": "text", "content": text}, value, {"content"})


def _origin(value: Block) -> Part | None:
    """Read Haystack's tool_call_result {result, origin: {tool_name, arguments, id}, error}."""
    origin = value.get("origin")
    if not isinstance(origin, dict) or "result" not in value:
        return None
    part = tool_response(origin.get("id"), value["result"], origin.get("tool_name"))
    with_rest(part, {"arguments": origin.get("arguments")}, ())
    known = {key for key in ("id", "tool_name") if isinstance(origin.get(key), str)} | {"arguments"}
    with_rest(part, value, {"result", "origin"})
    return with_rest(part, origin, known)


def _named(kind: str) -> Callable[[Block], Part | None]:
    return lambda value: {**value, "type": kind} if "type" not in value else {"type": kind, "content": value}


_READERS: dict[str, Callable[[Block], Part | None]] = {
    **dict.fromkeys(("functionCall", "function_call", "toolUse", "tool_call"), tool_call),
    **dict.fromkeys(("functionResponse", "function_response", "toolResult"), _response),
    **dict.fromkeys(("inlineData", "inline_data", "fileData", "file_data"), _inline),
    **dict.fromkeys(("executableCode", "executable_code"), _named("executable_code")),
    **dict.fromkeys(("codeExecutionResult", "code_execution_result"), _named("code_execution_result")),
    **dict.fromkeys(("reasoningContent", "reasoning_content", "reasoning"), _thought),
    "citationsContent": _cited,
    "tool_call_result": _origin,
    **{kind: bedrock_media(kind) for kind in ("image", "document", "video", "audio", "file")},
}
#: Keys that alone are a block of their own type: marks and guards of Bedrock, Gemini's notes.
_OWN_TYPES = frozenset({"cachePoint", "guardContent", "searchResult", "interruptResponse", "json"})
#: Keys that no data but messages have.
_DISTINCT = frozenset(
    {
        *("functionCall", "function_call", "toolUse", "functionResponse", "function_response", "toolResult"),
        *("inlineData", "inline_data", "executableCode", "executable_code", "codeExecutionResult", "toolCallId"),
        *("code_execution_result", "reasoningContent", "citationsContent", "tool_call_result", "cachePoint"),
        *("guardContent", "thoughtSignature", "thought"),
    }
)
