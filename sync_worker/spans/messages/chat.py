"""One message in the shape that most frameworks share: a role, a content, and calls of tools beside it."""

from __future__ import annotations

from typing import Any

from sync_worker.json_text import parse
from sync_worker.spans.messages.beside import FINISH_KEYS, is_beside
from sync_worker.spans.messages.blocks import block_parts, invocation_parts, thought_parts, to_parts
from sync_worker.spans.messages.conversation import Message, Part
from sync_worker.spans.messages.encoded import decoded_content
from sync_worker.spans.messages.parts import (
    CALL_ID_KEYS,
    carries,
    extra_part,
    first_string,
    is_reading,
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
    "chatbot": "assistant",  # Cohere
    "bot": "assistant",
    "gpt": "assistant",  # ShareGPT
    "observation": "tool",
    "ipython": "tool",  # Llama
    "tool-call": "assistant",  # smolagents
    "tool-response": "tool",
    "tool_call": "assistant",
    "tool_response": "tool",
}
#: Roles whose text is a plain text part; a tool's is a response, and a thought has a type of its own.
_SPEAKERS = frozenset(role for role, name in ROLES.items() if name != "tool" and role != "thinking")
_ROLE_AND_CONTENT = 2  # keys of a message that has only these
#: Where frameworks keep a thought beside the content, some of them under several names at once.
_THOUGHT_KEYS = (
    "reasoning_content",
    "reasoning",
    "thinking",
    "thought",
    "reasoning_text",
    "reasoningContent",
    "tool_plan",
)
_THOUGHTS = ("thinking_blocks", "reasoning_details", *_THOUGHT_KEYS)
_CALLS = ("tool_calls", "toolCalls", "invalid_tool_calls", "function_call")
_CALL_HOLDERS = (*_CALLS, "additional_kwargs")
#: Keys of which a message has at least one.
_SUBSTANCE = frozenset(
    {
        *("content", "parts", "tool_calls", "function_call", "tool_call_id", "refusal", "audio", "images", "toolCalls"),
        *_THOUGHTS,
    }
)
_ALWAYS = frozenset({"content", "parts"})
#: A message without a role has nothing but these.
_ROLELESS = frozenset({"content", "tool_calls", "function_call"})
_BESIDE_ROLELESS = frozenset(
    {*FINISH_KEYS, *_THOUGHT_KEYS, "refusal", "usage", "cached", "logprobs", "annotations", "index", "name"}
)


def role_of(role: str) -> str:
    """Return the conventions' name of a role, or the role itself where it has none."""
    return ROLES.get(role) or ROLES.get(role.lower()) or role


def chat_message(value: dict[str, Any], default_role: str) -> Message | None:
    """Return the message, or None for a dict that is not one."""
    role = value.get("role")
    if isinstance(role, str) and role:
        content = value.get("content")
        if len(value) == _ROLE_AND_CONTENT and role in _SPEAKERS and isinstance(content, str) and content[:1] != "[":
            return {"role": ROLES[role], "parts": to_parts(content)}  # as nearly all are: nothing else to look for
        if not _has_substance(value, role):
            return None
    elif role is None and _is_roleless(value):
        role = default_role
    else:
        return None
    return _message(role, {key: item for key, item in value.items() if key != "role"})


def _has_substance(value: dict[str, Any], role: str) -> bool:
    """Whether there is what a message states; with a role that no framework has, it has to state something."""
    if role in ROLES or role.lower() in ROLES:
        return not value.keys().isdisjoint(_SUBSTANCE) or value.keys() <= {"role", "name", "id"}
    found = value.keys() & _SUBSTANCE
    return bool(found & _ALWAYS) or any(carries(value[key]) and not isinstance(value[key], bool) for key in found)


def odd_message(value: dict[str, Any], default_role: str) -> Message:
    """Return a message for an element of a list of messages that is none by its keys: each of its fields is a part."""
    role = value.get("role")
    if isinstance(role, str) and role:
        return _message(role, {key: item for key, item in value.items() if key != "role"})
    return {"role": default_role, "parts": block_parts(value)}


def _is_roleless(value: dict[str, Any]) -> bool:
    if value.keys().isdisjoint(_ROLELESS):
        return False
    beside = value.keys() - _ROLELESS - {"role"}
    return not beside or (beside <= _BESIDE_ROLELESS and not beside <= {"name", "index"})


def _message(role: str, fields: dict[str, Any]) -> Message:
    """Build the message by taking field after field; whatever is left in the end becomes a part as well."""
    message: Message = {"role": role_of(role), "parts": []}
    parts: list[Part] = message["parts"]
    if "additional_kwargs" in fields:
        _unfold(fields)
    name = fields.get("name")
    if isinstance(name, str) and name:
        message["name"] = fields.pop("name")
    keys = fields.keys()
    if not keys.isdisjoint(FINISH_KEYS):
        finish = first_string(fields, FINISH_KEYS)
        if finish is not None:
            message["finish_reason"] = fields.pop(finish[0])
    if not keys.isdisjoint(_THOUGHTS):
        _take_reasoning(fields, parts)
    content = fields.get("content")
    if isinstance(content, str) and content[:1] == "[":
        fields["content"] = decoded_content(content, message["role"])
    content_parts = _take_response(fields, name) if message["role"] == "tool" else _take_content(fields)
    if role == "thinking":
        content_parts = [{**part, "type": "reasoning"} if part["type"] == "text" else part for part in content_parts]
    parts += content_parts
    if not keys:
        return message
    if carries(fields.get("refusal")):
        parts += block_parts({"type": "refusal", "refusal": fields.pop("refusal")})
    _take_audio(fields, parts)
    if not keys.isdisjoint(_CALL_HOLDERS):
        _take_calls(fields, parts)
    parts += _take_pictures(fields)
    if isinstance(fields.get("toolInvocations"), list):
        known = [part.get("id") for part in parts if part["type"] == "tool_call"]
        for value in fields.pop("toolInvocations"):
            made = invocation_parts(value) if isinstance(value, dict) else block_parts(value)
            parts += made if made[0].get("id") not in known or made[0]["type"] != "tool_call" else []
    if "parsed" in fields and any(is_reading(fields["parsed"], part.get("content")) for part in content_parts):
        del fields["parsed"]
    parts += [extra_part(key, item) for key, item in fields.items() if carries(item) and not is_beside(key, item)]
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
    for key in _THOUGHT_KEYS:
        if carries(fields.get(key)) and not isinstance(fields[key], bool | int | float):
            known = [part.get("content") for part in parts]
            parts += [
                part
                for part in thought_parts(fields.pop(key))
                if part.get("content") not in known or part.keys() != {"type", "content"}
            ]


def _take_content(fields: dict[str, Any]) -> list[Part]:
    """Take `parts` and `content`; Vercel's UI messages state the same in both."""
    if not isinstance(fields.get("parts"), list):
        return to_parts(fields.pop("content", None))
    parts = [part for block in fields.pop("parts") for part in block_parts(block)]
    content = fields.get("content")
    payload = "".join(
        part["content"] for part in parts if part["type"] == "text" and isinstance(part.get("content"), str)
    )
    if parts and isinstance(content, str) and content == payload:
        del fields["content"]
    return to_parts(fields.pop("content", None)) + parts


def _take_response(fields: dict[str, Any], name: object) -> list[Part]:
    """Take a tool's answer: it goes out as it came, whatever its shape."""
    bare = "content" in fields and not fields.get("parts")
    content = fields.get("content")
    content_parts = _take_content(fields)
    call_id = first_string(fields, CALL_ID_KEYS)  # a plain `id`: GenAI conventions up to 1.36, gen_ai.tool.message
    if any(part["type"] == "tool_call_response" for part in content_parts) or not (bare or content_parts or call_id):
        return content_parts
    if not bare and content_parts:
        content = (
            content_parts[0]["content"]
            if len(content_parts) == 1 and content_parts[0].keys() == {"type", "content"}
            else content_parts
        )
    part = tool_response(fields.pop(call_id[0]) if call_id else None, content, name)
    stated: dict[str, Any] = {key: fields.pop(key) for key in ("status", "is_error", "isError") if key in fields}
    return [with_rest(part, stated, ())]


def _take_pictures(fields: dict[str, Any]) -> list[Part]:
    """Take Ollama's `images`: Base64 texts beside the content."""
    images = fields.get("images")
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        return []
    del fields["images"]
    return [part for image in images if image for part in block_parts({"type": "image", "image": image})]


def _take_audio(fields: dict[str, Any], parts: list[Part]) -> None:
    audio = fields.get("audio")
    if isinstance(audio, dict):
        parts += block_parts({"type": "audio", "audio": fields.pop("audio")})


def _take_calls(fields: dict[str, Any], parts: list[Part]) -> None:
    """Take calls of tools. LangChain repeats them in additional_kwargs, and Vercel writes the list as JSON text."""
    for holder in (fields, fields.get("additional_kwargs")):
        if not isinstance(holder, dict):
            continue
        for key in _CALLS:
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
