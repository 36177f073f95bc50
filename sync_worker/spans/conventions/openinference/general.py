"""Messages of instrumentations that nobody has listed: read from any body that shows them, in the usual keys.

Most instrumentations write what OpenInference's own helper makes of a list of messages
(`get_llm_attributes`, openinference-instrumentation 0.1.60): role, content or contents, tool calls and their ids. Which
of them an unknown one writes is a guess, and marked as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sync_worker.spans.conventions.openinference.bedrock import bedrock_output
from sync_worker.spans.conventions.openinference.google_genai import genai_input, genai_output
from sync_worker.spans.conventions.openinference.openai_chat import function_call
from sync_worker.spans.conventions.openinference.openai_responses import responses_input, responses_output
from sync_worker.spans.conventions.openinference.shown import as_object
from sync_worker.spans.conventions.openinference.writing import Pairs, as_text, call, content, fields, image, items

_ROLES = {"human": "user", "ai": "assistant"}


def general_input(value: Any) -> Pairs:
    """Yield the messages of a request, or of a list of messages."""
    body = fields(value)
    if isinstance(value, list):
        yield from messages(value)
    elif "messages" in body:
        yield from messages(body["messages"])
    elif "contents" in body:
        yield from genai_input(value)
    elif "input" in body and ("model" in body or "instructions" in body):
        yield from responses_input(value, reasoning_whole=True)
    elif isinstance(body.get("prompt"), str):
        yield "0.message.role", "user"
        yield "0.message.content", body["prompt"]


def general_output(value: Any) -> Pairs:
    """Yield the messages of a response: choices, one message, or a list of them."""
    body = fields(value)
    if isinstance(value, list):
        yield from _answers(value)
    elif isinstance(body.get("choices"), list):
        for place, choice in enumerate(body["choices"]):
            at = fields(choice).get("index", place)
            yield from _indexed(at, fields(choice).get("message"))
    elif "candidates" in body:
        yield from genai_output(value)
    elif isinstance(body.get("output"), list):
        yield from responses_output(value, reasoning_whole=True)
    elif "message" in body:
        yield from _indexed(0, body["message"])
    elif isinstance(fields(body.get("output")).get("message"), dict):
        yield from bedrock_output(body["output"]["message"])
    elif isinstance(body.get("role"), str):
        yield from _indexed(0, value)


def messages(value: Any) -> Pairs:
    """Yield messages by their places."""
    for at, message in enumerate(items(value)):
        yield from _indexed(at, message)


def _answers(value: list[Any]) -> Pairs:
    """Yield a list of answers, which may be no more than their texts."""
    if value and all(isinstance(item, str) for item in value):
        for at, text in enumerate(value):
            yield f"{at}.message.role", "assistant"
            yield f"{at}.message.content", text
        return
    yield from messages(value)


def _indexed(at: Any, message: Any) -> Pairs:
    for key, stated in _message(as_object(message)):
        yield f"{at}.{key}", stated


def _message(message: Mapping[str, Any]) -> Pairs:
    role = message.get("role", message.get("type"))
    if not isinstance(role, str) or not message.keys() & {"content", "tool_calls", "function_call", "parts"}:
        return
    yield "message.role", _ROLES.get(role, role)
    payload = message.get("content", message.get("parts"))
    if isinstance(payload, str):
        if payload:
            yield "message.content", payload
    else:
        yield from _contents(items(payload))
    for key in ("name", "tool_call_id"):
        if isinstance(message.get(key), str) and message[key]:
            yield f"message.{key}", message[key]
    yield from function_call(message.get("function_call"))
    for at, stated in enumerate(items(message.get("tool_calls"))):
        item = as_object(stated)
        function = as_object(item.get("function")) or item
        asked = function.get("arguments", function.get("args"))
        yield from call(f"message.tool_calls.{at}", item.get("id"), function.get("name"), asked)


def _contents(blocks: list[Any]) -> Pairs:
    calls = 0
    for at, stated in enumerate(blocks):
        block = as_object(stated) or ({"text": stated} if isinstance(stated, str) else {})
        prefix, kind = f"message.contents.{at}", block.get("type", "text")
        asked = fields(block.get("toolUse")) or (block if kind == "tool_use" else {})
        if asked:
            yield from call(
                f"message.tool_calls.{calls}",
                asked.get("toolUseId") or asked.get("id"),
                asked.get("name"),
                asked.get("input"),
            )
            calls += 1
        elif kind == "tool_result":
            yield "message.tool_call_id", block.get("tool_use_id")
            yield "message.content", as_text(block.get("content"))
        elif kind == "image_url":
            address = block.get("image_url")
            yield from image(prefix, address.get("url") if isinstance(address, dict) else address)
        elif kind in {"thinking", "reasoning"}:
            yield from content(prefix, "reasoning", block.get("thinking", block.get("text")))
        elif isinstance(block.get("text"), str):
            yield from content(prefix, "text", block["text"])
