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
    extra_part,
    first_string,
    is_reading,
    plain_text,
    text_part,
    tool_call,
    tool_response,
    value_part,
    with_rest,
)
from sync_worker.spans.messages.untyped import untyped_parts

Block: TypeAlias = dict[str, Any]

#: Where a block's type stands: LlamaIndex, Semantic Kernel, Pydantic AI (parts, then media) and .NET have other names.
_TYPE_KEYS = ("block_type", "content_type", "part_kind", "kind", "$type")


def to_parts(content: object) -> list[Part]:
    """Return the parts of a content: a string, a block or a list of both. Empty content has none."""
    if isinstance(content, str):
        return [text_part(content)] if content else []
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
        typed = _with_type(block) if kind is None else None
        if typed is None:
            return untyped_parts(block) or _wrapped_parts(block) or [value_part(block)]
        block, kind = typed, typed["type"]
    if kind.startswith("tool-") and "toolCallId" in block and kind not in BLOCK_READERS:
        return _ui_tool_parts(block, kind.removeprefix("tool-"))
    if kind == "dynamic-tool":
        return _ui_tool_parts(block, None)
    reader = BLOCK_READERS.get(kind)
    if reader is None:
        reader = (
            _tool_result if kind.endswith("_tool_result") else BLOCK_READERS.get(_ALIASES.get(kind) or kind.lower())
        )
    found = None if reader is None else reader(block)
    if found is None:
        return [block]
    return found if isinstance(found, list) else [found]


def _wrapped_parts(block: Block) -> list[Part]:
    """Return the parts of a content that is an object: Mastra's {format, parts, content}."""
    inner = block.get("parts")
    if not isinstance(inner, list) or not inner:
        return []
    parts = to_parts(inner)
    texts = [part.get("content") for part in parts if part["type"] == "text"]
    return parts + [
        extra_part(key, item)
        for key, item in block.items()
        if carries(item) and key != "parts" and not isinstance(item, int) and not (key == "content" and item in texts)
    ]


def _with_type(block: Block) -> Block | None:
    """Return a block that names its type under another key with `type`."""
    for key in _TYPE_KEYS:
        kind = block.get(key)
        if isinstance(kind, str) and kind:
            return {"type": kind, **{name: item for name, item in block.items() if name not in {key, "type"}}}
    return None


def _content_of(block: Block, keys: tuple[str, ...], kind: str) -> Part | list[Part] | None:
    """Return a part of a kind whose content is the first string among the keys, or the text that one of them wraps."""
    found = first_string(block, keys)
    if found is not None:
        return with_rest({"type": kind, "content": found[1]}, block, {"type", found[0]})
    present = next((key for key in keys if carries(block.get(key))), None)
    if present is None:
        present = next((key for key in keys if key in block), None)
        return None if present is None else with_rest({"type": kind, "content": ""}, block, {"type", present})
    value = block[present]
    content = None if present == "summary" else plain_text(value)
    if content is not None:
        return with_rest({"type": kind, "content": content}, block, {"type", present})
    if isinstance(value, dict) and isinstance(value.get("value"), str):  # OpenAI Assistants: {"value", "annotations"}
        part: Part = with_rest({"type": kind, "content": value["value"]}, value, {"value"})
        return with_rest(part, block, {"type", present})
    parts = [{**part, "type": kind} if part["type"] == "text" else part for part in to_parts(value)]
    with_rest(parts[0], block, {"type", present})
    return parts


def thought_parts(value: object) -> list[Part]:
    """Return what a field for a thought holds, whatever its shape, as reasoning."""
    if isinstance(value, str):
        return [{"type": "reasoning", "content": value}] if value else []
    if isinstance(value, dict):
        found = BLOCK_READERS["reasoning"](value)
        return found if isinstance(found, list) else [found or {"type": "reasoning", "content": "", **_untyped(value)}]
    return [{**part, "type": "reasoning"} if part["type"] == "text" else part for part in to_parts(value)]


def _untyped(value: Block) -> Block:
    return {("_type" if key == "type" else key): item for key, item in value.items()}


def _tool_result(block: Block) -> Part | None:
    call_id = first_string(block, CALL_ID_KEYS)
    name = first_string(block, ("name", "toolName", "tool_name", "functionName", "function_name"))
    used = {"type"} | {found[0] for found in (call_id, name) if found is not None}
    key = next((key for key in ("response", "result", "output", "content", "responseData") if key in block), None)
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


def _invocation(block: Block) -> list[Part] | None:
    """Read the call and, once it is there, the answer in a part of Vercel AI SDK 4: {toolInvocation: {state, …}}."""
    inner = block.get("toolInvocation")
    if not isinstance(inner, dict):
        return None
    parts = invocation_parts(inner)
    with_rest(parts[0], block, {"type", "toolInvocation"})
    return parts


def invocation_parts(value: Block) -> list[Part]:
    """Return call and answer of {toolCallId, toolName, args, state, result}."""
    call = tool_call({key: item for key, item in value.items() if key != "result"})
    if call is None:
        return [value_part(value)]
    return (
        [call, tool_response(value.get("toolCallId"), value["result"], call["name"])] if "result" in value else [call]
    )


def _reasoning_content(block: Block) -> list[Part]:
    """Read LangChain-AWS's block {"type": "reasoning_content", "reasoning_content": {"text", "signature"}}."""
    parts = thought_parts(block.get("reasoning_content")) or [{"type": "reasoning", "content": ""}]
    with_rest(parts[0], block, {"type", "reasoning_content"})
    return parts


def _pydantic_file(block: Block) -> list[Part] | None:
    """Read Pydantic AI's `file` part, whose content is a media block; None for any other file."""
    inner = block.get("content")
    if not isinstance(inner, dict):
        return _listed(_media(None, block))
    parts = block_parts(inner)
    with_rest(parts[0], block, {"type", "content"})
    return parts


def _text(block: Block) -> Part | list[Part] | None:
    found = _content_of(block, ("content", "text", "value"), "text")
    if "parsed" in block and isinstance(found, dict) and is_reading(found.get("parsed"), found["content"]):
        del found["parsed"]
    return found


def _listed(part: Part | None) -> list[Part] | None:
    return None if part is None else [part]


def _media(modality: str | None, block: Block) -> Part | None:
    if isinstance(block.get("modality"), str):  # already in the shape of the conventions
        return None
    return media_part(block, modality)


BlockReader: TypeAlias = Callable[[Block], Part | list[Part] | None]
_REASONING: BlockReader = partial(
    _content_of,
    keys=("content", "thinking", "reasoning", "text", "summary", "reasoning_text", "reasoningText", "details"),
    kind="reasoning",
)
_REFUSAL: BlockReader = partial(_content_of, keys=("content", "refusal"), kind="refusal")

#: Block type to the function that reads it; a reader that returns None leaves the block as it is.
BLOCK_READERS: dict[str, BlockReader] = {
    **dict.fromkeys(("text", "input_text", "output_text"), _text),
    **dict.fromkeys(
        ("reasoning", "thinking", "reasoning_text", "summary_text", "reasoning.text", "reasoning.summary"), _REASONING
    ),
    "reasoning_content": _reasoning_content,
    "tool-invocation": _invocation,
    "refusal": _REFUSAL,
    **dict.fromkeys(
        ("tool_call", "tool_use", "server_tool_use", "mcp_tool_use", "tool-call", "function", "invalid_tool_call"),
        tool_call,
    ),
    **dict.fromkeys(("tool_call_response", "tool_result", "tool-result"), _tool_result),
    **{kind: partial(_media, modality) for kind, modality in MODALITIES.items()},
    "file": _pydantic_file,
}
#: Types of single frameworks that state the same as one above.
_ALIASES: dict[str, str] = {
    **dict.fromkeys(("user-prompt", "system-prompt", "TextContent", "TEXT", "text-plain"), "text"),
    **dict.fromkeys(
        ("text_reasoning", "ReasoningContent", "thought", "ThinkingContent", "TextReasoningContent"), "reasoning"
    ),
    **dict.fromkeys(("builtin-tool-call", "function_call", "functionCall", "FunctionCallContent"), "tool_call"),
    **dict.fromkeys(
        (
            *("tool-return", "builtin-tool-return", "retry-prompt", "function_result", "functionResult"),
            *("FunctionResultContent", "tool_call_result", "server_tool_result", "function_call_output"),
        ),
        "tool_result",
    ),
    **dict.fromkeys(("ImageContent", "IMAGE"), "image"),
    **dict.fromkeys(("AudioContent", "AUDIO"), "audio"),
    **dict.fromkeys(("data", "uri", "DataContent", "UriContent", "BinaryContent"), "media"),
}
#: Types that make a bare list of blocks the content of one message.
BLOCK_TYPES = frozenset(BLOCK_READERS) - {"function", "file", "document", "media", "binary"}
