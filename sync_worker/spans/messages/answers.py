"""What a model answered, in the bodies of APIs: choices, generations, texts, refusals and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from sync_worker.json_text import parse
from sync_worker.spans.messages.beside import FINISH_KEYS, extras, is_beside, take_metadata
from sync_worker.spans.messages.blocks import block_parts, to_parts
from sync_worker.spans.messages.chat import chat_message
from sync_worker.spans.messages.conversation import Draft, Message, Part
from sync_worker.spans.messages.encoded import encoded_blocks
from sync_worker.spans.messages.lists import read_list, read_message
from sync_worker.spans.messages.parts import carries, extra_part, first_string, text_part, value_part
from sync_worker.spans.messages.responses import take_finish_reason

Fields: TypeAlias = dict[str, Any]

#: Fields beside a text that make it the answer of a model.
_BESIDE_TEXT = frozenset(
    {
        *FINISH_KEYS,
        *("generation_id", "toolCalls", "tool_calls", "usage", "additional_kwargs", "done", "done_reason", "details"),
        *(
            "completionReason",
            "tokenCount",
            "generation_token_count",
            "prompt_token_count",
            "reasoning",
            "reasoningText",
        ),
    }
)
#: What beside a text belongs to the same message.
_OF_THE_MESSAGE = (
    *("thinking", "reasoning", "reasoning_content", "reasoningText", "toolCalls", "tool_calls", "additional_kwargs"),
    *FINISH_KEYS,
)


def each(values: object, role: str, reader: Callable[[object, str], Message | None]) -> Draft | None:
    """Return the messages of a list of answers; one that is not understood is a message with a part of its own."""
    if not isinstance(values, list) or not values:
        return None
    found = [reader(value, role) for value in values]
    if not any(message is not None for message in found):
        return None
    return Draft(
        messages=[
            {"role": role, "parts": [own_part(value)]} if message is None else message
            for value, message in zip(values, found, strict=True)
            if message is not None or carries(value)
        ]
    )


def own_part(value: object) -> Part:
    """Return a part for a value that is not understood: under its type where it has one."""
    parts = block_parts(value)
    return parts[0] if len(parts) == 1 else value_part(value)


def choices(left: Fields, role: str) -> Draft | None:
    """Read OpenAI's choices, whole or as one chunk of a stream."""
    return each(left.pop("choices"), role, choice_message)


def choice_message(value: object, role: str) -> Message | None:
    """Return the message of one choice, or of the event gen_ai.choice, whose message may be text or JSON."""
    if not isinstance(value, dict):
        return None
    left = dict(value)
    key = next((key for key in ("message", "delta", "text") if left.get(key) is not None), None)
    if key is None:
        return None
    payload = left.pop(key)
    if isinstance(payload, str) and key == "message":
        payload = _decoded(payload)
    message = read_message({"content": payload} if isinstance(payload, str | list) else payload, role)
    if message is None and isinstance(payload, dict):
        message = {"role": role, "parts": extras(payload)}
    if message is None:
        return None
    take_finish(message, left)
    if isinstance(left.get("role"), str):
        del left["role"]
    message["parts"] += [extra_part(k, v) for k, v in left.items() if carries(v) and not is_beside(k, v)]
    return message


def _decoded(payload: str) -> Any:
    """Return what a message's text holds as JSON: a message, or blocks (Strands)."""
    if payload[:1] == "{":
        is_json, value = parse(payload)
        return (
            value
            if is_json and isinstance(value, dict) and not value.keys().isdisjoint({"role", "content"})
            else payload
        )
    return encoded_blocks(payload) or payload


def block_texts(payload: object) -> list[Part]:
    """Return the parts of blocks that may be written as JSON text."""
    return to_parts(encoded_blocks(payload) or payload if isinstance(payload, str) else payload)


def is_encoded(payload: object) -> bool:
    """Whether a message's text is a message, or blocks, as JSON."""
    return isinstance(payload, str) and _decoded(payload) is not payload


def take_finish(message: Message, left: Fields) -> None:
    """Move why an answer ended from the fields beside a message into it."""
    found = first_string(left, FINISH_KEYS)
    if found is not None and message.setdefault("finish_reason", found[1]) == found[1]:
        del left[found[0]]


def take_all(message: Message, left: Fields) -> None:
    """Move why an answer ended into a message, from beside it or from its metadata."""
    take_metadata(left, "metadata")
    take_finish(message, left)


def take_pictures(message: Message, left: Fields) -> None:
    """Take what Ollama's generate has beside its prompt: pictures, and the token ids of what came before."""
    images = left.get("images")
    if isinstance(images, list) and all(isinstance(image, str) for image in images):
        message["parts"] += [p for image in left.pop("images") for p in block_parts({"type": "image", "image": image})]
    context = left.get("context")
    if isinstance(context, list) and all(isinstance(item, int) for item in context):
        del left["context"]


def generations(left: Fields, role: str) -> Draft | None:
    """Read LangChain's generations: a list, or one list a prompt."""
    rows = left.pop("generations")
    if not isinstance(rows, list):
        return None
    return each([one for row in rows for one in (row if isinstance(row, list) else [row])], role, _generation)


def _generation(value: object, role: str) -> Message | None:
    """Read LangChain's generation: the text and, for a chat model, the message that the text was taken from."""
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        return None
    left = {key: item for key, item in value.items() if key != "type"}
    text = left.pop("text")
    message: Message | None = {"role": role, "parts": []}
    if left.get("message") is not None:
        message = read_message(left.pop("message"), role)
    if message is None:
        return None
    payload = [part["content"] for part in message["parts"] if part["type"] == "text"]
    if text and text not in payload and text != "".join(map(str, payload)):
        message["parts"].insert(0, text_part(text))
    for key in ("generation_info", "generationInfo"):
        take_metadata(left, key)
        take_finish(message, left)
    message["parts"] += [extra_part(key, item) for key, item in left.items() if carries(item)]
    return message


def results(left: Fields, role: str) -> Draft | None:
    """Read answers in a list: Spring AI's results, Haystack's replies, outputs of models on Bedrock."""
    key = next(key for key in ("results", "outputs", "replies") if carries(left.get(key)))
    values = left.pop(key)
    if not isinstance(values, list):
        return None
    if "result" in left and left["result"] == values[0]:
        del left["result"]
    if key == "replies":
        take_metadata(left, "meta")
    else:
        take_metadata(left, "metadata")
    draft = each(values, role, _result) if any(map(_is_result, values)) else read_list(values, role)
    if draft is None and key == "replies" and all(isinstance(value, str) for value in values):
        draft = Draft(messages=[{"role": role, "parts": [text_part(value)]} for value in values])
    return draft


def _is_result(value: object) -> bool:
    return isinstance(value, dict) and (isinstance(value.get("output"), dict) or _text_key(value) is not None)


def _result(value: object, role: str) -> Message | None:
    if not isinstance(value, dict):
        return None
    left = dict(value)
    if not isinstance(left.get("output"), dict):
        key = _text_key(left)
        return None if key is None else _generated(left, role, key)
    message = read_message(left.pop("output"), role)
    if message is not None:
        take_all(message, left)
        message["parts"] += extras(left)
    return message


_TEXT_KEYS = ("response", "completion", "generation", "generated_text", "outputText", "text")


def _text_key(value: Fields) -> str | None:
    """Return the key under which a body has the answer's text, if what stands beside it states that it is one."""
    key = next((key for key in _TEXT_KEYS if isinstance(value.get(key), str)), None)
    alone = key in {"generated_text", "outputText"}
    return key if key is not None and (alone or not value.keys().isdisjoint(_BESIDE_TEXT)) else None


def generated(left: Fields, role: str) -> Draft | None:
    """Read a body whose answer is a text: Ollama's generate, Cohere's chat, Titan's and Llama's on Bedrock."""
    if isinstance(left.get("generated_text"), list):
        return read_list(left.pop("generated_text"), role)
    key = _text_key(left) if role == "assistant" else None
    if key is None:
        return None
    message = _generated(left, role, key)
    left.clear()
    return Draft(messages=[message])


def _generated(left: Fields, role: str, key: str) -> Message:
    payload: Fields = {"role": role, "content": left.pop(key)}
    payload |= {name: left.pop(name) for name in _OF_THE_MESSAGE if name in left}
    message = chat_message(payload, role) or {"role": role, "parts": []}
    take_metadata(left, "details")
    take_finish(message, left)
    take_pictures(message, left)
    message["parts"] += extras(left)
    return message


def blocked(left: Fields, role: str) -> Draft | None:
    """Read a prompt that Gemini blocked: {promptFeedback: {blockReason}} and no candidates."""
    key = next(key for key in ("promptFeedback", "prompt_feedback") if carries(left.get(key)))
    feedback = left.pop(key)
    found = first_string(feedback, ("blockReason", "block_reason")) if isinstance(feedback, dict) else None
    if found is None:
        return None
    return Draft(messages=[{"role": role, "parts": [extra_part(key, feedback)], "finish_reason": found[1]}])


#: What an API's error body has beside the error.
_BESIDE_ERROR = frozenset({"type", "request_id", "status", "status_code", "statusCode", "message", "code", "param"})


def failed(left: Fields, role: str) -> Draft | None:
    """Read what an API answers in place of an answer: OpenAI's, Anthropic's and Gemini's {error: {message, …}}."""
    error = left.pop("error")
    if role != "assistant" or not isinstance(error, dict) or first_string(error, ("message", "type", "code")) is None:
        return None
    stated = {key for key, item in left.items() if carries(item) and not is_beside(key, item)}
    if left.get("object") != "response" and not stated <= _BESIDE_ERROR:
        return None
    reason = "content_filter" if "content_filter" in (error.get("code"), error.get("type")) else "error"
    part = extra_part("error", error)
    return Draft(messages=[{"role": role, "parts": [part], "finish_reason": reason}])


def unfinished(left: Fields, role: str) -> Draft | None:
    """Read an answer of OpenAI's Responses API that ended before its first item."""
    reason = take_finish_reason(left)
    if left.get("object") != "response" or reason is None:
        return None
    return Draft(messages=[{"role": role, "parts": [], "finish_reason": reason}])
