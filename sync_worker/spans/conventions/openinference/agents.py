"""Messages of frameworks for agents, each in the way that its OpenInference instrumentation writes them."""

from __future__ import annotations

from typing import Any

from sync_worker.spans.conventions.openinference.openai_chat import calls
from sync_worker.spans.conventions.openinference.writing import (
    Pairs,
    as_text,
    call,
    content,
    fields,
    image,
    items,
    kind_of,
    objects,
)

_JOINED = "\n\n"


def agno_input(value: Any) -> Pairs:
    """Yield Agno's messages (openinference-instrumentation-agno 1.0.15)."""
    for at, message in enumerate(items(fields(value).get("messages"))):
        if fields(message).get("role") in ("system", "user", "assistant", "tool"):
            yield f"{at}.message.role", message["role"]
            if message.get("tool_call_id"):
                yield f"{at}.message.tool_call_id", message["tool_call_id"]
            if message.get("content"):
                yield f"{at}.message.content", as_text(message["content"])
            yield from _agno_calls(at, message)


def agno_output(value: Any) -> Pairs:
    """Yield Agno's answer: with reasoning as contents, and its text as content as well; a streamed one is no list."""
    for at, message in enumerate(objects([value] if isinstance(value, dict) else value)):
        payload, thought = message.get("content"), message.get("reasoning_content")
        if message.get("role"):
            yield f"{at}.message.role", message["role"]
        if thought:
            yield from content(f"{at}.message.contents.0", "reasoning", thought)
            if payload:
                yield from content(f"{at}.message.contents.1", "text", payload)
        if payload:
            yield f"{at}.message.content", payload
        yield from _agno_calls(at, message)


def _agno_calls(at: int, message: Any) -> Pairs:
    for place, item in enumerate(items(message.get("tool_calls"))):
        function = fields(fields(item).get("function"))
        asked = function.get("arguments") or "{}"
        yield from call(f"{at}.message.tool_calls.{place}", fields(item).get("id"), function.get("name"), asked)


def plain_input(value: Any) -> Pairs:
    """Yield roles and texts, which is what DSPy has of them (dspy 0.1.48); contents are flattened as they are."""
    value = fields(value)
    if isinstance(value.get("prompt"), str):
        yield "0.message.role", "user"
        yield "0.message.content", value["prompt"]
        return
    for at, message in enumerate(objects(value.get("messages"))):
        payload = message.get("content")
        if message.get("role") is not None:
            yield f"{at}.message.role", message["role"]
        if isinstance(payload, str):
            yield f"{at}.message.content", payload
        for place, block in enumerate(objects(payload)):
            yield from _flattened(f"{at}.message.content.{place}", block)


def _flattened(prefix: str, value: Any) -> Pairs:
    for key, stated in value.items():
        if isinstance(stated, dict):
            yield from ((f"{prefix}.{key}.{name}", item) for name, item in stated.items())
        else:
            yield f"{prefix}.{key}", stated


def dspy_output(value: Any) -> Pairs:
    """Yield the answers of a language model of DSPy, a list of texts."""
    for at, text in enumerate(items(value)):
        if isinstance(text, str):
            yield f"{at}.message.role", "assistant"
            yield f"{at}.message.content", text


def litellm_answer(text: str, _: Any) -> Pairs:
    """Yield the answer where its text alone was written."""
    yield "0.message.role", "assistant"
    yield "0.message.content", text


def litellm_input(value: Any) -> Pairs:
    """Yield LiteLLM's messages, which have neither names nor the ids of calls answered (litellm 0.1.51)."""
    for at, message in enumerate(items(fields(value).get("messages"))):
        yield from _litellm_message(at, fields(message))


def litellm_output(value: Any) -> Pairs:
    """Yield the answers where the whole response was written: that is done where the last one has no text."""
    for at, choice in enumerate(items(fields(value).get("choices"))):
        yield from _litellm_message(at, fields(fields(choice).get("message")))


def _litellm_message(at: int, message: Any) -> Pairs:
    if message.get("role"):
        yield f"{at}.message.role", message["role"]
    if message.get("reasoning_content") or message.get("thinking_blocks"):
        return  # contents in an order that the text does not show
    payload = message.get("content")
    if isinstance(payload, str) and payload:
        yield f"{at}.message.content", payload
    for place, block in enumerate(items(payload)):
        prefix = f"{at}.message.contents.{place}"
        if fields(block).get("type") == "text":
            yield from content(prefix, "text", block.get("text") or None)
        elif fields(block).get("type") == "image_url":
            yield from image(prefix, fields(block.get("image_url")).get("url"))
    for key, stated in calls(message.get("tool_calls")):
        yield f"{at}.{key}", stated


def agents_input(value: Any) -> Pairs:
    """Yield what the OpenAI Agents SDK sent to Responses, a list of items (2.6.0)."""
    for at, item in enumerate(objects(value), 1):
        for key, payload in _agents_item(item):
            yield f"{at}.{key}", payload


def agents_output(value: Any) -> Pairs:
    """Yield what came back: calls are gathered in one message until an item of another kind follows."""
    at = calls_so_far = 0
    for item in items(fields(value).get("output")):
        kind = kind_of(item)
        if kind == "message":
            yield from _agents_answer(at, item)
        elif kind in {"function_call", "custom_tool_call"}:
            yield f"{at}.message.role", "assistant"
            yield from _agents_call(f"{at}.message.tool_calls.{calls_so_far}", item)
            calls_so_far += 1
            continue
        elif kind == "reasoning":
            stated = list(_agents_reasoning(item))
            if not stated:
                continue
            for key, payload in stated:
                yield f"{at}.{key}", payload
        else:
            return  # what is made of other items differs by version, and so does the place of what follows
        at, calls_so_far = at + 1, 0


def agents_system(value: Any) -> Pairs:
    """Yield the first message of a request, which is stated in the response."""
    stated = fields(value).get("instructions")
    if isinstance(stated, str) and stated:
        yield "0.message.role", "system"
        yield "0.message.content", stated


def agents_chat(value: Any) -> Pairs:
    """Yield chat messages, which the SDK sends to models without Responses; calls are counted throughout."""
    so_far = 0
    for at, message in enumerate(objects(value)):
        payload = message.get("content")
        if isinstance(message.get("role"), str):
            yield f"{at}.message.role", message["role"]
        if isinstance(payload, str) and payload:
            yield f"{at}.message.content", payload
        for place, block in enumerate(items(payload)):
            if fields(block).get("type") == "text" and block.get("text"):
                yield from content(f"{at}.message.contents.{place}", "text", block["text"])
        if isinstance(message.get("tool_call_id"), str):
            yield f"{at}.message.tool_call_id", message["tool_call_id"]
        for item in items(message.get("tool_calls")):
            function = fields(fields(item).get("function"))
            asked = function.get("arguments")
            prefix = f"{at}.message.tool_calls.{so_far}"
            yield from call(prefix, fields(item).get("id"), function.get("name"), None if asked == "{}" else asked)
            so_far += 1


def _agents_item(item: Any) -> Pairs:
    kind = "message" if "type" not in item and "content" in item else kind_of(item)
    if kind == "message":
        if item.get("role"):
            yield "message.role", item["role"]
        payload = item.get("content")
        if isinstance(payload, str) and payload:
            yield "message.content", payload
        for at, block in enumerate(items(payload)):
            yield from _agents_block(f"message.contents.{at}", fields(block))
    elif kind in {"function_call", "custom_tool_call"}:
        yield "message.role", "assistant"
        yield from _agents_call("message.tool_calls.0", item)
    elif kind in {"function_call_output", "custom_tool_call_output"}:
        yield "message.role", "tool"
        if item.get("call_id") is not None:
            yield "message.tool_call_id", item["call_id"]
        if item.get("output") is not None:
            yield "message.content", as_text(item["output"])
    elif kind == "reasoning":
        yield from _agents_reasoning(item)


def _agents_block(prefix: str, block: Any) -> Pairs:
    kind = kind_of(block)
    if kind in {"input_text", "output_text"}:
        yield from content(prefix, "text", block.get("text"))
    elif kind == "refusal":
        yield from content(prefix, "text", block.get("refusal"))
    elif kind == "input_image" and block.get("image_url"):
        yield from image(prefix, block["image_url"])


def _agents_answer(at: int, item: Any) -> Pairs:
    if item.get("role"):
        yield f"{at}.message.role", item["role"]
    payload = []
    for place, block in enumerate(objects(item.get("content"))):
        text = block.get("refusal") if block.get("type") == "refusal" else block.get("text")
        if isinstance(text, str):
            yield from content(f"{at}.message.contents.{place}", "text", text)
            payload.append(text)
    if payload:
        yield f"{at}.message.content", "\n".join(payload)


def _agents_call(prefix: str, item: Any) -> Pairs:
    if item.get("type") == "custom_tool_call":
        asked = None if item.get("input") is None else {"input": item["input"]}
    else:
        asked = None if item.get("arguments") == "{}" else item.get("arguments")
    yield from call(prefix, item.get("call_id"), item.get("name"), asked)


def _agents_reasoning(item: Any) -> Pairs:
    texts = next((stated for key in ("summary", "content") if (stated := _texts(item.get(key)))), [])
    secret = item.get("encrypted_content")
    if not texts and not secret:
        return
    yield "message.role", "assistant"
    yield from content("message.contents.0", "reasoning", _JOINED.join(texts) if texts else None)
    if secret:
        yield "message.contents.0.message_content.encrypted_content", secret
    if item.get("id"):
        yield "message.contents.0.message_content.id", item["id"]


def _texts(value: Any) -> list[str]:
    return [text for part in items(value) if isinstance(text := fields(part).get("text"), str) and text]
