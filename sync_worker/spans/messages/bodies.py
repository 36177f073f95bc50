"""Bodies of requests and responses: dicts that hold messages under a key their API has for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from sync_worker.spans.messages import answers, gemini, responses
from sync_worker.spans.messages.beside import FINISH_KEYS, extras, is_beside, is_word
from sync_worker.spans.messages.conversation import Draft, Message, Part
from sync_worker.spans.messages.encoded import decoded
from sync_worker.spans.messages.langchain import constructed
from sync_worker.spans.messages.lists import is_choice, read_list, read_message, read_messages
from sync_worker.spans.messages.parts import carries, text_part
from sync_worker.spans.messages.responses import is_loose_item
from sync_worker.spans.messages.streams import whole_of

Fields: TypeAlias = dict[str, Any]

_SYSTEM_KEYS = ("system", "instructions", "system_instruction", "systemInstruction", "system_instructions", "preamble")
_TOOL_KEYS = ("tools", "functions")


def read_value(value: object, role: str) -> Draft | None:
    """Return the conversation that a value is, or None for anything else."""
    if isinstance(value, dict):
        return read_body(value, role)
    if not isinstance(value, list) or not value:
        return None
    merged = whole_of(value)
    if merged is not None:
        draft = read_body(merged, role)
        if draft is not None:
            return draft
    return read_list(value, role) or _read_bodies(value, role)


def read_body(value: Fields, role: str) -> Draft | None:
    """Return the conversation that a dict is: a body of an API, one message, or tools alone."""
    fields = dict(value)
    beside = _take_tools(fields)
    draft = _read_body(fields, role) or _read_single(fields, role) or _read_wrapped(fields, role)
    if draft is None and beside and not fields:
        draft = Draft()
    if draft is not None:
        draft.tools = gemini.all_tools(beside, draft.tools)
    return draft


def _read_bodies(values: list[Any], role: str) -> Draft | None:
    """Read a list of bodies, of which each stands for answers of its own; or of choices without their body."""
    if any(is_choice(value) for value in values):
        return read_body({"choices": values}, role)
    if any(gemini.is_candidate(value) for value in values):
        return read_body({"candidates": values}, role)
    result = Draft()
    read = 0
    for value in values:
        draft = read_body(value, role) if isinstance(value, dict) and not is_loose_item(value) else None
        if draft is None:
            draft = Draft(messages=[{"role": role, "parts": [answers.own_part(value)]}] if carries(value) else [])
        else:
            read += 1
        result.messages += draft.messages
        result.system += draft.system
        result.tools += draft.tools
    return result if read and (read == len(values) or result.messages) else None


def _take_tools(fields: Fields) -> list[Any]:
    tools: list[Any] = []
    for key in _TOOL_KEYS:
        if isinstance(fields.get(key), list):
            tools += fields.pop(key)
    return tools


def _read_single(fields: Fields, role: str) -> Draft | None:
    messages = read_messages(fields, role)
    if messages is not None:
        return Draft(messages=messages)
    kwargs = constructed(fields)
    return None if kwargs is None else read_body(kwargs, role)


def _read_wrapped(fields: Fields, role: str) -> Draft | None:
    """Read a body that is the only thing in another: {"response": {...}}, a step's {"agent": {"messages": [...]}}.

    Names and numbers beside it, such as a batch's custom_id, stay parts of their own.
    """
    left = {
        key: item
        for key, item in fields.items()
        if carries(item) and not isinstance(item, int | float) and not is_beside(key, item)
    }
    held = [key for key, item in left.items() if isinstance(item, dict | list)]
    if not held and len(left) == 1:
        held = list(left)
    if len(held) != 1 or held[0] in {"kwargs", "gen_ai.event.content"}:  # these have been looked into
        return None
    inner = left.pop(held[0])
    if any(not is_word(item) for item in left.values()):
        return None
    if isinstance(inner, str) and inner[:1] in {"{", "["}:
        _, inner = decoded(inner)
    draft = read_value(inner, role)
    if draft is not None:
        _attach(draft, role, extras(left))
    return draft


def _read_body(fields: Fields, role: str) -> Draft | None:
    if fields.keys().isdisjoint(_READERS):
        return None
    for key, reader in _READERS.items():
        if key in fields and carries(fields[key]):
            left = dict(fields)
            draft = reader(left, role)
            if draft is not None:
                _attach(draft, role, extras(left))
                return draft
    return None


def _attach(draft: Draft, role: str, more: list[Part]) -> None:
    if not more:
        return
    mine = [message for message in draft.messages if message["role"] == role]
    if mine:
        mine[-1]["parts"] += more
    else:
        draft.messages.append({"role": role, "parts": more})


def _take_system(left: Fields) -> list[Part]:
    parts: list[Part] = []
    for key in _SYSTEM_KEYS:
        if key in left:
            parts += gemini.instruction_parts(left.pop(key))
    return parts


def _messages(left: Fields, role: str) -> Draft | None:
    payload = left.pop("messages")
    if isinstance(payload, list) and all(isinstance(item, str) for item in payload):  # n8n
        draft: Draft | None = Draft(messages=[{"role": role, "parts": [text_part(item) for item in payload if item]}])
    else:
        draft = read_list(payload, role)
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
    return answers.each(left.pop("candidates"), role, gemini.candidate_message)


def _content(left: Fields, role: str) -> Draft | None:
    content = left.pop("content")
    if not isinstance(content, dict) or "parts" not in content:
        return None
    candidate = {"content": content, **{key: left.pop(key) for key in FINISH_KEYS if key in left}}
    return answers.each([candidate], role, gemini.candidate_message)


def _message(left: Fields, role: str) -> Draft | None:
    """Read a body with one message under `message`: Ollama's, LlamaIndex's, Cohere's, the event gen_ai.choice."""
    history = left.pop("chat_history", None)
    if isinstance(left["message"], str) and carries(history):
        return _with_history(left, role, history, left.pop("message"))
    if carries(history):
        left["chat_history"] = history
    answered = left.pop("tool.result", None)  # Strands, at the end of a cycle: what the tools answered
    if is_choice(left) or carries(answered) or answers.is_encoded(left["message"]):
        message = answers.choice_message(left, role)
        left.clear()
        if message is not None and carries(answered):
            return Draft(messages=[message, {"role": "tool", "parts": answers.block_texts(answered)}])
    else:
        payload = left.pop("message")
        message = read_message(payload, role) if isinstance(payload, dict) and "role" in payload else None
        if message is not None:
            answers.take_finish(message, left)
    return None if message is None else Draft(messages=[message])


def _event(left: Fields, role: str) -> Draft | None:
    """Read Azure AI Inference's event gen_ai.choice, whose body is JSON text under gen_ai.event.content."""
    body = left.pop("gen_ai.event.content")
    is_json, inner = decoded(body) if isinstance(body, str) else (True, body)
    if not is_json or not isinstance(inner, dict) or "gen_ai.event.content" in inner:
        return None
    return read_body(inner, role)


def _delta(left: Fields, role: str) -> Draft | None:
    """Read one choice of one chunk."""
    message = answers.choice_message(left, role) if is_choice(left) else None
    left.clear()
    return None if message is None else Draft(messages=[message])


def _with_history(left: Fields, role: str, history: object, payload: str) -> Draft | None:
    draft = read_list(history, role)
    if draft is None:
        return None
    draft.messages.append({"role": role, "parts": [text_part(payload)]})
    draft.system = _take_system(left)
    return draft


def _chat_history(left: Fields, role: str) -> Draft | None:
    """Read LangChain's {input | question, chat_history}, Cohere's {message, chat_history}."""
    history = left.pop("chat_history")
    key = next((key for key in ("input", "question", "query", "human_input") if isinstance(left.get(key), str)), None)
    return None if key is None or role != "user" else _with_history(left, role, history, left.pop(key))


def _output(left: Fields, role: str) -> Draft | None:
    """Read the items of the OpenAI Responses API, or the one message of Bedrock or Spring AI."""
    output = left.pop("output")
    if isinstance(output, dict):
        inner = output.get("message")
        message = read_message(inner if isinstance(inner, dict) else output, role)
        if message is None:
            return None
        if isinstance(inner, dict):
            message["parts"] += extras({key: item for key, item in output.items() if key != "message"})
        answers.take_all(message, left)
        return Draft(messages=[message])
    draft = read_list(output, role)
    if draft is None:
        return None
    draft.system = _take_system(left)
    if all(isinstance(item, dict) and "type" in item for item in output):
        draft.messages = responses.joined(draft.messages)
    reason = responses.take_finish_reason(left)
    mine = [message for message in draft.messages if message["role"] == role]
    if reason is not None and mine:
        mine[-1].setdefault("finish_reason", reason)
    _drop_format(left)
    return draft


def _drop_format(left: Fields) -> None:
    """Drop the Responses API's `text`, which is how the answer was to be written: no text of it."""
    if isinstance(left.get("text"), dict) and left["text"].keys() <= {"format", "verbosity"}:
        del left["text"]


def _input(left: Fields, role: str) -> Draft | None:
    payload = left.pop("input")
    if isinstance(payload, str) and not ("model" in left or "instructions" in left):
        return None
    return _asked(left, role, payload)


def _prompt(left: Fields, role: str) -> Draft | None:
    payload = left.pop("prompt")
    return None if role != "user" else _asked(left, role, payload)


def _prompts(left: Fields, role: str) -> Draft | None:
    """Read the prompts of LangChain's plain models: texts."""
    payload = left.pop("prompts")
    if role != "user" or not isinstance(payload, list) or not all(isinstance(item, str) for item in payload):
        return None
    return Draft(messages=[{"role": role, "parts": [text_part(item)]} for item in payload])


def _inputs(left: Fields, role: str) -> Draft | None:
    """Read Hugging Face's {inputs, parameters}, Titan's {inputText, textGenerationConfig}."""
    key = "inputs" if "inputs" in left else "inputText"
    payload = left.pop(key)
    parameters = left.pop("parameters", None)
    if not isinstance(payload, str) or (key == "inputs" and not isinstance(parameters, dict)):
        return None
    if isinstance(parameters, dict):
        left |= {"parameters": {name: item for name, item in parameters.items() if not isinstance(item, int | float)}}
    return _asked(left, role, payload)


def _asked(left: Fields, role: str, payload: object) -> Draft | None:
    """Read what a model was asked: messages, or text when nothing but settings and pictures stands beside it."""
    system = _take_system(left)
    _drop_format(left)
    if isinstance(payload, str):
        message: Message = {"role": role, "parts": [text_part(payload)]}
        answers.take_pictures(message, left)
        return None if extras(left) else Draft(messages=[message], system=system)
    draft = read_list(payload, role)
    if draft is not None:
        draft.system = system
    return draft


#: Key to reader, in this order: a body may have more than one of the keys.
_READERS: dict[str, Callable[[Fields, str], Draft | None]] = {
    "gen_ai.event.content": _event,
    "generations": answers.generations,
    "choices": answers.choices,
    "candidates": _candidates,
    "contents": _contents,
    "messages": _messages,
    "content": _content,
    "message": _message,
    "delta": _delta,
    "chat_history": _chat_history,
    "output": _output,
    "input": _input,
    "prompt": _prompt,
    "prompts": _prompts,
    "inputs": _inputs,
    "inputText": _inputs,
    "results": answers.results,
    "outputs": answers.results,
    "replies": answers.results,
    "response": answers.generated,
    "completion": answers.generated,
    "generation": answers.generated,
    "generated_text": answers.generated,
    "outputText": answers.generated,
    "text": answers.generated,
    "promptFeedback": answers.blocked,
    "prompt_feedback": answers.blocked,
    "error": answers.failed,
    "incomplete_details": answers.unfinished,
}
