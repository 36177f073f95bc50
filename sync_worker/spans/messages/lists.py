"""Lists of messages. One element that is no message becomes a part of its own; the others stay messages."""

from __future__ import annotations

from typing import Any

from sync_worker.json_text import parse
from sync_worker.spans.messages.beside import FINISH_KEYS
from sync_worker.spans.messages.blocks import BLOCK_TYPES, block_parts, to_parts
from sync_worker.spans.messages.chat import chat_message, odd_message
from sync_worker.spans.messages.conversation import Draft, Message
from sync_worker.spans.messages.dialects import FOREIGN_KEYS, plain_messages
from sync_worker.spans.messages.encoded import encoded_blocks
from sync_worker.spans.messages.langchain import plain_message
from sync_worker.spans.messages.parts import carries, tool_call, value_part, with_rest
from sync_worker.spans.messages.responses import is_sure_item, response_item
from sync_worker.spans.messages.untyped import is_known, untyped_parts

_CALL_KEYS = ("arguments", "args")
_ANSWER_ENDS = ("_output", "_response", "_result")


def read_messages(value: object, role: str) -> list[Message] | None:
    """Return the messages that a value is: one, or several where a framework writes several as one; or None."""
    if isinstance(value, dict) and "role" in value and value.keys().isdisjoint(FOREIGN_KEYS):
        message = chat_message(value, role)
        return None if message is None else [message]
    plain = plain_message(value)
    if plain is not None:
        return _all([chat_message(plain, role)])
    if not isinstance(value, dict):
        return None
    content_parts = plain_messages(value)
    if content_parts is not None:
        return _all([chat_message(one, role) or odd_message(one, role) for one in content_parts])
    call = _bare_call(value)
    if call is not None:
        return [{"role": role, "parts": [call]}]
    return _all([response_item(value) or chat_message(value, role)])


def read_message(value: object, role: str) -> Message | None:
    """Return the one message that a value is, or None."""
    messages = read_messages(value, role)
    return messages[0] if messages is not None and len(messages) == 1 else None


def _all(messages: list[Message | None]) -> list[Message] | None:
    found = [message for message in messages if message is not None]
    return found or None


def read_list(value: object, role: str) -> Draft | None:
    """Return the conversation that a list is: of messages, of blocks of one message, or a batch of one."""
    if not isinstance(value, list) or not value:
        return None
    value = _decoded(value)
    draft = Draft()
    odd: list[tuple[int, object]] = []  # where it stands among the messages, and what
    for element in value:
        definition = _tool_definition(element)
        messages = None if definition is not None else read_messages(element, role)
        if definition is not None:
            draft.tools.append(definition)
        elif messages is None:
            odd.append((len(draft.messages), element))
        else:
            draft.messages += messages
    if odd:
        return _with_odd(draft, odd, role) if any(map(_is_sure, value)) else _read_other_list(value, role)
    if all(_is_bare_call(element) for element in value):
        _join(draft)
    return draft


def _with_odd(draft: Draft, odd: list[tuple[int, object]], role: str) -> Draft:
    """Put what is no message where it stood, as messages with parts of its own types."""
    messages: list[Message] = []
    begun = 0
    for at, element in odd:
        messages += draft.messages[begun:at]
        begun = at
        inner = read_list(element, role) if isinstance(element, list) else None
        if inner is not None:
            messages += inner.messages
            draft.tools += inner.tools
        elif carries(element):
            messages.append(_odd_element(element, role))
    draft.messages = messages + draft.messages[begun:]
    return draft


def _decoded(value: list[Any]) -> list[Any]:
    """Return a list whose messages, or all contents of them, are JSON text, with these as values."""
    if isinstance(value[0], str) and all(isinstance(element, str) and element[:1] == "{" for element in value):
        parsed = [parse(element) for element in value]
        return (
            [inner for _, inner in parsed] if all(is_json and isinstance(v, dict) for is_json, v in parsed) else value
        )
    at = [index for index, element in enumerate(value) if _may_hold_blocks(element)]
    blocks = [encoded_blocks(value[index]["content"]) for index in at]
    if not at or None in blocks or all(value[index]["role"] == "assistant" for index in at):
        return value
    decoded = list(value)
    for index, content in zip(at, blocks, strict=True):
        decoded[index] = {**value[index], "content": content}
    return decoded


def _may_hold_blocks(element: object) -> bool:
    """Whether a message has a text that may be blocks; of a tool's answers each is looked at by itself."""
    if not isinstance(element, dict) or element.get("role") not in _SPEAKERS:
        return False
    content = element.get("content")
    return isinstance(content, str) and content[:1] == "["


_SPEAKERS = ("user", "assistant", "system")


def _is_sure(element: object) -> bool:
    """Whether an element can be nothing but a message, so that what stands beside it belongs to messages as well."""
    if not isinstance(element, dict):
        return plain_message(element) is not None
    if "role" in element:
        return chat_message(element, "") is not None
    if is_sure_item(element) or _bare_call(element) is not None:
        return True
    return plain_message(element) is not None or plain_messages(element) is not None


def _odd_element(element: object, role: str) -> Message:
    """Return the message for what is no message: its role where it has one, with a part of its own type."""
    if not isinstance(element, dict):
        return {"role": role, "parts": [value_part(element)]}
    kind = element.get("type")
    if "role" in element or not isinstance(kind, str) or not kind:
        return odd_message(element, role)
    parts = block_parts(element)
    if parts == [element]:
        parts = [with_rest({"type": kind}, element, {"type"})]
    return {"role": "tool" if kind.endswith(_ANSWER_ENDS) else role, "parts": parts}


def _read_other_list(value: list[Any], role: str) -> Draft | None:
    if all(isinstance(block, dict) for block in value) and any(_is_block(block) for block in value):
        typed = all("type" in block or untyped_parts(block) for block in value)
        return Draft(messages=[{"role": role, "parts": to_parts(value)}]) if typed else None
    return read_list(value[0], role) if len(value) == 1 and isinstance(value[0], list) else None


def _is_block(block: dict[str, Any]) -> bool:
    kind = block.get("type")
    if isinstance(kind, str):
        return kind in BLOCK_TYPES and block_parts(block) != [block]
    return kind is None and is_known(block)


def _is_bare_call(element: object) -> bool:
    return (
        isinstance(element, dict)
        and "role" not in element
        and ("toolCallId" in element or "function_call" in element or _bare_call(element) is not None)
    )


def _bare_call(value: dict[str, Any]) -> dict[str, Any] | None:
    """Return the part for a call that stands without a message; a tool's definition has no arguments."""
    if "role" in value or "content" in value:
        return None
    if "toolCallId" in value and "toolName" in value and "type" not in value:
        return tool_call(value)
    function = value.get("function")
    if isinstance(function, dict):
        return tool_call(value) if "arguments" in function and isinstance(function.get("name"), str) else None
    if not isinstance(value.get("name"), str) or value.keys().isdisjoint(_CALL_KEYS):
        return None
    is_call = value.get("type") in (None, "function", "tool_call") and ("id" in value or value.keys() <= _CALL_ALONE)
    return tool_call(value) if is_call else None


_CALL_ALONE = frozenset({"name", "arguments", "type", "index"})


def _join(draft: Draft) -> None:
    """Join calls that stand in a list without messages (Vercel's output): they are one turn."""
    parts = [part for message in draft.messages for part in message["parts"]]
    draft.messages = [{"role": draft.messages[0]["role"], "parts": parts}]


def is_choice(value: object) -> bool:
    """Whether a value is one of several answers of OpenAI's API, or the conventions' gen_ai.choice event."""
    return (
        isinstance(value, dict)
        and "role" not in value
        and any(isinstance(value.get(key), dict | str) for key in ("message", "delta", "text"))
        and ("index" in value or any(key in value for key in FINISH_KEYS))
    )


def _tool_definition(value: object) -> dict[str, Any] | None:
    """Return the definition in what Langfuse's LangChain callback writes for each tool: a message of a tool."""
    if not isinstance(value, dict) or value.get("role") != "tool" or value.keys() != {"role", "content"}:
        return None
    content = value["content"]
    if isinstance(content, dict) and content.get("type") == "function" and isinstance(content.get("function"), dict):
        return content
    return None
