"""Items of the OpenAI Responses API, which mixes messages with calls, answers and reasoning in one list."""

from __future__ import annotations

from typing import Any

from sync_worker.spans.messages.blocks import to_parts
from sync_worker.spans.messages.conversation import Message, Part
from sync_worker.spans.messages.parts import CALL_ID_KEYS, first_string, tool_call, tool_response, with_rest

_CALLS = frozenset({"function_call", "custom_tool_call"})
_ANSWERS = frozenset({"function_call_output", "custom_tool_call_output"})
#: Items that the model's side adds, which are neither calls nor messages.
_ASSISTANT_ITEMS = frozenset({"mcp_list_tools", "compaction", "item_reference"})
_GOING_ON = frozenset({"in_progress", "queued"})
_ANSWER_ENDS = ("_call_output", "_approval_response")
_CALL_ENDS = ("_call", "_approval_request")


def response_item(value: dict[str, Any]) -> Message | None:
    """Return the message for an item other than a plain message, or None for anything else."""
    kind = value.get("type")
    if not isinstance(kind, str) or "role" in value:
        return None
    if kind in _CALLS:
        call = tool_call(value)
        return None if call is None else {"role": "assistant", "parts": [call]}
    if kind in _ANSWERS:
        return {"role": "tool", "parts": [_answer(value)]}
    if kind == "reasoning" and isinstance(value.get("summary"), list):
        return {"role": "assistant", "parts": _reasoning(value)}
    if kind.endswith(_ANSWER_ENDS):
        return {"role": "tool", "parts": [value]}
    if kind.endswith(_CALL_ENDS) or kind in _ASSISTANT_ITEMS:
        return {"role": "assistant", "parts": [value]}
    return None


def is_sure_item(value: dict[str, Any]) -> bool:
    """Whether an item can be nothing but one: other data may have types that end alike."""
    kind = value.get("type")
    return isinstance(kind, str) and (
        kind in _CALLS | _ANSWERS or (kind == "reasoning" and isinstance(value.get("summary"), list))
    )


def is_loose_item(value: dict[str, Any]) -> bool:
    """Whether only the end of its type makes a value an item."""
    return response_item(value) is not None and not is_sure_item(value)


def _answer(value: dict[str, Any]) -> Part:
    call_id = first_string(value, CALL_ID_KEYS)
    part = tool_response(call_id and call_id[1], value.get("output"), value.get("name"))
    used = {"type", "output", *(("name",) if "name" in part else ()), *((call_id[0],) if call_id else ())}
    status = value.get("status")
    return with_rest(part, value, {*used, "status"} if isinstance(status, str) else used)


def _reasoning(value: dict[str, Any]) -> list[Part]:
    parts = [
        {**part, "type": "reasoning"} if part["type"] == "text" else part
        for part in to_parts(value["summary"]) + to_parts(value.get("content"))
    ]
    used = {"type", "summary", "content", *(("status",) if isinstance(value.get("status"), str) else ())}
    rest = with_rest({}, value, used)
    if not parts:
        return [{"type": "reasoning", "content": "", **rest}]
    with_rest(parts[0], rest, ())
    return parts


def joined(messages: list[Message]) -> list[Message]:
    """Join the assistant's items of one response into the one message that they are."""
    result: list[Message] = []
    for message in messages:
        if result and message["role"] == result[-1]["role"] == "assistant":
            for key, item in message.items():
                if key != "parts":
                    result[-1].setdefault(key, item)
            result[-1]["parts"] += message["parts"]
        else:
            result.append({**message, "parts": list(message["parts"])})
    return result


def take_finish_reason(body: dict[str, Any]) -> str | None:
    """Take why a response ended out of its body: the reason it is incomplete, else its status, which is a label."""
    details = body.get("incomplete_details")
    found = first_string(details, ("reason",)) if isinstance(details, dict) else None
    if found is not None and isinstance(details, dict) and details.keys() == {"reason"}:
        del body["incomplete_details"]
    found = found or first_string(body, ("status",))
    return None if found is None or found[1] in _GOING_ON else found[1]
