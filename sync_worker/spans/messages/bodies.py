"""Bodies of requests and responses: dicts that hold messages under a key their API has for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from sync_worker.spans.messages import gemini, responses
from sync_worker.spans.messages.chat import FINISH_KEYS
from sync_worker.spans.messages.conversation import Draft, Message, Part
from sync_worker.spans.messages.langchain import constructed
from sync_worker.spans.messages.lists import read_list, read_message
from sync_worker.spans.messages.parts import carries, extra_part, first_string, text_part

Fields: TypeAlias = dict[str, Any]

_SYSTEM_KEYS = ("system", "instructions", "system_instruction", "systemInstruction", "system_instructions")
_TOOL_KEYS = ("tools", "functions")
#: How a call was made and what it cost, not what was said: these do not become parts.
_SETTINGS = frozenset(
    {
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample", "temperature", "top_p"),
        *("top_k", "n", "stop", "stop_sequences", "stream", "stream_options", "presence_penalty", "seed", "logprobs"),
        *("frequency_penalty", "logit_bias", "top_logprobs", "response_format", "tool_choice", "parallel_tool_calls"),
        *("metadata", "service_tier", "reasoning", "reasoning_effort", "thinking", "verbosity", "include", "betas"),
        *("previous_response_id", "prompt_cache_key", "safety_identifier", "modalities", "extra_headers", "timeout"),
        *("extra_query", "extra_body", "generationConfig", "generation_config", "safetySettings", "safety_settings"),
        *("toolConfig", "tool_config", "cachedContent", "cached_content", "live_connect_config", "inferenceConfig"),
        *("additionalModelRequestFields", "usage", "usageMetadata", "usage_metadata", "system_fingerprint", "options"),
        *("modelVersion", "model_version", "responseId", "response_id", "create_time", "createTime", "llm_output"),
        *("sdk_http_response", "ResponseMetadata", "_type", "invocation_params"),
    }
)
#: The same for common words, which are labels only while they hold nothing bigger than a string.
_LABELS = frozenset(
    {"id", "object", "type", "role", "model", "modelId", "status", "created_at", "user", "truncation", "container"}
)


def read_body(value: Fields, role: str) -> Draft | None:
    """Return the conversation that a dict is: a body of an API, one message, or tools alone."""
    fields = dict(value)
    beside = _take_tools(fields)
    draft = _read_body(fields, role) or _read_single(fields, role)
    if draft is None and beside and not fields:
        draft = Draft()
    if draft is not None:
        draft.tools = gemini.all_tools(beside, draft.tools)
    return draft


def _take_tools(fields: Fields) -> list[Any]:
    tools: list[Any] = []
    for key in _TOOL_KEYS:
        if isinstance(fields.get(key), list):
            tools += fields.pop(key)
    return tools


def _read_single(fields: Fields, role: str) -> Draft | None:
    message = read_message(fields, role)
    if message is not None:
        return Draft(messages=[message])
    kwargs = constructed(fields)
    return None if kwargs is None else read_body(kwargs, role)


def _read_body(fields: Fields, role: str) -> Draft | None:
    for key, reader in _READERS.items():
        if carries(fields.get(key)):
            left = dict(fields)
            draft = reader(left, role)
            if draft is not None:
                _attach(draft, role, _extras(left))
                return draft
    return None


def _extras(left: Fields) -> list[Part]:
    """Return the fields beside the messages that say something: no settings, labels or bare numbers."""
    return [
        extra_part(key, item)
        for key, item in left.items()
        if carries(item)
        and not isinstance(item, bool | int | float)
        and key not in _SETTINGS
        and not (key in _LABELS and isinstance(item, str))
    ]


def _attach(draft: Draft, role: str, extras: list[Part]) -> None:
    if not extras:
        return
    mine = [message for message in draft.messages if message["role"] == role]
    if mine:
        mine[-1]["parts"] += extras
    else:
        draft.messages.append({"role": role, "parts": extras})


def _take_system(left: Fields) -> list[Part]:
    parts: list[Part] = []
    for key in _SYSTEM_KEYS:
        if key in left:
            parts += gemini.instruction_parts(left.pop(key))
    return parts


def _messages(left: Fields, role: str) -> Draft | None:
    draft = read_list(left.pop("messages"), role)
    if draft is not None:
        draft.system = _take_system(left)
    return draft


def _contents(left: Fields, role: str) -> Draft | None:
    messages = gemini.contents_messages(left.pop("contents"), role)
    if messages is None:
        return None
    config = left.pop("config", None)
    config = dict(config) if isinstance(config, dict) else {}
    return Draft(messages=messages, system=_take_system(left) + _take_system(config), tools=_take_tools(config))


def _candidates(left: Fields, role: str) -> Draft | None:
    return _each(left.pop("candidates"), role, gemini.candidate_message)


def _content(left: Fields, role: str) -> Draft | None:
    content = left.pop("content")
    if not isinstance(content, dict) or "parts" not in content:
        return None
    candidate = {"content": content, **{key: left.pop(key) for key in FINISH_KEYS if key in left}}
    return _each([candidate], role, gemini.candidate_message)


def _choices(left: Fields, role: str) -> Draft | None:
    return _each(left.pop("choices"), role, _choice)


def _choice(value: object, role: str) -> Message | None:
    if not isinstance(value, dict):
        return None
    left = dict(value)
    key = next((key for key in ("message", "delta", "text") if left.get(key) is not None), None)
    if key is None:
        return None
    said = left.pop(key)
    message = read_message({"content": said} if isinstance(said, str) else said, role)
    if message is None:
        return None
    _finish(message, left)
    message["parts"] += [extra_part(k, v) for k, v in left.items() if carries(v) and k not in {"index", "logprobs"}]
    return message


def _finish(message: Message, left: Fields) -> None:
    found = first_string(left, FINISH_KEYS)
    if found is not None and message.setdefault("finish_reason", found[1]) == found[1]:
        del left[found[0]]


def _generations(left: Fields, role: str) -> Draft | None:
    rows = left.pop("generations")
    if not isinstance(rows, list):
        return None
    return _each([one for row in rows for one in (row if isinstance(row, list) else [row])], role, _generation)


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
    said = [part["content"] for part in message["parts"] if part["type"] == "text"]
    if text and text not in said and text != "".join(said):
        message["parts"].insert(0, text_part(text))
    info = left.pop("generation_info", None)
    if isinstance(info, dict):
        _finish(message, dict(info))
    message["parts"] += [extra_part(key, item) for key, item in left.items() if carries(item)]
    return message


def _message(left: Fields, role: str) -> Draft | None:
    """Read a body with one message under `message`, as Ollama writes it."""
    said = left.pop("message")
    message = read_message(said, role) if isinstance(said, dict) and "role" in said else None
    if message is None:
        return None
    _finish(message, left)
    return Draft(messages=[message])


def _output(left: Fields, role: str) -> Draft | None:
    """Read the items of the OpenAI Responses API, or Bedrock's message."""
    output = left.pop("output")
    if isinstance(output, dict) and isinstance(output.get("message"), dict):
        message = read_message(output["message"], role)
        if message is None or len(output) > 1:
            return None
        _finish(message, left)
        return Draft(messages=[message])
    draft = read_list(output, role)
    if draft is None:
        return None
    draft.system = _take_system(left)
    if all(isinstance(item, dict) and "type" in item for item in output):
        draft.messages = responses.joined(draft.messages)
    reason = responses.finish_reason(left)
    if reason is not None and draft.messages:
        draft.messages[-1].setdefault("finish_reason", reason)
    left.pop("incomplete_details", None)
    if isinstance(left.get("text"), dict):  # the format that was asked for
        del left["text"]
    return draft


def _input(left: Fields, role: str) -> Draft | None:
    said = left.pop("input")
    if isinstance(said, str) and not ("model" in left or "instructions" in left):
        return None
    return _asked(left, role, said)


def _prompt(left: Fields, role: str) -> Draft | None:
    said = left.pop("prompt")
    return None if role != "user" else _asked(left, role, said)


def _asked(left: Fields, role: str, said: object) -> Draft | None:
    """Read what a model was asked: messages, or text when nothing but settings stands beside it."""
    system = _take_system(left)
    if isinstance(left.get("text"), dict):
        del left["text"]
    if isinstance(said, str):
        return None if _extras(left) else Draft(messages=[{"role": role, "parts": [text_part(said)]}], system=system)
    draft = read_list(said, role)
    if draft is not None:
        draft.system = system
    return draft


def _each(values: object, role: str, reader: Callable[[object, str], Message | None]) -> Draft | None:
    if not isinstance(values, list) or not values:
        return None
    draft = Draft()
    for value in values:
        message = reader(value, role)
        if message is None:
            return None
        draft.messages.append(message)
    return draft


#: Key to reader, in this order: a body may have more than one of the keys.
_READERS: dict[str, Callable[[Fields, str], Draft | None]] = {
    "generations": _generations,
    "choices": _choices,
    "candidates": _candidates,
    "contents": _contents,
    "messages": _messages,
    "content": _content,
    "message": _message,
    "output": _output,
    "input": _input,
    "prompt": _prompt,
}
