"""Gemini's contents and candidates, as its API, its SDKs and the Agent Development Kit write them."""

from __future__ import annotations

from typing import Any

from sync_worker.spans.messages.blocks import to_parts
from sync_worker.spans.messages.chat import FINISH_KEYS, chat_message
from sync_worker.spans.messages.conversation import Message, Part
from sync_worker.spans.messages.parts import carries, extra_part, first_string

_CANDIDATE_NOISE = frozenset({"index", "avgLogprobs", "avg_logprobs", "tokenCount", "token_count"}) | {
    "logprobsResult",
    "logprobs_result",
}
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
    """Return the messages of `contents`, one content or a list."""
    messages: list[Message] = []
    for element in value if isinstance(value, list) else [value]:
        message = content_message(element, role)
        if message is None:
            return None
        messages.append(message)
    return messages


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
        extra_part(key, item) for key, item in value.items() if carries(item) and key not in used | _CANDIDATE_NOISE
    ]
    return message


def instruction_parts(value: object) -> list[Part]:
    """Return the parts of a system instruction: text, a content, or a list of parts."""
    if isinstance(value, dict) and isinstance(value.get("parts"), list):
        return to_parts(value["parts"])
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
    """Join the tools of the configuration with those that Langfuse put beside it, which say less of the same."""
    tools = declared_tools(configured)
    names = {_name(tool) for tool in tools if isinstance(tool, dict)} - {None}
    return tools + [tool for tool in beside if not (isinstance(tool, dict) and _name(tool) in names)]


def _name(tool: dict[str, Any]) -> str | None:
    name = tool.get("name")
    return name if isinstance(name, str) else None
