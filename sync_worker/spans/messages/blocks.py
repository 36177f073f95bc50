"""Content of a message, a string or blocks of any framework, as parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from sync_worker.spans.messages.conversation import Part
from sync_worker.spans.messages.media import MODALITIES, media_part
from sync_worker.spans.messages.parts import (
    CALL_ID_KEYS,
    carries,
    first_string,
    tool_call,
    tool_response,
    value_part,
    with_rest,
)
from sync_worker.spans.messages.untyped import untyped_parts

Block: TypeAlias = dict[str, Any]


def to_parts(content: object) -> list[Part]:
    """Return the parts of a content: a string, a block or a list of both. Empty content has none."""
    if not carries(content):
        return []
    if isinstance(content, list):
        return [part for block in content for part in block_parts(block)]
    return block_parts(content)


def block_parts(block: object) -> list[Part]:
    """Return the parts of one block. What is not understood stays as it is, or becomes text holding its JSON."""
    if not isinstance(block, dict):
        return [value_part(block)]
    kind = block.get("type")
    if not isinstance(kind, str) or not kind:
        return untyped_parts(block) or [value_part(block)]
    if kind.startswith("tool-") and "toolCallId" in block and kind not in BLOCK_READERS:
        return _ui_tool_parts(block, kind.removeprefix("tool-"))
    if kind == "dynamic-tool":
        return _ui_tool_parts(block, None)
    reader = BLOCK_READERS.get(kind)
    if reader is None and kind.endswith("_tool_result"):
        reader = _tool_result
    part = None if reader is None else reader(block)
    return [block if part is None else part]


def _content_of(block: Block, keys: tuple[str, ...], kind: str) -> Part | None:
    """Return a part of a kind whose content is the first string among the keys."""
    found = first_string(block, keys)
    if found is not None:
        return with_rest({"type": kind, "content": found[1]}, block, {"type", found[0]})
    present = next((key for key in keys if key in block), None)
    if present is None:
        return None
    value = block[present]
    if isinstance(value, dict) and isinstance(value.get("value"), str):  # OpenAI Assistants: {"value", "annotations"}
        part = with_rest({"type": kind, "content": value["value"]}, value, {"value"})
    else:
        part = {"type": kind, "content": value_part(value)["content"] if carries(value) else ""}
    return with_rest(part, block, {"type", present})


def _tool_result(block: Block) -> Part | None:
    call_id = first_string(block, CALL_ID_KEYS)
    name = first_string(block, ("name", "toolName", "tool_name"))
    used = {"type"} | {found[0] for found in (call_id, name) if found is not None}
    key = next((key for key in ("response", "result", "output", "content") if key in block), None)
    if key is None and call_id is None:
        return None
    value = None if key is None else block[key]
    part = tool_response(call_id and call_id[1], value, name and name[1])
    if key == "output" and isinstance(value, dict) and isinstance(value.get("type"), str) and "value" in value:
        part["response"] = part["result"] = value["value"]  # Vercel: {"type": "json" | "error-text" | …, "value"}
        part["output_type"] = value["type"]
        with_rest(part, value, {"type", "value"})
    if key is not None:
        used.add(key)
    if key == "response" and block.get("result") == value:
        used.add("result")
    return with_rest(part, block, used)


def _ui_tool_parts(block: Block, name: str | None) -> list[Part]:
    """Read the Vercel UI's block for a tool, which holds the call and, once it is there, the answer."""
    answer = next((key for key in ("output", "errorText") if key in block), None)
    asked = {key: value for key, value in block.items() if key != answer}
    call = tool_call({"toolName": name, **asked} if name else asked)
    if call is None:
        return [block]
    if answer is None:
        return [call]
    return [call, tool_response(block.get("toolCallId"), block[answer], call["name"])]


def _media(modality: str | None, block: Block) -> Part | None:
    if isinstance(block.get("modality"), str):  # already in the shape of the conventions
        return None
    return media_part(block, modality)


BlockReader: TypeAlias = Callable[[Block], Part | None]
_TEXT: BlockReader = partial(_content_of, keys=("content", "text", "value"), kind="text")
_REASONING: BlockReader = partial(
    _content_of, keys=("content", "thinking", "reasoning", "text", "summary"), kind="reasoning"
)
_REFUSAL: BlockReader = partial(_content_of, keys=("content", "refusal"), kind="refusal")

#: Block type to the function that reads it; a reader that returns None leaves the block as it is.
BLOCK_READERS: dict[str, BlockReader] = {
    **dict.fromkeys(("text", "input_text", "output_text"), _TEXT),
    **dict.fromkeys(
        ("reasoning", "thinking", "reasoning_text", "summary_text", "reasoning.text", "reasoning.summary"), _REASONING
    ),
    "refusal": _REFUSAL,
    **dict.fromkeys(
        ("tool_call", "tool_use", "server_tool_use", "mcp_tool_use", "tool-call", "function", "invalid_tool_call"),
        tool_call,
    ),
    **dict.fromkeys(("tool_call_response", "tool_result", "tool-result"), _tool_result),
    **{kind: partial(_media, modality) for kind, modality in MODALITIES.items()},
}
#: Types that make a bare list of blocks the content of one message.
BLOCK_TYPES = frozenset(BLOCK_READERS) - {"function", "file", "document", "media", "binary"}
