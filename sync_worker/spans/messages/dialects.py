"""Messages of frameworks with keys of their own, as plain messages: dicts with a role and a content.

Each is stated by one key that the others lack. What a framework states beside role and content stays beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from sync_worker.json_text import parse
from sync_worker.spans.messages.beside import take_metadata
from sync_worker.spans.messages.parts import carries, first_string

Fields: TypeAlias = dict[str, Any]


def plain_messages(value: Fields) -> list[Fields] | None:
    """Return the plain messages that one message of a framework stands for, or None for anything else."""
    if value.keys().isdisjoint(_DIALECTS):
        return None
    for key, reader in _DIALECTS.items():
        if key in value:
            found = reader(dict(value))
            if found is not None:
                return found if isinstance(found, list) else [found]
    return None


def _blocks(value: Fields) -> Fields | None:
    """LlamaIndex: ChatMessage {role, blocks, additional_kwargs} (llama_index.core.base.llms.types)."""
    if not isinstance(value.get("role"), str):
        return None
    plain = _with_content(value, "blocks")
    if value["role"] == "tool" and isinstance(plain.get("content"), list):
        plain["content"] = _text_of(plain["content"])
    return plain


def _items(value: Fields) -> Fields | None:
    """Semantic Kernel: ChatMessageContent {role, items, metadata} (semantic_kernel.contents)."""
    if isinstance(value.get("role"), dict):
        value["role"] = next((item for item in value["role"].values() if isinstance(item, str)), None)
    if not isinstance(value.get("role"), str) or not isinstance(value["items"], list):
        return None
    take_metadata(value, "metadata")
    return _with_content(value, "items")


def _contents(value: Fields) -> Fields | None:
    """Microsoft's Agent Framework and Extensions.AI: {role, contents, authorName}; LangChain4j: {type, contents}."""
    role = value.get("role")
    if isinstance(role, dict):
        role = role.get("value")
    if role is None:
        role = _JAVA_ROLES.get(str(value.pop("type", None)))
    if not isinstance(role, str) or not isinstance(value["contents"], list):
        return None
    value["role"] = role
    author = first_string(value, ("authorName", "author_name"))
    if author is not None:
        value["name"] = value.pop(author[0])
    return _with_content(value, "contents")


def _with_content(value: Fields, key: str) -> Fields:
    """Move a framework's list of blocks to where others keep it; beside another content it stays a list of its own."""
    if not carries(value.get("content")) or _repeats(value[key], value["content"]):
        value.pop("content", None)
        return {"content" if name == key else name: item for name, item in value.items()}
    return {"parts" if name == key else name: item for name, item in value.items() if name == key or name != "parts"}


def _repeats(blocks: object, content: object) -> bool:
    return isinstance(blocks, list) and any(
        isinstance(block, dict) and content in (block.get("text"), block.get("Text")) for block in blocks
    )


def _text_of(blocks: list[Any]) -> Any:
    """Return blocks that are one text, and nothing more, as that text: what a tool answered."""
    only = blocks[0] if len(blocks) == 1 else None
    is_text = isinstance(only, dict) and only.keys() == {"block_type", "text"} and only["block_type"] == "text"
    return only["text"] if is_text and isinstance(only, dict) else blocks


#: LangChain4j's ChatMessageType and Spring AI's MessageType.
_JAVA_ROLES = {
    "USER": "user",
    "AI": "assistant",
    "ASSISTANT": "assistant",
    "SYSTEM": "system",
    "TOOL": "tool",
    "TOOL_EXECUTION_RESULT": "tool",
}


def _spring(value: Fields) -> Fields | None:
    """Spring AI: {messageType, text, metadata, media, toolCalls, responses} (org.springframework.ai.chat.messages)."""
    role = _JAVA_ROLES.get(str(value["messageType"]).upper())
    if role is None:
        return None
    del value["messageType"]
    take_metadata(value, "metadata")
    content: list[Any] = []
    for key in ("text", "textContent", "content"):
        text = value.get(key)
        if isinstance(text, str):
            content += (
                [{"type": "text", "text": text}] if text and {"type": "text", "text": text} not in content else []
            )
            del value[key]
    for key, kind in (("media", "media"), ("responses", "tool_result")):
        if isinstance(value.get(key), list):
            content += [{"type": kind, **item} if isinstance(item, dict) else item for item in value.pop(key)]
    if isinstance(value.get("content"), list):
        content += value.pop("content")
    return {**value, "role": role, "content": _alone(content)}


def _alone(content: list[Any]) -> Any:
    """Return a content that is one text as that text."""
    only = content[0] if len(content) == 1 else None
    return only["text"] if isinstance(only, dict) and only.keys() == {"type", "text"} else content


def _tool_requests(value: Fields) -> Fields | None:
    """LangChain4j: AiMessage {type: AI, text, toolExecutionRequests: [{id, name, arguments}]}."""
    role = _JAVA_ROLES.get(str(value.pop("type", "AI")))
    if role is None or not isinstance(value["toolExecutionRequests"], list):
        return None
    return {
        "role": role,
        "content": value.pop("text", None),
        "tool_calls": value.pop("toolExecutionRequests"),
        **value,
    }


def _typed(value: Fields) -> list[Fields] | Fields | None:
    """AutoGen: {source, content, type: …Message | …Event}; LangChain4j's short form: {type: USER, text}."""
    kind = value["type"]
    if not isinstance(kind, str) or "role" in value:
        return None
    if kind in _JAVA_ROLES and isinstance(value.get("text"), str):
        value["content"] = value.pop("text")
        name = value.pop("toolName", None)
        return {**({"name": name} if name else {}), **value, "role": _JAVA_ROLES[kind], "type": None}
    if "content" not in value or not (kind in _AUTOGEN or ("source" in value and kind.endswith(("Message", "Event")))):
        return None
    role = _AUTOGEN.get(kind) or ("user" if value.get("source") == "user" else "assistant")
    source = value.pop("source", None)
    del value["type"]
    named = {"name": source} if isinstance(source, str) else {"source": source}
    if source == role:
        named = {}
    if not carries(value.get("metadata")):
        value.pop("metadata", None)
    if kind == "ThoughtEvent":
        value["reasoning"] = value.pop("content")
    return {"role": role, **named, **value}


#: AutoGen's types whose role does not follow from who sent it (autogen_core.models, autogen_agentchat.messages).
_AUTOGEN = {
    "UserMessage": "user",
    "AssistantMessage": "assistant",
    "FunctionExecutionResultMessage": "tool",
    "ToolCallExecutionEvent": "tool",
    "ToolCallRequestEvent": "assistant",
    "ThoughtEvent": "assistant",
}


def _underscored(value: Fields) -> Fields | None:
    """Haystack: ChatMessage {_role, _content, _name, _meta} up to 2.8 (haystack.dataclasses.chat_message)."""
    role = value["_role"]
    if not isinstance(role, str):
        return None
    plain = {
        (key[1:] if key in {"_role", "_content", "_name", "_meta"} and key[1:] not in value else key): item
        for key, item in value.items()
    }
    take_metadata(plain, "meta")
    return plain


def _meta(value: Fields) -> Fields | None:
    """Haystack from 2.9 on: {role, content, name, meta}."""
    if not isinstance(value.get("role"), str) or "content" not in value or not isinstance(value["meta"], dict):
        return None
    take_metadata(value, "meta")
    return value


def _pascal(value: Fields) -> list[Fields] | None:
    """Read a .NET serializer's default: every key begins with a capital, the role is {Label}."""
    role = value["Role"]
    if isinstance(role, dict):
        role = next((item for item in role.values() if isinstance(item, str)), None)
    if not isinstance(role, str):
        return None
    lowered = _lowered(value)
    for key in ("items", "contents", "content", "toolCalls"):
        if isinstance(lowered.get(key), list):
            lowered[key] = [_lowered(item) if isinstance(item, dict) else item for item in lowered[key]]
    if "authorName" in lowered:
        lowered["name"] = lowered.pop("authorName")
    lowered["role"] = role
    return plain_messages(lowered) or [lowered]


def _lowered(value: Fields) -> Fields:
    return {
        key[:1].lower() + key[1:] if key[:1].lower() + key[1:] not in value else key: item
        for key, item in value.items()
    }


def _share_gpt(value: Fields) -> Fields | None:
    """Read ShareGPT's {from, value}, which fine-tuning data sets are made of."""
    role, payload = value["from"], value.get("value")
    if not isinstance(role, str) or not isinstance(payload, str) or "role" in value or "content" in value:
        return None
    rest = {key: item for key, item in value.items() if key not in {"from", "value"}}
    if role == "function_call":
        return {"role": "assistant", "function_call": payload, **rest}
    return {"role": role, "content": payload, **rest}


def _event(value: Fields) -> list[Fields] | None:
    """Azure AI Inference: an event whose body is JSON text under gen_ai.event.content (azure.ai.inference.tracing)."""
    body = value["gen_ai.event.content"]
    is_json, inner = parse(body) if isinstance(body, str) else (True, body)
    if not is_json or not isinstance(inner, dict):
        return None
    plain = {**{key: item for key, item in value.items() if key != "gen_ai.event.content"}, **inner}
    return None if "role" not in plain and "message" in plain else plain_messages(plain) or [plain]


def _cohere(value: Fields) -> Fields | None:
    """Read Cohere's v1 history: {role: USER | CHATBOT, message, tool_calls} (docs.cohere.com/v1/reference/chat)."""
    if not isinstance(value.get("role"), str) or not isinstance(value["message"], str) or "content" in value:
        return None
    return {("content" if key == "message" else key): item for key, item in value.items()}


def _pydantic(value: Fields) -> list[Fields] | None:
    """Pydantic AI: ModelRequest and ModelResponse {kind, parts: [{part_kind}]} (pydantic_ai.messages)."""
    kind, parts = value["kind"], value.get("parts")
    if kind not in ("request", "response") or not isinstance(parts, list) or "role" in value:
        return None
    rest = {key: item for key, item in value.items() if key not in {"kind", "parts", "instructions"}}
    made: list[Fields] = []
    if carries(value.get("instructions")):
        made.append({"role": "system", "content": value["instructions"]})
    for part in parts:
        role = _pydantic_role(part) if kind == "request" else "assistant"
        payload = _pydantic_parts(part)
        if made and made[-1]["role"] == role and "parts" in made[-1]:
            made[-1]["parts"] += payload
        else:
            made.append({"role": role, "parts": payload})
    if not made:
        made.append({"role": "user" if kind == "request" else "assistant", "parts": []})
    made[-1] = {**{key: item for key, item in rest.items() if key not in made[-1]}, **made[-1]}
    return made


def _pydantic_role(part: object) -> str:
    kind = part.get("part_kind") if isinstance(part, dict) else None
    if kind == "system-prompt":
        return "system"
    is_answer = kind == "tool-return" or (kind == "retry-prompt" and isinstance(part, dict) and part.get("tool_name"))
    return "tool" if is_answer else "user"


def _pydantic_parts(part: object) -> list[Any]:
    """Return a part; of a prompt of texts and media, each by itself."""
    if not isinstance(part, dict):
        return [part]
    plain = {key: item for key, item in part.items() if key != "timestamp"}
    if plain.get("part_kind") in ("user-prompt", "system-prompt") and isinstance(plain.get("content"), list):
        rest = {key: item for key, item in plain.items() if key not in {"content", "part_kind"} and carries(item)}
        return [*plain["content"], *([rest] if rest else [])]
    if plain.get("part_kind") == "retry-prompt" and not plain.get("tool_name"):
        plain["part_kind"] = "user-prompt"
    return [plain]


#: Key to reader, in this order.
_DIALECTS: dict[str, Callable[[Fields], Fields | list[Fields] | None]] = {
    "gen_ai.event.content": _event,
    "kind": _pydantic,
    "messageType": _spring,
    "toolExecutionRequests": _tool_requests,
    "blocks": _blocks,
    "items": _items,
    "contents": _contents,
    "_role": _underscored,
    "Role": _pascal,
    "from": _share_gpt,
    "meta": _meta,
    "message": _cohere,
    "type": _typed,
}
#: A message with a role and none of these is what most frameworks write.
FOREIGN_KEYS = frozenset(_DIALECTS)
