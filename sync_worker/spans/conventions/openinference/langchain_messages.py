"""LangChain's messages, as openinference-instrumentation-langchain writes them (0.1.29 to 0.1.80)."""

from __future__ import annotations

from typing import Any

from sync_worker.spans.conventions.openinference.openai_chat import function_call
from sync_worker.spans.conventions.openinference.writing import (
    Pairs,
    call,
    content,
    fields,
    image,
    items,
    objects,
)
from sync_worker.spans.versions import Version

#: From these versions on: calls as LangChain has parsed them count; the role of a user's own object is taken.
_PARSED_CALLS, _BARE_ROLE = (0, 1, 50), (0, 1, 56)

_ROLES = {
    "HumanMessage": "user",
    "AIMessage": "assistant",
    "SystemMessage": "system",
    "FunctionMessage": "function",
    "ToolMessage": "tool",
    "human": "user",
    "ai": "assistant",
    "system": "system",
    "function": "function",
    "tool": "tool",
}


def langchain_input(value: Any, version: Version) -> Pairs:
    """Yield the first row of messages of a model call; of a chain, whose messages are one row, the first message."""
    messages = items(fields(value).get("messages"))
    if messages:
        first = messages[0]
        observation = first if isinstance(first, list) else [first]
        if len(observation) == 2 and all(isinstance(item, str) for item in observation):  # ("user", "Hello")
            yield from (("0.message.role", observation[0]), ("0.message.content", observation[1]))
            return
        for at, message in enumerate(observation):
            for key, stated in _message(message, version):
                yield f"{at}.{key}", stated


def langchain_output(value: Any, version: Version) -> Pairs:
    """Yield the messages of the first row of generations."""
    generations = items(fields(value).get("generations"))
    stated = [message for item in items(generations[0] if generations else None) if (message := _content_text(item))]
    for at, message in enumerate(stated):
        for key, item in _message(message, version):
            yield f"{at}.{key}", item


def _content_text(generation: Any) -> dict[str, Any] | None:
    message = fields(generation).get("message")
    return message if isinstance(message, dict) and message else None


def _message(message: Any, version: Version) -> Pairs:
    """Yield a message: serialised by LangChain, as {"type", "data"}, as its bare fields, or a user's own object."""
    message = fields(message)
    if isinstance(message.get("kwargs"), dict):
        path = message.get("id")
        kind = str(path[-1]) if isinstance(path, list) and path else ""
        kwargs = message["kwargs"]
    elif isinstance(message.get("data"), dict):
        kind, kwargs = str(message.get("type")), message["data"]
    elif "additional_kwargs" in message:
        kind, kwargs = str(message.get("type")), message
    else:
        kind, kwargs = str(message.get("type")), {}
    role = _role(kind, kwargs) or (message.get("role") if version >= _BARE_ROLE else None)
    if isinstance(role, str) and role:
        yield "message.role", role
    yield from _contents(kwargs)
    yield from _calls(message, kwargs, version)


def _role(kind: str, kwargs: Any) -> Any:
    for start, role in _ROLES.items():
        if kind in {start, start + "Chunk"}:
            return role
    return kwargs.get("role") if kind.lower().startswith("chat") else None


def _contents(kwargs: Any) -> Pairs:
    payload = kwargs.get("content")
    if isinstance(payload, str) and payload:
        yield "message.content", payload
    for at, block in enumerate(items(payload)):
        prefix = f"message.contents.{at}"
        if isinstance(block, str):
            yield f"{prefix}.message_content.text", block
        elif fields(block).get("type") == "text":
            yield from content(prefix, "text", block.get("text") or None)
        elif fields(block).get("type") == "image_url":
            yield from image(prefix, fields(block.get("image_url")).get("url"))
    for key in ("tool_call_id", "name"):
        if isinstance(kwargs.get(key), str) and kwargs[key]:
            yield f"message.{key}", kwargs[key]
    yield from function_call(fields(kwargs.get("additional_kwargs")).get("function_call"))


def _calls(message: Any, kwargs: Any, version: Version) -> Pairs:
    """Yield the calls of the last place that has some."""
    places = (message, kwargs if version >= _PARSED_CALLS else {}, fields(kwargs.get("additional_kwargs")))
    found = next((stated for place in reversed(places) if (stated := items(place.get("tool_calls")))), [])
    for at, item in enumerate(objects(found)):
        function = fields(item.get("function")) or item
        yield from call(
            f"message.tool_calls.{at}",
            item.get("id"),
            function.get("name"),
            function.get("arguments", item.get("args")),
        )
