"""Anthropic's messages, as openinference-instrumentation-anthropic writes them: in three ways, by its version."""

from __future__ import annotations

from typing import Any

from sync_worker.spans.conventions.openinference.writing import (
    Pairs,
    as_text,
    call,
    content,
    fields,
    image,
    items,
    json_of,
    kind_of,
)
from sync_worker.spans.versions import Version

#: From these versions on: images are stated; the system prompt is the first message; a message has contents; a tool's
#: result is a message of its own, and blocks of unknown types are stated as JSON.
_IMAGES, _SYSTEM, _CONTENTS, _WHOLE = (0, 1, 19), (1, 0, 3), (1, 1), (3, 1)
_TOOL_CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})


def anthropic_input(value: Any, version: Version) -> Pairs:
    """Yield the messages of a request."""
    value = fields(value)
    at = 0
    system = value.get("system")
    if system and version >= _SYSTEM:
        yield "0.message.role", "system"
        if isinstance(system, str):
            yield "0.message.content", system
        else:
            yield from _contents(0, items(system), version)
        at = 1
    for message in items(value.get("messages")):
        for stated in _messages(fields(message), version):
            yield from _message(at, stated, version)
            at += 1


def anthropic_output(value: Any, version: Version) -> Pairs:
    """Yield the one message of a response."""
    value = fields(value)
    if isinstance(value.get("role"), str) and isinstance(value.get("content"), list):
        yield "0.message.role", value["role"]
        yield from _contents(0, value["content"], version, ids=version >= _CONTENTS)


def _messages(message: Any, version: Version) -> list[dict[str, Any]]:
    """Return a message; one with tool results as one for each of them, and one for the rest."""
    blocks = items(message.get("content"))
    results = [block for block in blocks if fields(block).get("type") == "tool_result"]
    if version < _WHOLE or not results:
        return [dict(message)]
    rest = [block for block in blocks if fields(block).get("type") != "tool_result"]
    split = [{"role": "tool", "content": [block]} for block in results]
    return [*split, {**message, "content": rest}] if rest else split


def _message(at: int, message: dict[str, Any], version: Version) -> Pairs:
    if message.get("role"):
        yield f"{at}.message.role", message["role"]
    payload = message.get("content")
    if isinstance(payload, str) and payload:
        yield f"{at}.message.content", payload
    yield from _contents(at, items(payload), version)


def _contents(at: int, blocks: list[Any], version: Version, *, ids: bool = True) -> Pairs:
    calls = 0
    for place, block in enumerate(blocks):
        if not isinstance(block, dict):  # an object of the SDK, which older versions wrote as Python shows it
            continue
        kind = kind_of(block)
        prefix = f"{at}.message.contents.{place}"
        if kind == "tool_use" or (kind in _TOOL_CALLS and version >= _WHOLE):
            asked = block.get("id") if ids else None, block.get("name"), json_of(block.get("input"))
            yield from call(f"{at}.message.tool_calls.{calls}", *asked)
            calls += 1
            if version >= _CONTENTS:
                yield from content(prefix, "tool_use")
                yield from call(prefix, *asked)
        elif kind == "tool_result":
            yield f"{at}.message.tool_call_id", block.get("tool_use_id")
            if block.get("content") is not None:
                payload = _hidden(block["content"]) if version >= _WHOLE else block["content"]
                yield f"{at}.message.content", as_text(payload)
        elif kind == "text" and version < _CONTENTS:
            yield f"{at}.message.content", block.get("text")
        else:
            yield from _block(prefix, block, version)


def _block(prefix: str, block: Any, version: Version) -> Pairs:
    kind = kind_of(block)
    if kind == "image" and version >= _IMAGES:
        yield from _image(prefix, block, version)
    elif version < _CONTENTS:
        return
    elif kind == "text":
        yield from content(prefix, "text", block.get("text"))
    elif kind == "thinking":
        yield from content(prefix, "reasoning", block.get("thinking"))
        if block.get("signature"):
            yield f"{prefix}.message_content.signature", block["signature"]
    elif kind == "redacted_thinking":
        yield from content(prefix, "reasoning")
        yield f"{prefix}.message_content.data", block.get("data")
    elif version >= _WHOLE and kind not in {"compaction", "fallback"}:
        yield from content(prefix, kind or "unknown", json_of(_hidden(block)))


def _image(prefix: str, block: Any, version: Version) -> Pairs:
    source = fields(block.get("source"))
    kind = source.get("type")
    if version < _WHOLE:
        if source:
            yield from image(prefix, f"data:{source.get('media_type')};{kind},{source.get('data')}")
    elif kind == "base64":
        yield from image(prefix, f"data:{source.get('media_type')};base64,{source.get('data')}")
    elif kind == "url":
        yield from image(prefix, source.get("url"))
    else:
        yield from content(prefix, "image", json_of(_hidden(block)))


def _hidden(value: Any, depth: int = 0) -> Any:
    """Return a block with the data of its sources hidden, as version 3.1 does."""
    if depth > 50:
        return value
    if isinstance(value, list):
        return [_hidden(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: {name: stated if name in {"type", "media_type"} else "__REDACTED__" for name, stated in item.items()}
        if key == "source" and isinstance(item, dict) and item.get("type") == "base64"
        else _hidden(item, depth + 1)
        for key, item in value.items()
    }
