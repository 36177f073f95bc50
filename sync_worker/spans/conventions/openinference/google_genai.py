"""Gemini's contents, as openinference-instrumentation-google-adk writes them (1.0.5; text parts alike since 0.1.0).

And as openinference-instrumentation-google-genai does (1.0.2), whose requests may have the keys of either language.
"""

from __future__ import annotations

from typing import Any

from sync_worker.spans.conventions.openinference.writing import (
    Pairs,
    call,
    content,
    fields,
    image,
    items,
    json_of,
    objects,
)


def adk_input(value: Any) -> Pairs:
    """Yield the messages of an LlmRequest: its system instruction, then its contents."""
    value = fields(value)
    at = 0
    system = fields(value.get("config")).get("system_instruction")
    if system:
        yield "0.message.role", "system"
        if isinstance(system, str):
            yield "0.message.content", system
        elif isinstance(system, dict):
            yield from _parts(0, items(system.get("parts")), text_only=True)
        at = 1
    for place, stated in enumerate(items(value.get("contents")), at):
        yield from _content(place, fields(stated))


def adk_output(value: Any) -> Pairs:
    """Yield the one message of an LlmResponse."""
    payload = fields(value).get("content")
    if isinstance(payload, dict) and payload:
        yield from _content(0, payload)


def genai_input(value: Any) -> Pairs:
    """Yield the messages of a request of Google's SDK: its system instruction, then its contents."""
    value = fields(value)
    system = _either(value, "system_instruction", "systemInstruction")
    at = 0
    if system:
        for key, stated in _genai_content(system if isinstance(system, dict) else {"parts": [{"text": system}]}):
            yield f"0.{key}", "system" if key == "message.role" else stated
        at = 1
    payload = value.get("contents")
    if isinstance(payload, str):
        payload = [{"parts": [{"text": payload}]}]
    for place, stated in enumerate([payload] if isinstance(payload, dict) else items(payload), at):
        for key, item in _genai_content(fields(stated)):
            yield f"{place}.{key}", item


def genai_output(value: Any) -> Pairs:
    """Yield the messages of a response's candidates."""
    at = -1
    for candidate in objects(fields(value).get("candidates")):
        at = index if isinstance(index := candidate.get("index"), int) else at + 1
        payload = candidate.get("content")
        if isinstance(payload, dict) and payload:
            for key, stated in _genai_content(payload, answer=True):
                yield f"{at}.{key}", stated


def _genai_content(payload: Any, *, answer: bool = False) -> Pairs:
    """Yield one content; a part that is alone is the message's content."""
    if payload.get("role") or not answer:
        yield "message.role", payload.get("role") or "user"
    parts = objects(payload.get("parts"))
    alone = len(parts) == 1
    contents = calls = 0
    for part in parts:
        prefix = f"message.contents.{contents}"
        signature = _either(part, "thought_signature", "thoughtSignature")
        text, asked = part.get("text"), _either(part, "function_call", "functionCall")
        replied = _either(part, "function_response", "functionResponse")
        stated: list[tuple[str, Any]] = []
        if isinstance(text, str):
            if part.get("thought"):
                stated += content(prefix, "reasoning", text or None)
            elif alone and signature is None and (text or not answer):
                yield "message.content", text
            elif text or signature is not None or not answer:
                stated += content(prefix, "text", text or None if answer else text)
            if stated and signature is not None:
                stated.append((f"{prefix}.message_content.signature", _signature(signature)))
        elif isinstance(asked, dict):
            place = f"message.tool_calls.{calls}"
            yield from call(place, None if answer else asked.get("id"), asked.get("name"), asked.get("args"))
            if signature is not None:
                yield f"{place}.tool_call.reasoning_signature", _signature(signature)
            calls += 1
        elif isinstance(replied, dict):
            if replied.get("response") and alone:
                yield "message.content", json_of(replied["response"])
            elif replied.get("response"):
                stated += content(prefix, "text", json_of(replied["response"]))
            if replied.get("id"):
                yield "message.tool_call_id", replied["id"]
        yield from stated
        contents += bool(stated)


def _either(value: Any, snake: str, camel: str) -> Any:
    return value.get(snake, value.get(camel))


def declarations(value: Any) -> list[Any]:
    """Return the functions that an LlmRequest declares."""
    tools = items(fields(fields(value).get("config")).get("tools"))
    return [item for tool in tools for item in items(fields(tool).get("function_declarations"))]


def _content(at: int, stated: Any) -> Pairs:
    yield f"{at}.message.role", stated.get("role") or "user"
    yield from _parts(at, items(stated.get("parts")))


def _parts(at: int, parts: list[Any], *, text_only: bool = False) -> Pairs:
    """Yield parts; behind an answer of a function the instrumentation counts on with the next message."""
    for place, part in enumerate(objects(parts)):
        prefix = f"{at}.message.contents.{place}"
        if isinstance(part.get("text"), str):
            yield from content(prefix, "reasoning" if part.get("thought") else "text", part["text"])
            if part.get("thought_signature"):
                yield f"{prefix}.message_content.signature", _signature(part["thought_signature"])
        elif text_only:
            continue
        elif isinstance(part.get("function_call"), dict):
            yield from _call(f"{at}.message.tool_calls.{place}.tool_call", part)
        elif isinstance(part.get("function_response"), dict):
            answer = part["function_response"]
            yield f"{at}.message.role", "tool"
            for name, key in (("name", "name"), ("tool_call_id", "id")):
                if answer.get(key):
                    yield f"{at}.message.{name}", answer[key]
            if answer.get("response"):
                yield f"{at}.message.content", json_of(answer["response"])
            at += 1
        elif "image" in str(fields(part.get("inline_data")).get("mime_type")):
            inline = part["inline_data"]
            yield from image(prefix, f"data:{inline['mime_type']};base64,{_signature(inline.get('data'))}")


def _call(prefix: str, part: Any) -> Pairs:
    asked = part["function_call"]
    if asked.get("id"):
        yield f"{prefix}.id", asked["id"]
    if asked.get("name"):
        yield f"{prefix}.function.name", asked["name"]
    if asked.get("args"):
        yield f"{prefix}.function.arguments", json_of(asked["args"])
    if part.get("thought_signature"):
        yield f"{prefix}.reasoning_signature", _signature(part["thought_signature"])


def _signature(value: Any) -> Any:
    """Return bytes as the instrumentation writes them; pydantic puts them into JSON in the other base64 alphabet."""
    return value.replace("-", "+").replace("_", "/") if isinstance(value, str) else value
