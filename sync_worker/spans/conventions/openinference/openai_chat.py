"""Chat completions, as the instrumentations of OpenAI and of the SDKs that are like it write them.

Read off openinference-instrumentation-openai 0.1.66 (the same since 0.1.18), -groq 0.1.33, -mistralai 2.2.2 and
-openai-agents 2.6.0 (its spans of chat completions).
"""

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
    objects,
)


def chat_input(value: Any) -> Pairs:
    """Yield the messages of a request."""
    for at, message in enumerate(items(fields(value).get("messages"))):
        yield from _indexed(at, chat_message(message))


def chat_output(value: Any) -> Pairs:
    """Yield the messages of a response's choices."""
    for choice in items(fields(value).get("choices")):
        at = fields(choice).get("index")
        if isinstance(at, int) and isinstance(choice.get("message"), dict):
            yield from _indexed(at, _answer(choice["message"], ids=True))


def groq_input(value: Any) -> Pairs:
    """Yield the messages of a request to Groq: one with its reasoning in it is stated as contents by newer versions."""
    for at, message in enumerate(items(fields(value).get("messages"))):
        yield from _indexed(at, chat_message(_without_reasoned(message)))


def groq_output(value: Any) -> Pairs:
    """Yield the messages of Groq's choices."""
    for choice in items(fields(value).get("choices")):
        at = fields(choice).get("index")
        if isinstance(at, int) and isinstance(choice.get("message"), dict):
            yield from _indexed(at, chat_message(_without_reasoned(choice["message"])))


def _without_reasoned(message: Any) -> Any:
    """Return a message without the content that stands beside reasoning."""
    if not fields(message).get("reasoning"):
        return message
    return {key: value for key, value in message.items() if key != "content"}


def mistral_input(value: Any) -> Pairs:
    """Yield the same for Mistral: lists of contents stay JSON, calls have no id."""
    for at, message in enumerate(items(fields(value).get("messages"))):
        yield from _indexed(at, _mistral_message(message))


def mistral_output(value: Any) -> Pairs:
    """Yield the messages of a response's choices; calls have no id."""
    body = fields(value).get("data", value)
    for choice in items(fields(body).get("choices")):
        at = fields(choice).get("index")
        if isinstance(at, int) and isinstance(choice.get("message"), dict):
            yield from _indexed(at, _answer(choice["message"], ids=False))


def chat_message(message: Any) -> Pairs:
    """Yield one message of a request."""
    message = fields(message)
    if message.get("role"):
        yield "message.role", message["role"]
    if message.get("tool_call_id"):
        yield "message.tool_call_id", message["tool_call_id"]
    payload = message.get("content")
    if payload and isinstance(payload, list) and all(isinstance(block, dict) for block in payload):
        for at, block in enumerate(payload):
            yield from _block(f"message.contents.{at}", block)
    elif payload and isinstance(payload, str | list):
        yield "message.content", as_text(payload)
    if message.get("name"):
        yield "message.name", message["name"]
    yield from function_call(message.get("function_call"))
    yield from calls(message.get("tool_calls"))


def function_call(value: Any) -> Pairs:
    """Yield the one call of a message in the manner before tools."""
    value = fields(value)
    if value.get("name"):
        yield "message.function_call_name", value["name"]
    if value.get("arguments"):
        yield "message.function_call_arguments_json", as_text(value["arguments"])


def calls(value: Any, *, ids: bool = True) -> Pairs:
    """Yield a message's tool calls."""
    for at, item in enumerate(objects(value)):
        function = fields(item.get("function"))
        yield from call(
            f"message.tool_calls.{at}",
            item.get("id") if ids else None,
            function.get("name"),
            function.get("arguments"),
        )


def _answer(message: dict[str, Any], *, ids: bool) -> Pairs:
    if message.get("role"):
        yield "message.role", message["role"]
    if message.get("content"):
        yield "message.content", message["content"]
    if ids:
        yield from function_call(message.get("function_call"))
    yield from calls(message.get("tool_calls"), ids=ids)


def _mistral_message(message: Any) -> Pairs:
    message = fields(message)
    if message.get("role"):
        yield "message.role", message["role"]
    payload = message.get("content")
    if payload:
        yield "message.content", payload if isinstance(payload, str) else json_of(payload)
    if message.get("name"):
        yield "message.name", message["name"]
    yield from function_call(message.get("function_call"))
    yield from calls(message.get("tool_calls"), ids=False)


def _block(prefix: str, block: dict[str, Any]) -> Pairs:
    if block.get("type") == "text":
        yield from content(prefix, "text", block.get("text") or None)
    elif block.get("type") == "image_url":
        address = block.get("image_url")
        yield from image(prefix, address.get("url") if isinstance(address, dict) else address)


def _indexed(at: int, pairs: Pairs) -> Pairs:
    for key, value in pairs:
        yield f"{at}.{key}", value
