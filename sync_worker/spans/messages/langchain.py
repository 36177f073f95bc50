"""Messages of LangChain: serialised objects, dicts named by type, and tuples."""

from __future__ import annotations

from typing import Any

from sync_worker.spans.messages.parts import first_string

#: Last part of a serialised object's id, without "Chunk", to the type that its dict form has.
_CLASSES = {
    "HumanMessage": "human",
    "AIMessage": "ai",
    "SystemMessage": "system",
    "ToolMessage": "tool",
    "FunctionMessage": "function",
    "ChatMessage": "chat",
}
_TYPES = frozenset({"human", "ai", "system", "tool", "function", "chat", "developer"})
_TUPLE_ROLES = frozenset({"human", "ai", "system", "tool", "user", "assistant", "developer"})
_FINISH_KEYS = ("finish_reason", "stop_reason", "finishReason", "done_reason")


def plain_message(value: object) -> dict[str, Any] | None:
    """Return a LangChain message as a dict with role and content, or None for anything else."""
    if isinstance(value, list):
        return _from_tuple(value)
    if not isinstance(value, dict):
        return None
    if value.get("type") == "constructor":
        return _from_constructor(value)
    kind = _type_of(value.get("type"))
    if kind is None or (kind != "chat" and "role" in value):
        return None
    data = value.get("data")
    if isinstance(data, dict) and "content" not in value:
        value = {**{key: item for key, item in value.items() if key not in {"data", "type"}}, **data}
    return _with_role(kind, value)


def constructed(value: dict[str, Any]) -> dict[str, Any] | None:
    """Return the keyword arguments of a serialised object that is no message, such as a prompt value."""
    kwargs = value.get("kwargs")
    if value.get("type") == "constructor" and "lc" in value and isinstance(kwargs, dict):
        return kwargs
    return None


def _type_of(name: object) -> str | None:
    if not isinstance(name, str):
        return None
    return name if name in _TYPES else _CLASSES.get(name.removesuffix("Chunk"))


def _from_constructor(value: dict[str, Any]) -> dict[str, Any] | None:
    path, kwargs = value.get("id"), constructed(value)
    if kwargs is None or not isinstance(path, list) or not path:
        return None
    kind = _type_of(path[-1])
    beside = {key: item for key, item in value.items() if key not in {"lc", "type", "id", "kwargs", "name"}}
    return None if kind is None else _with_role(kind, {**beside, **kwargs})


def _from_tuple(value: list[Any]) -> dict[str, Any] | None:
    if len(value) != 2 or not isinstance(value[0], str) or value[0] not in _TUPLE_ROLES:
        return None
    return {"role": value[0], "content": value[1]} if isinstance(value[1], str | list) else None


def _with_role(kind: str, fields: dict[str, Any]) -> dict[str, Any] | None:
    """Add the role, and the finish reason that LangChain keeps in the response's metadata."""
    if "content" not in fields and "tool_calls" not in fields:
        return None
    role = fields.get("role") if kind == "chat" else kind
    plain = {**fields, "role": role if isinstance(role, str) and role else "user"}
    metadata = fields.get("response_metadata")
    finish = first_string(metadata, _FINISH_KEYS) if isinstance(metadata, dict) else None
    if finish is not None:
        plain.setdefault("finish_reason", finish[1])
    if isinstance(metadata, dict) and isinstance(metadata.get("body"), dict):
        plain.setdefault("error", metadata["body"])  # what the provider answered in place of a message
    return plain
