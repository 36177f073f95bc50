"""Parts of a message: how each kind is built, and how nothing beside its known fields gets lost."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sync_worker.json_text import dump, parse_strictly
from sync_worker.spans import python_text
from sync_worker.spans.messages.conversation import Part

#: Where a call's id stands, in a call and in its answer; a plain "id" next to another of them is the item's own.
CALL_ID_KEYS = ("call_id", "tool_call_id", "toolCallId", "tool_use_id", "toolUseId", "callId", "id")
_CALL_NAME_KEYS = ("name", "toolName", "tool_name", "functionName", "function_name")
_ARGUMENT_KEYS = ("arguments", "args", "input", "parameters", "tool_kwargs", "tool_args")
#: Types that mean something to readers; an extra field must not pose as one of them.
_TAKEN_TYPES = frozenset(
    {"text", "tool_call", "tool_call_response", "reasoning", "uri", "blob", "file", "thinking", "binary"}
)


def carries(value: object) -> bool:
    """Whether there is anything in a value."""
    return value is not None and not (isinstance(value, str | list | dict) and not value)


def text_part(content: str) -> Part:
    """Return a part that is read as it stands."""
    return {"type": "text", "content": content}


def value_part(value: object) -> Part:
    """Return a text part for a value of any kind: a string as it is, anything else as JSON."""
    return text_part(value if isinstance(value, str) else dump(value))


def extra_part(key: str, value: object) -> Part:
    """Return a part for a field that has no place in the conventions, under its own name as the type."""
    if key in _TAKEN_TYPES:
        return text_part(value) if key == "text" and isinstance(value, str) else {"type": "_" + key, "content": value}
    return {"type": key, "content": value} if key else text_part(dump({key: value}))


def plain_text(value: object) -> str | None:
    """Return the text that a value is wrapped in, or None where there is more to it than text.

    Mistral's thoughts are lists of text chunks, OpenAI's Assistants wrap a text as {"value"}, Bedrock as {"text"}.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        texts = [plain_text(item) for item in value]
        return "".join(text for text in texts if text is not None) if texts and None not in texts else None
    if isinstance(value, dict):
        known = {key: item for key, item in value.items() if key not in {"type", "annotations"} or carries(item)}
        kind = known.pop("type", None)
        if len(known) == 1 and (kind is None or (isinstance(kind, str) and kind.endswith("text"))):
            [(key, inner)] = known.items()
            return inner if key in {"text", "value", "content"} and isinstance(inner, str) else None
    return None


def with_rest(part: Part, source: Mapping[str, Any], used: Collection[str]) -> Part:
    """Add to a part the fields of its source that were not used; the part is changed and returned."""
    for key, value in source.items():
        if key in used or not carries(value):
            continue
        name = key
        while name in part:
            name = "_" + name
        part[name] = value
    return part


def first_string(source: Mapping[str, Any], keys: Collection[str]) -> tuple[str, str] | None:
    """Return the first of the keys that holds a non-empty string, and that string."""
    for key in keys:
        value = source.get(key)
        if isinstance(value, str) and value:
            return key, value
    return None


def arguments(value: object) -> object:
    """Return arguments written as JSON text as the object they stand for; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        is_json, parsed = parse_strictly(value)
        if is_json and isinstance(parsed, dict):
            return parsed
    return value


def is_reading(value: object, payload: object) -> bool:
    """Whether a value is the content, read into an object: fields that nobody gave are in it as well, as null.

    OpenAI's SDK puts it beside the text (openai-python, lib/_parsing/_completions.py: `parsed`, `parsed_arguments`),
    and who cannot serialise it shows it as Python does (langchain-core, load/serializable.py, to_json_not_implemented).
    """
    if isinstance(payload, str):
        payload = parse_strictly(payload)[1]
    if isinstance(value, dict) and value.get("type") == "not_implemented" and "lc" in value:
        value = value.get("repr")
    if isinstance(value, str):
        value = python_text.read(value)[1]
    return payload is not None and (value == payload or _without_nulls(value) == _without_nulls(payload))


def _without_nulls(value: object) -> object:
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def tool_call(call: Mapping[str, Any]) -> Part | None:
    """Return the part for a call of a tool in any framework's spelling, or None for something else."""
    flat: dict[str, Any] = dict(call)
    for wrapper in ("function", "custom"):
        inner = flat.get(wrapper)
        if isinstance(inner, dict):
            del flat[wrapper]
            flat = with_rest(dict(inner), flat, ())
    name = first_string(flat, _CALL_NAME_KEYS)
    if name is None:
        return None
    part: Part = {"type": "tool_call"}
    used = {"type", name[0]}
    call_id = first_string(flat, CALL_ID_KEYS)
    if call_id is not None:
        part["id"] = call_id[1]
        used.add(call_id[0])
    part["name"] = name[1]
    for key in _ARGUMENT_KEYS:
        if flat.get(key) is not None:
            part["arguments"] = arguments(flat[key])
            used.add(key)
            break
    if "parsed_arguments" in flat and is_reading(flat["parsed_arguments"], part.get("arguments")):
        used.add("parsed_arguments")
    return with_rest(part, flat, used)


def tool_response(call_id: object, response: object, name: object = None) -> Part:
    """Return the part for a tool's answer, under the conventions' key and under pydantic-ai's, which Kelet reads."""
    part: Part = {"type": "tool_call_response"}
    if isinstance(call_id, str) and call_id:
        part["id"] = call_id
    if isinstance(name, str) and name:
        part["name"] = name
    part["response"] = part["result"] = response
    return part
