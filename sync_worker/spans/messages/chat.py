"""One message in the shape that most frameworks share: a role, a content, and calls of tools beside it."""

from __future__ import annotations

from typing import Any

from sync_worker.json_text import parse
from sync_worker.spans.messages.blocks import block_parts, to_parts
from sync_worker.spans.messages.conversation import Message, Part
from sync_worker.spans.messages.parts import (
    CALL_ID_KEYS,
    carries,
    extra_part,
    first_string,
    tool_call,
    tool_response,
    with_rest,
)

#: Other names of the four roles. Roles that are not here stay as they are.
ROLES: dict[str, str] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "human": "user",
    "ai": "assistant",
    "model": "assistant",
    "thinking": "assistant",  # old OpenLLMetry gives a thought a message of its own
    "developer": "system",
    "function": "tool",
}
#: Keys of which a message has at least one.
_SUBSTANCE = frozenset(
    {
        *("content", "parts", "tool_calls", "function_call", "tool_call_id", "refusal", "reasoning"),
        *("reasoning_content", "audio"),
    }
)
#: A message without a role has nothing but these.
_ROLELESS = frozenset({"content", "tool_calls", "function_call"})
FINISH_KEYS = ("finish_reason", "finishReason", "stop_reason", "stopReason", "done_reason")
#: Said about a message, not in it: these are not carried into parts.
_BOOKKEEPING = frozenset(
    {
        *("id", "type", "index", "object", "created", "created_at", "createdAt", "timestamp", "model", "usage", "lc"),
        *("status", "logprobs", "stop_sequence", "service_tier", "system_fingerprint", "usage_metadata", "example"),
        *("response_metadata", "chunk_position", "cache_control"),
    }
)


def role_of(role: str) -> str:
    """Return the conventions' name of a role, or the role itself where it has none."""
    return ROLES.get(role) or ROLES.get(role.lower()) or role


def chat_message(value: dict[str, Any], default_role: str) -> Message | None:
    """Return the message, or None for a dict that is not one."""
    role = value.get("role")
    if isinstance(role, str) and role:
        if value.keys().isdisjoint(_SUBSTANCE) and not (role in ROLES and value.keys() <= {"role", "name", "id"}):
            return None
    elif role is None and value and value.keys() <= _ROLELESS | {"role"} and not value.keys().isdisjoint(_ROLELESS):
        role = default_role
    else:
        return None
    return _message(role, {key: item for key, item in value.items() if key != "role"})


def _message(role: str, fields: dict[str, Any]) -> Message:
    """Build the message by taking field after field; whatever is left in the end becomes a part as well."""
    message: Message = {"role": role_of(role), "parts": []}
    parts: list[Part] = message["parts"]
    _unfold(fields)
    name = fields.get("name")
    if isinstance(name, str) and name:
        message["name"] = fields.pop("name")
    finish = first_string(fields, FINISH_KEYS)
    if finish is not None:
        message["finish_reason"] = fields.pop(finish[0])
    _take_reasoning(fields, parts)
    spoken = _take_response(fields, name) if message["role"] == "tool" else _take_content(fields)
    if role == "thinking":
        spoken = [{**part, "type": "reasoning"} if part["type"] == "text" else part for part in spoken]
    parts += spoken
    if carries(fields.get("refusal")):
        parts += block_parts({"type": "refusal", "refusal": fields.pop("refusal")})
    _take_audio(fields, parts)
    _take_calls(fields, parts)
    parts += [extra_part(key, item) for key, item in fields.items() if carries(item) and key not in _BOOKKEEPING]
    return message


def _unfold(fields: dict[str, Any]) -> None:
    """Lift LangChain's additional_kwargs beside the fields, where nothing else stands."""
    more = fields.get("additional_kwargs")
    if isinstance(more, dict):
        left = {key: item for key, item in more.items() if carries(fields.get(key)) and carries(item)}
        fields["additional_kwargs"] = {key: item for key, item in left.items() if item != fields[key]}
        fields.update({key: item for key, item in more.items() if key not in left and carries(item)})


def _take_reasoning(fields: dict[str, Any], parts: list[Part]) -> None:
    """Take the reasoning from whichever fields hold it; frameworks repeat the same text under several names."""
    for key in ("thinking_blocks", "reasoning_details"):
        if isinstance(fields.get(key), list):
            parts += to_parts(fields.pop(key))
    for key in ("reasoning_content", "reasoning", "thinking"):
        if isinstance(fields.get(key), str):
            thought = fields.pop(key)
            if thought and all(part.get("content") != thought for part in parts):
                parts.append({"type": "reasoning", "content": thought})


def _take_content(fields: dict[str, Any]) -> list[Part]:
    """Take `parts` and `content`; Vercel's UI messages say the same in both."""
    raw_parts = fields.pop("parts") if isinstance(fields.get("parts"), list) else []
    parts = [part for block in raw_parts for part in block_parts(block)]
    content = fields.get("content")
    said = "".join(part["content"] for part in parts if part["type"] == "text" and isinstance(part.get("content"), str))
    if parts and isinstance(content, str) and content == said:
        del fields["content"]
    return to_parts(fields.pop("content", None)) + parts


def _take_response(fields: dict[str, Any], name: object) -> list[Part]:
    """Take a tool's answer: it goes out as it came, whatever its shape."""
    bare = "content" in fields and not fields.get("parts")
    content = fields.get("content")
    spoken = _take_content(fields)
    call_id = first_string(fields, CALL_ID_KEYS[:-1])
    if any(part["type"] == "tool_call_response" for part in spoken) or not (bare or spoken or call_id):
        return spoken
    if not bare:
        content = spoken[0]["content"] if len(spoken) == 1 and spoken[0].keys() == {"type", "content"} else spoken
    part = tool_response(fields.pop(call_id[0]) if call_id else None, content, name)
    told: dict[str, Any] = {key: fields.pop(key) for key in ("status", "is_error", "isError") if key in fields}
    return [with_rest(part, told, ())]


def _take_audio(fields: dict[str, Any], parts: list[Part]) -> None:
    audio = fields.get("audio")
    if isinstance(audio, dict):
        parts += block_parts({"type": "audio", "audio": fields.pop("audio")})


def _take_calls(fields: dict[str, Any], parts: list[Part]) -> None:
    """Take calls of tools. LangChain repeats them in additional_kwargs, and Vercel writes the list as JSON text."""
    for holder in (fields, fields.get("additional_kwargs")):
        if not isinstance(holder, dict):
            continue
        for key in ("tool_calls", "invalid_tool_calls", "function_call"):
            calls = holder.get(key)
            if isinstance(calls, str):
                _, calls = parse(calls)
            if isinstance(calls, dict):
                calls = [calls]
            if isinstance(calls, list):
                del holder[key]
                for call in calls:
                    _add_call(call, parts)


def _add_call(call: object, parts: list[Part]) -> None:
    """Add one call, unless a block of the content was that call already."""
    part = tool_call(call) if isinstance(call, dict) else None
    if part is None:
        parts += block_parts(call)
        return
    for known in parts:
        if known["type"] == "tool_call" and "id" in part and known.get("id") == part["id"]:
            if not carries(known.get("arguments")):
                known["arguments"] = part.get("arguments", {})
            if all(known.get(key, item) == item for key, item in part.items()):
                known.update(part)
                return
    parts.append(part)
