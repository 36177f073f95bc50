"""Chunks of a streamed answer, put together as the body that the API would have sent without a stream.

Programs that trace a stream often keep the list of its chunks. What a chunk has beside the known fields is kept under
`stream_rest`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from sync_worker.json_text import parse
from sync_worker.spans.messages.beside import is_beside
from sync_worker.spans.messages.deltas import Text, add, begin, final, finished, keep
from sync_worker.spans.messages.parts import carries

Fields: TypeAlias = dict[str, Any]


def whole_of(values: list[Any]) -> Fields | None:
    """Return the body that chunks of one stream add up to, or None for a list of anything else."""
    first = values[0]
    if isinstance(first, dict) and ("role" in first or first.keys().isdisjoint(_MARKERS)):
        return None
    if not all(isinstance(value, dict) for value in values):
        return None
    for is_chunk, merge in _STREAMS:
        if any(is_chunk(value) for value in values):
            return merge(values)
    return None


def _is_openai(value: Fields) -> bool:
    if isinstance(value.get("delta"), dict) and "index" in value and "type" not in value:
        return True
    chosen = value.get("choices")
    return isinstance(chosen, list) and any(isinstance(c, dict) and isinstance(c.get("delta"), dict) for c in chosen)


def _openai(values: list[Fields]) -> Fields:
    """Join OpenAI's chat.completion.chunk: choices with a delta, by their index."""
    body: Fields = {}
    rest: list[Any] = []
    answers: dict[Any, Fields] = {}
    for value in values:
        bare = "delta" in value and "choices" not in value
        if not bare:
            keep(body, {key: item for key, item in value.items() if key != "choices"}, rest)
        chosen = [value] if bare else value.get("choices")
        for choice in chosen if isinstance(chosen, list) else [chosen]:
            delta = choice.get("delta") if isinstance(choice, dict) else None
            payload = "delta"
            if isinstance(choice, dict) and delta is None and isinstance(choice.get("text"), str):
                delta, payload = {"content": choice["text"]}, "text"  # the older API for plain completions
            if not isinstance(choice, dict) or not isinstance(delta, dict):
                rest += [choice] if carries(choice) else []
                continue
            answer = answers.setdefault(_index_of(choice.get("index", 0)), {"message": {}})
            add(answer["message"], delta, rest)
            keep(answer, {key: item for key, item in choice.items() if key != payload}, rest)
    return finished({**body, "choices": [final(answer) for answer in answers.values()]}, rest)


def _completions(values: list[Fields]) -> Fields | None:
    """Join chunks of one plain completion; several whole ones have ids of their own."""
    names = {value["id"] for value in values if isinstance(value.get("id"), str)}
    return _openai(values) if len(values) > 1 and len(names) == 1 else None


def _is_cohere(value: Fields) -> bool:
    delta = value.get("delta")
    return isinstance(value.get("type"), str) and isinstance(delta, dict) and isinstance(delta.get("message"), dict)


def _cohere(values: list[Fields]) -> Fields:
    """Join the events of Cohere's chat v2, whose deltas are messages with one content or one call."""
    message: Fields = {"role": "assistant"}
    body: Fields = {}
    rest: list[Any] = []
    for value in values:
        delta = value.get("delta")
        keep(body, {key: item for key, item in value.items() if key not in {"type", "index", "id", "delta"}}, rest)
        if not isinstance(delta, dict):
            rest += [{"delta": delta}] if carries(delta) else []
            continue
        inner = delta.get("message")
        if isinstance(inner, dict):
            one = {
                key: [{"index": value.get("index"), **item}] if isinstance(item, dict) else item
                for key, item in inner.items()
            }
            add(message, one, rest)
        elif carries(inner):
            rest.append({"message": inner})
        keep(body, {key: item for key, item in delta.items() if key != "message"}, rest)
    made = final(message)
    if isinstance(made.get("content"), list):
        made["content"] = [_unnumbered(block) for block in made["content"]]
    return finished({**body, "message": made}, rest)


def _unnumbered(block: Any) -> Any:
    return {key: item for key, item in block.items() if key != "index"} if isinstance(block, dict) else block


_VERCEL = {"text-delta": "text", "reasoning-delta": "reasoning", "reasoning": "reasoning"}
_VERCEL_KEYS = ("delta", "text", "textDelta")
_VERCEL_SILENT = ("text-start", "text-end", "reasoning-start", "reasoning-end", "tool-input-end", "start-step", "start")


def _is_vercel(value: Fields) -> bool:
    return value.get("type") in ("text-delta", "reasoning-delta") and any(
        isinstance(value.get(key), str) for key in _VERCEL_KEYS
    )


def _vercel(values: list[Fields]) -> Fields:
    """Join the parts that the Vercel AI SDK streams: text-delta, reasoning-delta, tool-call, tool-result, finish."""
    body: Fields = {}
    rest: list[Any] = []
    blocks: list[Fields] = []
    for value in values:
        kind = str(value.get("type"))
        key = next((key for key in _VERCEL_KEYS if isinstance(value.get(key), str)), None)
        if kind in _VERCEL and key is not None:
            if not blocks or blocks[-1].get("type") != _VERCEL[kind] or not isinstance(blocks[-1].get("text"), Text):
                blocks.append({"type": _VERCEL[kind], "text": Text()})
            blocks[-1]["text"].append(value[key])
            keep(body, {name: item for name, item in value.items() if name not in {"type", "id", key}}, rest)
        elif kind in {"finish", "finish-step"}:
            keep(body, {name: item for name, item in value.items() if name not in {"type", "totalUsage"}}, rest)
        elif not value.keys() <= {"type", "id"} or kind not in _VERCEL_SILENT:
            blocks.append(value)
    rest += [{key: body.pop(key)} for key in ("role", "content") if key in body]
    return finished({**body, "role": "assistant", "content": [final(block) for block in blocks]}, rest)


_ANTHROPIC = frozenset({"message_start", "content_block_start", "content_block_delta"})
_ANTHROPIC_SILENT = frozenset({"content_block_stop", "message_stop", "ping"})
#: Anthropic's delta type to the field of the delta, which is the block's but for a call's input.
_DELTAS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"),
    "input_json_delta": ("partial_json", "input"),
}


#: The type of a block whose start is missing, by a field of it.
_OF_FIELD = {"thinking": "thinking", "signature": "thinking", "input": "tool_use"}


def _anthropic(values: list[Fields]) -> Fields:
    """Join Anthropic's events: message_start, content_block_start, content_block_delta, message_delta."""
    message: Fields = {"role": "assistant"}
    rest: list[Any] = []
    blocks: dict[Any, Fields] = {}
    for value in values:
        kind, at = str(value.get("type")), _index_of(value.get("index"))
        left = {
            key: item for key, item in value.items() if key not in {"type", "index"} or isinstance(item, dict | list)
        }
        if kind == "message_start" and isinstance(left.get("message"), dict):
            keep(message, left.pop("message"), rest)
        elif kind == "content_block_start" and isinstance(left.get("content_block"), dict) and at not in blocks:
            begun = left.pop("content_block")
            blocks[at] = begin({k: v for k, v in begun.items() if k != "input" or carries(v)}, "", rest)
            if begun.get("input") == {}:
                blocks[at]["input"] = Text()
        elif kind == "content_block_delta" and isinstance(left.get("delta"), dict):
            delta = left["delta"]
            source, target = _DELTAS.get(str(delta.get("type")), ("", ""))
            block = blocks.setdefault(at, {"type": _OF_FIELD.get(target, "text")})
            if isinstance(delta.get(source), str):
                add(block, {target: delta[source]}, rest)
                left["delta"] = {key: item for key, item in delta.items() if key not in {source, "type"}}
            elif delta.get("type") == "citations_delta" and carries(delta.get("citation")):
                add(block, {"citations": [delta["citation"]]}, rest)
                del left["delta"]
        elif kind == "message_delta" and isinstance(left.get("delta"), dict):
            keep(message, left.pop("delta"), rest)
            keep(message, {"usage": left.pop("usage", None)}, rest)
        elif kind in _ANTHROPIC_SILENT:
            left = {key: item for key, item in left.items() if key != "usage"}
        else:
            left["type"] = kind
        left = {key: item for key, item in left.items() if carries(item)}
        rest += [left] if left and left.keys() != {"type"} else []
    payload = message.get("content")
    content = [
        *(payload if isinstance(payload, list) else [payload] if carries(payload) else []),
        *map(_block, blocks.values()),
    ]
    return finished({**message, "content": content}, rest)


def _block(block: Fields) -> Fields:
    """Finish a block; a call's input was streamed as JSON text."""
    made: Fields = final(block)
    if isinstance(made.get("input"), str):
        is_json, value = parse(made["input"]) if made["input"] else (True, {})
        made["input"] = value if is_json and isinstance(value, dict) else made["input"]
    return made


def _index_of(value: object) -> object:
    return value if isinstance(value, int | str) else None


_BEDROCK = frozenset({"messageStart", "contentBlockStart", "contentBlockDelta", "messageStop"})


def _bedrock(values: list[Fields]) -> Fields:
    """Join the events of Bedrock's ConverseStream (AWS API reference, ConverseStreamOutput)."""
    message: Fields = {"role": "assistant"}
    body: Fields = {}
    rest: list[Any] = []
    blocks: dict[Any, Fields] = {}
    for value in values:
        for key, item in value.items():
            if not isinstance(item, dict):
                rest += [{key: item}] if carries(item) else []
                continue
            at = _index_of(item.get("contentBlockIndex"))
            left = {name: inner for name, inner in item.items() if name != "contentBlockIndex" or at is None}
            if key == "messageStart":
                keep(message, left, rest)
            elif key in {"contentBlockStart", "contentBlockDelta"}:
                name = "start" if key == "contentBlockStart" else "delta"
                if isinstance(left.get(name), dict):
                    add(blocks.setdefault(at, {}), left.pop(name), rest)
                rest += [{key: left}] if any(map(carries, left.values())) else []
            elif key in {"messageStop", "metadata"}:
                keep(body, left, rest)
            elif key != "contentBlockStop":
                rest.append({key: item})
    content = [{key: _call(key, item) for key, item in final(block).items()} for block in blocks.values()]
    return finished({**body, "output": {"message": {**message, "content": content}}}, rest)


def _call(key: str, item: Any) -> Any:
    return _block(item) if key == "toolUse" and isinstance(item, dict) else item


def _is_gemini(value: Fields) -> bool:
    found = value.get("candidates")
    return isinstance(found, list) and any(
        isinstance(c, dict) and isinstance(c.get("content"), dict) and isinstance(c["content"].get("parts"), list)
        for c in found
    )


def _gemini(values: list[Fields]) -> Fields | None:
    """Join Gemini's GenerateContentResponse chunks: the parts of each candidate, texts in a row as one."""
    names = {value["responseId"] for value in values if isinstance(value.get("responseId"), str)}
    if len(values) < 2 or len(names) > 1:
        return None
    body: Fields = {}
    rest: list[Any] = []
    answers: dict[Any, Fields] = {}
    for value in values:
        keep(body, {key: item for key, item in value.items() if key != "candidates"}, rest)
        found = value.get("candidates")
        for candidate in found if isinstance(found, list) else [found]:
            if not isinstance(candidate, dict):
                rest += [candidate] if carries(candidate) else []
                continue
            content = candidate.get("content")
            answer = answers.setdefault(_index_of(candidate.get("index", 0)), {"content": {"parts": []}})
            beside = {key: item for key, item in candidate.items() if key != "content"}
            if isinstance(content, dict) and isinstance(content.get("parts"), list):
                _add_parts(answer["content"]["parts"], content["parts"])
                keep(answer["content"], {key: item for key, item in content.items() if key != "parts"}, rest)
            elif carries(content):
                rest.append({"content": content})
            keep(answer, beside, rest)
    return finished({**body, "candidates": [final(answer) for answer in answers.values()]}, rest)


def _add_parts(before: list[Any], more: list[Any]) -> None:
    for part in more:
        last = before[-1] if before else None
        if (
            _is_piece(part)
            and isinstance(last, dict)
            and _is_piece(last)
            and last.get("thought") == part.get("thought")
        ):
            last["text"].append(part["text"])
        else:
            before.append({**part, "text": Text([part["text"]])} if _is_piece(part) else part)


def _is_piece(part: object) -> bool:
    return isinstance(part, dict) and part.keys() <= {"text", "thought"} and isinstance(part.get("text"), str | Text)


def _is_ollama(value: Fields) -> bool:
    return isinstance(value.get("done"), bool) and isinstance(value.get("message", value.get("response")), dict | str)


def _ollama(values: list[Fields]) -> Fields | None:
    """Join the lines of Ollama's chat and generate."""
    if len(values) < 2:
        return None
    payload: Fields = {}
    body: Fields = {}
    rest: list[Any] = []
    for value in values:
        add(payload, {key: value[key] for key in ("message", "response", "thinking") if key in value}, rest)
        beside = {key: item for key, item in value.items() if key not in {"message", "response", "thinking"}}
        keep(body, beside, rest)
    return finished({**body, **final(payload)}, rest)


def _is_langchain(value: Fields) -> bool:
    path = value.get("id")
    return value.get("type") == "AIMessageChunk" or (
        value.get("type") == "constructor" and isinstance(path, list) and path[-1:] == ["AIMessageChunk"]
    )


def _langchain(values: list[Fields]) -> Fields | None:
    """Join LangChain's AIMessageChunks; the calls are stated in pieces, and in what could be read of each piece."""
    if len(values) < 2 or not all(map(_is_langchain, values)):
        return None
    message: Fields = {}
    rest: list[Any] = []
    for value in values:
        kwargs = value.get("kwargs") if value["type"] == "constructor" else value
        fields = dict(kwargs) if isinstance(kwargs, dict) else {"kwargs": kwargs}
        if carries(fields.get("tool_call_chunks")):
            fields["tool_calls"] = fields.pop("tool_call_chunks")
            fields.pop("invalid_tool_calls", None)
        metadata = fields.pop("response_metadata", None)
        keep(message, {"response_metadata": metadata, "type": "AIMessageChunk"}, rest)
        add(message, {key: item for key, item in fields.items() if not is_beside(key, item)}, rest)
    return finished(final(message), rest)


_RESPONSES_DONE = frozenset({"response.completed", "response.incomplete", "response.failed"})


def _is_responses(value: Fields) -> bool:
    kind = value.get("type")
    return isinstance(kind, str) and kind.startswith("response.") and not value.keys().isdisjoint(_RESPONSES_KEYS)


_RESPONSES_KEYS = frozenset({"response", "delta", "item", "output_index", "part"})
#: Labels of an event, beside what it states.
_EVENT_LABELS = frozenset(
    {"type", "sequence_number", "item_id", "output_index", "content_index", "summary_index", "logprobs", "obfuscation"}
)


def _responses(values: list[Fields]) -> Fields:
    """Join the events of OpenAI's Responses API: the response that ended the stream, else what its events added up to.

    Deltas whose sum the response holds are known already; others go out with what they add up to.
    """
    body: Fields = {}
    rest: list[Any] = []
    items: dict[Any, Any] = {}
    pieces: dict[tuple[Any, ...], Text] = {}
    whole: list[Any] = []
    for value in values:
        kind, at = str(value.get("type")), _index_of(value.get("output_index"))
        left = {key: item for key, item in value.items() if carries(item) and not _is_event_label(key, item)}
        if isinstance(left.get("response"), dict):
            given = left.pop("response")
            if kind in _RESPONSES_DONE:
                whole.append(given)
            else:
                keep(body, given, rest)
        if isinstance(left.get("item"), dict) and kind in {"response.output_item.done", "response.output_item.added"}:
            item = left.pop("item")
            items[at, _index_of(item.get("id"))] = item
        if isinstance(left.get("delta"), str):
            where = (kind.removesuffix(".delta"), at, _index_of(value.get("content_index", value.get("summary_index"))))
            pieces.setdefault(where, Text()).append(left.pop("delta"))
        rest += [{"type": kind, **left}] if left else []
    if whole:
        earlier = [body, *whole[:-1]]
        body = dict(whole[-1])
        rest += [{key: item for key, item in one.items() if not is_beside(key, item)} for one in earlier]
    payload = set(_texts(body))
    output = [*_listed(body.get("output")), *(item for item in items.values() if not _is_known(item, payload))]
    body["output"] = output
    payload.update(_texts(output))
    rest = [event for event in rest if not _is_known(event, payload)]
    for (kind, *_), piece in pieces.items():
        text = "".join(piece)
        if text and text not in payload:
            output.append(_content_text(kind, text))
    return finished(body, rest)


def _is_event_label(key: str, item: object) -> bool:
    return key in _EVENT_LABELS and (key == "logprobs" or not isinstance(item, dict | list))


def _is_known(event: Fields, payload: set[str]) -> bool:
    return payload.issuperset(_texts({key: item for key, item in event.items() if not is_beside(key, item)}))


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value] if carries(value) else []


def _content_text(kind: str, text: str) -> Fields:
    """Return the item for deltas of which no item shows."""
    if "reasoning" in kind:
        return {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}
    if kind in {"response.output_text", "response.refusal"}:
        block = {"type": "output_text", "text": text} if kind.endswith("text") else {"type": "refusal", "refusal": text}
        return {"type": "message", "role": "assistant", "content": [block]}
    return {"type": kind, "delta": text}


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []


#: What distinguishes a chunk of a stream from other values, and how such chunks are put together.
_STREAMS: tuple[tuple[Callable[[Fields], bool], Callable[[list[Fields]], Fields | None]], ...] = (
    (_is_openai, _openai),
    (lambda value: value.get("object") == "text_completion", _completions),
    (_is_cohere, _cohere),
    (_is_vercel, _vercel),
    (lambda value: isinstance(value.get("type"), str) and value["type"] in _ANTHROPIC, _anthropic),
    (_is_responses, _responses),
    (lambda value: not value.keys().isdisjoint(_BEDROCK), _bedrock),
    (_is_gemini, _gemini),
    (_is_ollama, _ollama),
    (_is_langchain, _langchain),
)
#: Keys of which a chunk, the first as well, has at least one.
_MARKERS = frozenset({"choices", "delta", "type", "candidates", "done", "metadata", *_BEDROCK})
