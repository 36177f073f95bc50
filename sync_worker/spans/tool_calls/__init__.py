"""The run of a tool in GenAI's words: its name, the id of its call, its arguments and its result.

What Langfuse keeps as input and output of a tool is often what the framework handed around: the call, or the message
that answers it (see `envelopes`). The conventions mean the parameters passed to the tool and what it returned
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/#execute-tool-span), so the envelope is taken off. The
text as it was stays in `langfuse.observation.input` and `.output`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sync_worker.json_text import dump, parse
from sync_worker.records import Observation
from sync_worker.spans.python_text import read
from sync_worker.spans.span_model import Attributes, AttributeValue
from sync_worker.spans.tool_calls.envelopes import (
    Content,
    arguments_in,
    event_arguments,
    event_result,
    has_positions,
    result_in,
)

NAME, CALL_ID = "gen_ai.tool.name", "gen_ai.tool.call.id"
ARGUMENTS, RESULT = "gen_ai.tool.call.arguments", "gen_ai.tool.call.result"

#: Where instrumentations put a tool's name, besides the conventions, and the id of its call: OpenInference, the Vercel
#: AI SDK, LiveKit, Mastra, Traceloop.
_NAMES = ("tool.name", "ai.toolCall.name", "lk.function_tool.name", "traceloop.entity.name")
_CALL_IDS = ("tool_call.id", "tool.id", "ai.toolCall.id", "lk.function_tool.id", "tool_call_id")
#: Arguments that Langfuse leaves among the attributes.
_ARGUMENTS = ("lk.function_tool.arguments", "lk.function_tool.args")
#: The beginning of a span's name in the conventions, where Langfuse shows no other.
_OPERATION = "execute_tool "
#: What ADK writes for a call without an id.
_NO_ID = "<not specified>"

#: Envelopes may lie in each other: a message of LangChain in a list, JSON text in a call.
_MAX_LAYERS = 5

#: What the envelope of a result has in it, whichever way it is written: other text that looks like Python's is the
#: result itself.
_MARKERS = ("tool_call_id", "toolUseId", "raw_output", "call_id", "tool_name")


class _Stated(NamedTuple):
    """A value, the text that states it, and whether that is Python's."""

    value: Any
    text: str
    is_python: bool = False


@dataclass(slots=True)
class ToolCall:
    """A tool's observation in GenAI's words; `guessed` names attributes that stayed as the framework wrote them."""

    attributes: Attributes = field(default_factory=dict)
    guessed: list[str] = field(default_factory=list)


def is_tool(observation: Observation, originals: Mapping[str, AttributeValue]) -> bool:
    """Whether an observation is the run of a tool; Langfuse has no type for those that Traceloop's decorator marks."""
    return observation.type == "TOOL" or (observation.type == "SPAN" and originals.get("traceloop.span.kind") == "tool")


def tool_call(observation: Observation, originals: Mapping[str, AttributeValue]) -> ToolCall:
    """Return the attributes of a tool's observation."""
    name = _first(originals, _NAMES) or (observation.name or "").removeprefix(_OPERATION)
    asked = _read(observation.input)
    stated = None if asked is None else event_arguments(asked.value)
    arguments, asked_id = _unwrapped(asked, stated, lambda value: arguments_in(value, name))
    answered = _read(observation.output, *_MARKERS)
    stated = event_result(answered.value) if answered is not None and stated is not None else None
    result, answered_id = _unwrapped(answered, stated, result_in)
    found = ToolCall()
    call_id = _first(originals, _CALL_IDS) or _of_metadata(observation) or asked_id or answered_id
    for key, value in (
        (NAME, name),
        (CALL_ID, None if call_id == _NO_ID else call_id),
        (ARGUMENTS, _first(originals, _ARGUMENTS) if arguments is None else _json_of(arguments)),
        (RESULT, None if result is None else _json_of(result) if result is not answered else observation.output),
    ):
        if value:
            found.attributes[key] = value
    if arguments is not None and (has_positions(arguments.value) or _is_unread(arguments)):
        found.guessed.append(ARGUMENTS)
    return found


def _unwrapped(
    stated: _Stated | None, event: Content | None, look: Callable[[Any], Content | None]
) -> tuple[_Stated | None, str | None]:
    """Return what the envelopes around a text hold, and the id of the call that the outermost names."""
    call_id: str | None = None
    content = event
    for _ in range(_MAX_LAYERS):
        if content is None:
            content = None if stated is None else look(stated.value)
        if content is None or stated is None:
            break
        call_id = call_id or content.call_id
        if content.value is stated.value:
            break
        stated, content = _as_stated(content.value), None
    return stated, call_id


def _read(text: str | None, *markers: str) -> _Stated | None:
    """Read a text: JSON, JSON in a JSON string, or what Python wrote, where it has one of the markers."""
    if text is None:
        return None
    first = text.lstrip()[:1]
    is_json, value = parse(text) if first in {"{", "[", '"'} else (False, None)
    if isinstance(value, str):
        inner = _read(value, *markers) if value.lstrip()[:1] in {"{", "["} else None
        return _Stated(text, text) if inner is None or isinstance(inner.value, str) else inner
    if is_json:
        return _Stated(value, text)
    if not markers or any(mark in text for mark in markers):
        is_python, value = read(text)
        if is_python:
            return _Stated(value, text, is_python=True)
    return _Stated(text, text)


def _as_stated(value: Any) -> _Stated:
    if isinstance(value, str):
        return _read(value) or _Stated(value, value)
    return _Stated(value, "" if value is None else dump(value))


def _json_of(stated: _Stated) -> str:
    return dump(stated.value) if stated.is_python else stated.text


def _is_unread(stated: _Stated) -> bool:
    """Whether arguments look like an object that Python showed, and could not be read."""
    return isinstance(stated.value, str) and stated.value[:1] == "{"


def _first(originals: Mapping[str, AttributeValue], keys: tuple[str, ...]) -> str | None:
    if originals.keys().isdisjoint(keys):
        return None
    for key in keys:
        value = originals.get(key)
        if isinstance(value, str) and value:
            return value
    return None


def _of_metadata(observation: Observation) -> str | None:
    """Return the id that LangChain's callback for Langfuse puts into the metadata."""
    stated = observation.metadata.get("tool_call_id")
    return stated if isinstance(stated, str) and stated else None
