"""Messages of frameworks whose objects stand in the input as Python shows them.

LlamaIndex (openinference-instrumentation-llama-index 4.3, `_handler.py`), smolagents (0.1.43, `_wrappers.py`) and
Haystack (0.1.34, `_wrappers.py`) hand their arguments to `json.dumps` with what shows any object as text, so a message
is `"ChatMessage(role=<MessageRole.USER: 'user'>, …)"` within JSON. Where it is an object, it is read as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sync_worker.spans.conventions.openinference.writing import Pairs, as_text, call, content, fields, image, items
from sync_worker.spans.python_text import Record, read

#: What LlamaIndex's `str()` of a response begins with: `assistant: Hello`.
_ANSWER = re.compile(r"(system|developer|user|assistant|function|tool|chatbot|model): (.*)\Z", re.DOTALL)


def as_object(value: Any) -> Mapping[str, Any]:
    """Return an object by its fields, also one that Python showed; an empty one for anything else."""
    if isinstance(value, str):
        is_object, value = read(value)
        return value if is_object and isinstance(value, dict) else {}
    return fields(value)


def llama_index_input(value: Any) -> Pairs:
    """Yield the messages of a chat with a model."""
    for at, message in enumerate(items(fields(value).get("messages"))):
        for key, stated in _llama_index_message(as_object(message)):
            yield f"{at}.{key}", stated


def llama_index_answer(text: str, asked: Any) -> Pairs:
    """Yield the answer of a chat, whose text begins with who gave it; `None` is the text of one that asks for tools."""
    stated = _ANSWER.match(text) if "messages" in fields(asked) else None
    if stated is not None:
        yield "0.message.role", stated[1]
        if stated[2] != "None":
            yield "0.message.content", stated[2]


def _llama_index_message(message: Mapping[str, Any]) -> Pairs:
    if not message:
        return
    role, beside = message.get("role"), fields(message.get("additional_kwargs"))
    if isinstance(role, str):
        yield "message.role", role
    blocks = [fields(block) for block in items(message.get("blocks"))]
    asked: list[Any] = []
    if "blocks" not in message and isinstance(message.get("content"), str):  # before blocks (0.12)
        yield "message.content", message["content"]
    elif len(blocks) == 1 and _block_kind(blocks[0]) == "text":
        yield "message.content", blocks[0].get("text")
    else:
        for at, block in enumerate(blocks):
            kind = _block_kind(block)
            if kind == "text":
                yield from content(f"message.contents.{at}", "text", block.get("text"))
            elif kind == "image" and (url := block.get("url") or block.get("path")):
                yield from image(f"message.contents.{at}", str(url))
            elif kind == "tool_call":
                asked.append(block)
    if beside.get("name"):
        yield "message.name", beside["name"]
    for at, item in enumerate(items(beside.get("tool_calls")) or asked):
        yield from _llama_index_call(f"message.tool_calls.{at}", as_object(item))
    if beside.get("tool_call_id"):
        yield "message.tool_call_id", beside["tool_call_id"]


def _block_kind(block: Mapping[str, Any]) -> str:
    """Return a block's type: `block_type`, or what the name of its class states (`ToolCallBlock`)."""
    if isinstance(block.get("block_type"), str):
        return str(block["block_type"])
    kind = block.kind if isinstance(block, Record) else ""
    return {"TextBlock": "text", "ImageBlock": "image", "ToolCallBlock": "tool_call"}.get(kind, "")


def _llama_index_call(prefix: str, item: Mapping[str, Any]) -> Pairs:
    function = as_object(item.get("function"))
    if function:
        yield from call(prefix, item.get("id"), function.get("name"), function.get("arguments"))
    elif "tool_name" in item:
        yield from call(prefix, item.get("tool_call_id"), item["tool_name"], item.get("tool_kwargs"))
    else:
        yield from call(prefix, item.get("id"), item.get("name"), item.get("input"))


def smolagents_input(value: Any) -> Pairs:
    """Yield the messages of a call of a model, or its prompt."""
    value = fields(value)
    if isinstance(value.get("prompt"), str):
        yield "0.message.role", "user"
        yield "0.message.content", value["prompt"]
        return
    for at, stated in enumerate(items(value.get("messages"))):
        message = as_object(stated)
        role, payload = message.get("role"), message.get("content")
        if not isinstance(role, str) or not isinstance(payload, str | list):
            continue
        yield f"{at}.message.role", role
        if isinstance(payload, str):
            yield f"{at}.message.content", payload
        else:
            for place, block in enumerate(_written_blocks(payload)):
                yield from _smolagents_block(f"{at}.message.contents.{place}", block)


def smolagents_output(value: Any) -> Pairs:
    """Yield the answer of a model: contents, then the reasoning that only the provider's own answer shows."""
    value = fields(value)
    if isinstance(value.get("role"), str):
        yield "0.message.role", value["role"]
    payload = value.get("content")
    blocks = [{"type": "text", "text": payload}] if isinstance(payload, str) else _written_blocks(items(payload))
    thought = _reasoning_of(value.get("raw"))
    if thought is not None:
        blocks.append({"type": "text", "text": thought})
    for at, block in enumerate(blocks):
        yield from _smolagents_block(f"0.message.contents.{at}", block)
    for at, stated in enumerate(items(value.get("tool_calls"))):
        item = fields(stated)
        function = fields(item.get("function"))
        asked = function.get("arguments")
        yield from call(
            f"0.message.tool_calls.{at}",
            item.get("id"),
            function.get("name"),
            asked if isinstance(asked, str) else None,
        )


def _written_blocks(payload: list[Any]) -> list[dict[str, Any]]:
    """Return the contents that are written: each has a place of its own among them."""
    return [
        block
        for block in payload
        if isinstance(block, dict)
        and (
            (block.get("type") == "text" and block.get("text"))
            or (block.get("type") == "image_url" and fields(block.get("image_url")).get("url"))
            or (block.get("type") == "image" and isinstance(block.get("image"), str))
        )
    ]


def _smolagents_block(prefix: str, block: Mapping[str, Any]) -> Pairs:
    if block.get("type") == "text":
        yield from content(prefix, "text", block.get("text"))
    elif block.get("type") == "image_url":
        yield from image(prefix, fields(block.get("image_url")).get("url"))


def _reasoning_of(raw: Any) -> str | None:
    """Return the reasoning of the first choice of a provider's answer, an object or the text that shows one."""
    if isinstance(raw, str) and "reasoning_content=" not in raw:
        return None
    choices = items(as_object(raw).get("choices"))
    thought = fields(fields(choices[0]).get("message")).get("reasoning_content") if choices else None
    return thought if isinstance(thought, str) else None


def haystack_input(value: Any) -> Pairs:
    """Yield the messages of a generator, or its prompt."""
    value = fields(value)
    if isinstance(value.get("prompt"), str) and "messages" not in value:
        yield "0.message.content", value["prompt"]
        yield "0.message.role", "user"
    for at, stated in enumerate(items(value.get("messages"))):
        message = as_object(stated)
        payload, role, name = _first_text(message), _of(message, "role"), _of(message, "name")
        if payload is not None:
            yield f"{at}.message.content", payload
        if role:
            yield f"{at}.message.role", role
        if name:
            yield f"{at}.message.name", name


def haystack_output(value: Any) -> Pairs:
    """Yield the replies of a generator, texts or messages; a message without a reason to end has not ended."""
    for at, stated in enumerate(items(fields(value).get("replies"))):
        message = as_object(stated)
        if not message and isinstance(stated, str):
            yield "0.message.content", stated
            yield "0.message.role", "assistant"
            continue
        reason = fields(_of(message, "meta")).get("finish_reason")
        if reason is None:
            continue
        if reason == "tool_calls":
            asked = [item for part in items(_of(message, "content")) if "tool_name" in (item := _call_of(part))]
            for place, item in enumerate(asked):
                yield from call(
                    f"{at}.message.tool_calls.{place}", None, item["tool_name"], as_text(item.get("arguments"))
                )
        elif (payload := _first_text(message)) is not None:
            yield f"{at}.message.content", payload
        if role := _of(message, "role"):
            yield f"{at}.message.role", role


def _of(message: Mapping[str, Any], key: str) -> Any:
    """Return a field of Haystack's message, which is shown with an underscore and written without (`to_dict`)."""
    return message.get("_" + key, message.get(key))


def _first_text(message: Mapping[str, Any]) -> str | None:
    stated = _of(message, "content")
    if isinstance(stated, str):
        return stated
    return next((text for part in items(stated) if isinstance(text := fields(part).get("text"), str)), None)


def _call_of(part: Any) -> Mapping[str, Any]:
    part = fields(part)
    return fields(part.get("tool_call")) or (part if "origin" not in part else {})
