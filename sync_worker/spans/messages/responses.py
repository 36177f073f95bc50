"""Items of the OpenAI Responses API, which mixes messages with calls, answers and reasoning in one list."""

from __future__ import annotations

from typing import Any

from sync_worker.spans.messages.blocks import to_parts
from sync_worker.spans.messages.conversation import Message, Part
from sync_worker.spans.messages.parts import CALL_ID_KEYS, first_string, tool_call, tool_response, with_rest

_CALLS = frozenset({"function_call", "custom_tool_call"})
_ANSWERS = frozenset({"function_call_output", "custom_tool_call_output"})


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
    if kind.endswith(("_call_output", "_approval_response")):
        return {"role": "tool", "parts": [value]}
    if kind.endswith(("_call", "_approval_request")):
        return {"role": "assistant", "parts": [value]}
    return None


def _answer(value: dict[str, Any]) -> Part:
    call_id = first_string(value, CALL_ID_KEYS)
    part = tool_response(call_id and call_id[1], value.get("output"), value.get("name"))
    return with_rest(part, value, {"type", "output", "name", "status", *([call_id[0]] if call_id else [])})


def _reasoning(value: dict[str, Any]) -> list[Part]:
    parts = to_parts(value["summary"]) + to_parts(value.get("content"))
    rest = with_rest({}, value, {"type", "summary", "content", "status"})
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
            result[-1]["parts"] = result[-1]["parts"] + message["parts"]
        else:
            result.append(message)
    return result


def finish_reason(body: dict[str, Any]) -> str | None:
    """Return why a response ended: the reason it is incomplete, else its status."""
    details = body.get("incomplete_details")
    found = first_string(details, ("reason",)) if isinstance(details, dict) else None
    found = found or first_string(body, ("status",))
    return None if found is None else found[1]
