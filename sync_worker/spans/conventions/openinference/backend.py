"""Messages of BeeAI and AutoGen, each in the way that its OpenInference instrumentation writes them."""

from __future__ import annotations

from typing import Any

from sync_worker.json_text import dump
from sync_worker.spans.conventions.openinference.writing import Pairs, as_text, call, content, fields, objects


def beeai_input(value: Any) -> Pairs:
    """Yield the messages of a chat model of BeeAI (openinference-instrumentation-beeai 0.1.14, `chat.py`)."""
    for at, message in enumerate(objects(fields(value).get("messages"))):
        if isinstance(message.get("role"), str):
            yield f"{at}.message.role", message["role"]
        stated = [block for block in objects(message.get("content")) if block.get("type") != "tool-call"]
        for place, block in enumerate(stated):
            yield from _beeai_block(f"{at}.message.contents.{place}", block)
        calls = [block for block in objects(message.get("content")) if block.get("type") == "tool-call"]
        for place, item in enumerate(calls):
            yield from call(
                f"{at}.message.tool_calls.{place}", item.get("id"), item.get("tool_name"), as_text(item.get("args"))
            )


def _beeai_block(prefix: str, block: Any) -> Pairs:
    kind = block.get("type")
    if kind == "text":
        yield from content(prefix, "text", block.get("text"))
    elif kind == "image_url":
        yield f"{prefix}.message_content.type", "image"
        yield f"{prefix}.message_content.image", fields(block.get("image_url")).get("url")
    elif kind == "tool-result":
        payload = block.get("result")
        yield f"{prefix}.message.tool_call_id", block.get("tool_call_id")
        yield from content(prefix, "text", payload if isinstance(payload, str) else dump(payload))


def beeai_answer(text: str, _: Any) -> Pairs:
    """Yield the answer, of which the output is the text."""
    yield "0.message.role", "assistant"
    yield from content("0.message.contents.0", "text", text)


def autogen_output(value: Any) -> Pairs:
    """Yield what a model client of AutoGen returned: text, or calls.

    Source: openinference-instrumentation-autogen-agentchat 0.1.9, `_wrappers.py`. It writes no `input.value`, so the
    messages before are lost: Langfuse takes `output.value`, and with it no input at all.
    """
    payload = fields(value).get("content")
    if isinstance(payload, str):
        yield "0.message.role", "assistant"
        yield "0.message.content", payload
    elif calls := [item for item in objects(payload) if {"id", "name", "arguments"} <= item.keys()]:
        yield "0.message.role", "assistant"
        for at, item in enumerate(calls):
            yield from call(f"0.message.tool_calls.{at}", item["id"], item["name"], as_text(item["arguments"]))
