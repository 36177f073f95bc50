"""JSON inside JSON: values that were encoded once more on their way to Langfuse."""

from __future__ import annotations

from typing import Any

from sync_worker.json_text import parse
from sync_worker.spans.messages.blocks import BLOCK_READERS, block_parts
from sync_worker.spans.messages.untyped import is_known

#: Layers of encoding that are taken off a text.
_MOST_LAYERS = 3


def decoded(text: str) -> tuple[bool, Any]:
    """Return whether a text is JSON of an object or a list, and that value; encoded more than once or not."""
    is_json, value = parse(text)
    for _ in range(_MOST_LAYERS):
        if not is_json or not isinstance(value, str):
            break
        is_json, value = parse(value) if value.lstrip()[:1] in {"[", "{", '"'} else (False, None)
    return (True, value) if is_json and isinstance(value, dict | list) else (False, None)


def lines_of(text: str) -> tuple[bool, list[Any]]:
    """Return whether a text is a stream as it was sent, JSON lines or server-sent events, and what they hold."""
    values: list[Any] = []
    for line in text.splitlines():
        payload = line.removeprefix("data:").strip()
        if not payload or payload == "[DONE]" or line.startswith(("event:", "id:", "retry:", ":")):
            continue
        is_json, value = parse(payload) if payload[:1] == "{" else (False, None)
        if not is_json:
            return False, []
        values.append(value)
    return bool(values), values


def decoded_content(content: str, role: str) -> str | list[Any]:
    """Return the blocks of a content that holds them as JSON text; any other text as it is.

    Strands writes the blocks of Bedrock so (`serialize(message["content"])` in its telemetry/tracer.py). A model may
    well be asked for a list of {"text"}, and a tool may answer anything: of these only what nothing but a message has.
    """
    blocks = encoded_blocks(content)
    if blocks is None:
        return content
    if role == "tool":
        return blocks if any(_is_answer(block) for block in blocks) else content
    return blocks if role != "assistant" or any("type" in block or is_known(block) for block in blocks) else content


def encoded_blocks(content: str) -> list[Any] | None:
    """Return the blocks that a text holds as JSON, if each of them can be read as one."""
    if content[:1] != "[" or not content[1:].lstrip().startswith("{"):
        return None
    is_json, value = parse(content)
    if not is_json or not isinstance(value, list) or not all(isinstance(b, dict) and _is_block(b) for b in value):
        return None
    return value


def _is_block(block: dict[str, Any]) -> bool:
    kind = block.get("type")
    if isinstance(kind, str):
        return kind in BLOCK_READERS and block_parts(block) != [block]
    return kind is None and (is_known(block) or block.keys() == {"text"} or _is_media(block))


def _is_media(block: dict[str, Any]) -> bool:
    [*keys] = block
    return len(keys) == 1 and keys[0] in {"image", "document", "video"} and isinstance(block[keys[0]], dict)


def _is_answer(block: dict[str, Any]) -> bool:
    return "toolResult" in block or block.get("type") in ("tool_result", "tool-result", "tool_call_response")
