"""Messages of Bedrock, as openinference-instrumentation-bedrock writes them (1.0.5).

Of the Converse API the input is the messages alone: the system's prompt, which is the first of
`llm.input_messages` where there is one, is not in it, so that nobody knows their numbers. Of Claude's own API, and of
both APIs' answers, all of it is there.
"""

from __future__ import annotations

from typing import Any

from sync_worker.spans.conventions.openinference.writing import Pairs, call, content, fields, image, items, objects


def bedrock_input(value: Any) -> Pairs:
    """Yield the messages of a request to Claude; of the Converse API none."""
    at = 0
    for message in objects(fields(value).get("messages")):
        role, payload = message.get("role"), message.get("content")
        if isinstance(payload, str):
            yield from _plain(at, role, payload)
            at += 1
            continue
        rest: list[tuple[str, Any]] = []
        contents = calls = 0
        for block in objects(payload):
            kind = block.get("type")
            if kind == "tool_result":
                yield from _plain(at, role, block.get("content"))
                yield f"{at}.message.tool_call_id", block.get("tool_use_id")
                at += 1
            elif kind == "tool_use":
                rest += call(f"message.tool_calls.{calls}", block.get("id"), block.get("name"), block.get("input"))
                calls += 1
            else:
                rest += _content(f"message.contents.{contents}", block)
                contents += 1
        if rest:
            yield f"{at}.message.role", role
            yield from ((f"{at}.{key}", stated) for key, stated in rest)
            at += 1


def bedrock_output(value: Any) -> Pairs:
    """Yield the message of Converse, or those of Claude, each block of which is one."""
    value = fields(value)
    if all("type" not in block for block in objects(value.get("content"))):
        yield from _converse(value)
        return
    at = 0
    for block in objects(value["content"]):
        if block.get("type") == "tool_use":
            yield f"{at}.message.role", value.get("role")
            yield from call(f"{at}.message.tool_calls.0", block.get("id"), block.get("name"), block.get("input"))
            at += 1
        elif block.get("type") == "text":
            yield from _plain(at, value.get("role") or "assistant", block.get("text"))
            at += 1


def _converse(message: Any) -> Pairs:
    if not items(message.get("content")):
        return
    yield "0.message.role", message.get("role")
    contents = calls = 0
    for block in objects(message.get("content")):
        asked = block.get("toolUse")
        if isinstance(block.get("text"), str):
            yield from content(f"0.message.contents.{contents}", "text", block["text"])
            contents += 1
        if isinstance(asked, dict):
            yield from call(
                f"0.message.tool_calls.{calls}", asked.get("toolUseId"), asked.get("name"), asked.get("input")
            )
            calls += 1


def _plain(at: int, role: Any, payload: Any) -> Pairs:
    yield f"{at}.message.role", role
    if isinstance(payload, str):
        yield f"{at}.message.content", payload


def _content(prefix: str, block: Any) -> Pairs:
    if block.get("type") == "image":
        source = fields(block.get("source"))
        yield from image(prefix, f"data:{source.get('media_type') or 'image/png'};base64,{source.get('data')}")
    else:
        yield from content(prefix, "text", block.get("text"))
