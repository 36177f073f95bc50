"""Gemini's contents and candidates, as its API, its SDKs and the Agent Development Kit write them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sync_worker.spans.messages.beside import FINISH_KEYS, is_beside
from sync_worker.spans.messages.blocks import to_parts
from sync_worker.spans.messages.chat import chat_message
from sync_worker.spans.messages.conversation import Message, Part
from sync_worker.spans.messages.parts import carries, extra_part, first_string
from sync_worker.spans.messages.untyped import untyped_parts

_DECLARATION_KEYS = ("functionDeclarations", "function_declarations")


def content_message(value: object, role: str) -> Message | None:
    """Return the message of one content: text, or a dict with parts and perhaps a role."""
    if isinstance(value, str):
        return {"role": role, "parts": to_parts(value)}
    if isinstance(value, dict) and isinstance(value.get("parts"), list):
        named = value.get("role")
        return chat_message({**value, "role": named if isinstance(named, str) and named else role}, role)
    return None


def contents_messages(value: object, role: str) -> list[Message] | None:
    """Return the messages of `contents`: one content or a list, where parts may stand without their content."""
    elements = value if isinstance(value, list) else [value]
    found = [content_message(element, role) for element in elements]
    if not any(message is not None for message in found):
        parts = to_parts(elements) if elements and all(map(_is_part, elements)) else []
        return [{"role": role, "parts": parts}] if parts else None
    return [
        {"role": role, "parts": to_parts(element)} if message is None else message
        for element, message in zip(elements, found, strict=True)
        if message is not None or carries(element)
    ]


def _is_part(element: object) -> bool:
    return isinstance(element, dict) and bool(untyped_parts(element))


def candidate_message(value: object, role: str) -> Message | None:
    """Return the message of one candidate, with why it ended; a candidate may be without content."""
    if not isinstance(value, dict):
        return None
    content = value.get("content")
    finish = first_string(value, FINISH_KEYS)
    if content is None and finish is None:
        return None
    message: Message | None = {"role": role, "parts": []} if content in (None, {}) else content_message(content, role)
    if message is None and isinstance(content, dict) and isinstance(content.get("role"), str):
        message = chat_message({"content": None, **content}, role)
    if message is None:
        return None
    used = {"content"}
    if finish is not None:
        message["finish_reason"] = finish[1]
        used.add(finish[0])
    message["parts"] += [
        extra_part(key, item)
        for key, item in value.items()
        if carries(item) and key not in used and not is_beside(key, item)
    ]
    return message


def is_candidate(value: object) -> bool:
    """Whether a value is a candidate without its body: {content: {parts}, finishReason, index}."""
    content = value.get("content") if isinstance(value, dict) else None
    return isinstance(content, dict) and isinstance(content.get("parts"), list)


def instruction_parts(value: object) -> list[Part]:
    """Return the parts of a system instruction: text, a content, or a list of parts."""
    if isinstance(value, dict) and isinstance(value.get("parts"), list):
        beside = [
            extra_part(key, item) for key, item in value.items() if key not in {"parts", "role"} and carries(item)
        ]
        return to_parts(value["parts"]) + beside
    return to_parts(value)


def declared_tools(tools: list[Any]) -> list[Any]:
    """Return tools with each group of function declarations opened."""
    opened: list[Any] = []
    for tool in tools:
        key = next(
            (key for key in _DECLARATION_KEYS if isinstance(tool, dict) and isinstance(tool.get(key), list)), None
        )
        if key is None:
            opened.append(tool)
            continue
        opened += tool[key]
        rest = {name: item for name, item in tool.items() if name != key and carries(item)}
        opened += [rest] if rest else []
    return opened


def all_tools(beside: list[Any], configured: list[Any]) -> list[Any]:
    """Join the tools of the configuration with those that Langfuse put beside it, which state less of the same."""
    tools = declared_tools(configured)
    payload = {_name(tool): set(_texts(tool)) for tool in tools if isinstance(tool, dict)}
    return tools + [tool for tool in beside if not (isinstance(tool, dict) and _adds_nothing(tool, payload))]


def _adds_nothing(tool: dict[str, Any], payload: dict[str | None, set[str]]) -> bool:
    name = _name(tool)
    known = payload.get(name) if name is not None else None
    return known is not None and known.issuperset(_texts({**tool, "type": None}))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _name(tool: dict[str, Any]) -> str | None:
    name = tool.get("name")
    return name if isinstance(name, str) else None
