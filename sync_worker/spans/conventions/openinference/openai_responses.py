"""OpenAI's Responses, as openinference-instrumentation-openai 0.1.66 writes them; before 0.1.52 reasoning otherwise."""

from __future__ import annotations

from typing import Any

from sync_worker.spans.conventions.openinference.writing import Pairs, as_text, content, fields, image, items, kind_of

#: Items that stand for a call of one of OpenAI's own tools: they carry an id and nothing of what was asked.
_OWN_TOOLS = frozenset({"file_search_call", "web_search_call"})


def responses_input(value: Any, *, reasoning_whole: bool) -> Pairs:
    """Yield the messages of a request: its instructions are the first, whether there are any or not."""
    value = fields(value)
    if value.get("instructions") is not None:
        yield "0.message.role", "system"
        yield "0.message.content", value["instructions"]
    asked = value.get("input")
    if isinstance(asked, str):
        yield "1.message.role", "user"
        yield "1.message.content", asked
    for at, item in enumerate(items(asked), 1):
        for key, stated in _item(fields(item), asked=True, reasoning_whole=reasoning_whole):
            yield f"{at}.{key}", stated


def responses_output(value: Any, *, reasoning_whole: bool) -> Pairs:
    """Yield a message for each item of a response."""
    for at, item in enumerate(items(fields(value).get("output"))):
        for key, stated in _item(fields(item), asked=False, reasoning_whole=reasoning_whole):
            yield f"{at}.{key}", stated


def _item(item: Any, *, asked: bool, reasoning_whole: bool) -> Pairs:
    kind = kind_of(item)
    if asked and "type" not in item and "role" in item and "content" in item:
        kind = "message"
    if kind == "message":
        if item.get("role") is not None:
            yield "message.role", item["role"]
        if isinstance(item.get("content"), str):
            yield "message.content", item["content"]
        for at, block in enumerate(items(item.get("content"))):
            yield from _block(f"message.contents.{at}", fields(block))
    elif kind in {"function_call", "custom_tool_call"} or kind in _OWN_TOOLS:
        yield "message.role", "assistant"
        yield from _call("message.tool_calls.0", item, kind)
    elif kind == "computer_call":
        yield "message.role", "assistant"
        yield "message.tool_calls.0.message.role", "tool"
        if item.get("call_id") is not None:
            yield "message.tool_calls.0.message.tool_call_id", item["call_id"]
    elif kind == "reasoning":
        yield "message.role", "assistant"
        yield from _reasoning(item, whole=reasoning_whole)
    elif asked and kind in {"function_call_output", "custom_tool_call_output", "computer_call_output"}:
        yield "message.role", "tool"
        if item.get("call_id") is not None:
            yield "message.tool_call_id", item["call_id"]
        if kind != "computer_call_output" and item.get("output") is not None:
            yield "message.content", as_text(item["output"])


def _call(prefix: str, item: Any, kind: str) -> Pairs:
    if kind in _OWN_TOOLS:
        call_id, name, arguments = item.get("id"), kind, None
    elif kind == "custom_tool_call":
        stated = item.get("input")
        call_id, name, arguments = item.get("call_id"), item.get("name"), None if stated is None else {"input": stated}
    else:
        stated = item.get("arguments")
        call_id, name, arguments = item.get("call_id"), item.get("name"), None if stated == "{}" else stated
    if call_id is not None:
        yield f"{prefix}.tool_call.id", call_id
    if name is not None:
        yield f"{prefix}.tool_call.function.name", name
    if arguments is not None:
        yield f"{prefix}.tool_call.function.arguments", as_text(arguments)


def _block(prefix: str, block: Any) -> Pairs:
    kind = kind_of(block)
    if kind in {"input_text", "output_text"} and block.get("text") is not None:
        yield from content(prefix, "text", block["text"])
    elif kind == "refusal" and block.get("refusal") is not None:
        yield from content(prefix, "text", block["refusal"])
    elif kind == "input_image" and block.get("image_url"):
        yield from image(prefix, block["image_url"])


def _reasoning(item: Any, *, whole: bool) -> Pairs:
    texts = [fields(part).get("text") for part in items(item.get("summary"))]
    payload = [text for text in texts if isinstance(text, str)]
    if not whole:
        for at, text in enumerate(payload):
            yield from content(f"message.contents.{at}", "text", text)
        return
    yield from content("message.contents.0", "reasoning", "\n".join(payload) if payload else None)
    if item.get("encrypted_content") is not None:
        yield "message.contents.0.message_content.encrypted_content", item["encrypted_content"]
