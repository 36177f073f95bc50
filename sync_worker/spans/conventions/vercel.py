"""The Vercel AI SDK, versions 3.2 to 6, and 7 with its older telemetry: scope `ai`.

Read in `ai` 3.2.45, 3.3.44, 3.4.33, 4.3.19, 5.0.277, 6.0.326 and `@ai-sdk/otel` 1.0.173. Each operation is a span, and
each model call below it another one whose name ends in `.doGenerate` or `.doStream`.
"""

from __future__ import annotations

from typing import Any

from sync_worker.json_text import dump, parse
from sync_worker.records import Observation
from sync_worker.spans.attribute_values import attribute_value
from sync_worker.spans.context import RESERVED_KEY, TraceContext
from sync_worker.spans.conventions.convention import Convention, Rebuilt
from sync_worker.spans.conventions.tools import take_tools
from sync_worker.spans.restore import Originals, has_whole_doubles
from sync_worker.spans.span_model import AttributeValue

_METADATA = "ai.telemetry.metadata."
_TOOLS = "ai.prompt.tools"
_MODEL_CALLS = (".doGenerate", ".doStream")

#: What Langfuse reads an observation's field from before it looks into the SDK's metadata.
_USER = ("langfuse.user.id", "user.id")
_SESSION = ("langfuse.session.id", "session.id", "gen_ai.conversation.id")
_TAGS = ("langfuse.trace.tags", "langfuse.tags")
#: What a span processor writes on all spans of a trace; metadata may then have come from it instead.
_PROPAGATED = ("langfuse.trace.", *_USER, "session.id")


def operation_of(attributes: dict[str, AttributeValue]) -> str:
    """Return the operation, which is the span's name too; before 3.3 it stood only before the function's id."""
    operation = attributes.get("ai.operationId")
    if isinstance(operation, str) and operation:
        return operation
    named = attributes.get("operation.name")
    return named.split(" ", 1)[0] if isinstance(named, str) and named.startswith("ai.") else ""


def _rebuild(observation: Observation, originals: Originals, context: TraceContext) -> Rebuilt:
    found = Rebuilt()
    operation = operation_of(originals.attributes)
    if operation == "ai.toolCall":
        found.put("ai.toolCall.args", observation.input)
        found.put("ai.toolCall.result", observation.output)
    else:
        _input(observation, operation, found)
        _output(observation, operation, originals, found)
    _metadata(observation, originals, found)
    return found


def _input(observation: Observation, operation: str, found: Rebuilt) -> None:
    if not operation.endswith(_MODEL_CALLS):
        found.put("ai.prompt", observation.input)
        return
    text, tools = take_tools(observation.input)
    found.put("ai.prompt.messages", text)
    if tools is not None:
        found.attributes[_TOOLS] = [dump(tool) for tool in tools]


def _output(observation: Observation, operation: str, originals: Originals, found: Rebuilt) -> None:
    if not observation.output:
        return
    payload = {"object": observation.output} if "Object" in operation else _answer(observation.output)
    for family in _families(originals):
        for key, value in payload.items():
            found.attributes[f"{family}.{key}"] = value


def _families(originals: Originals) -> tuple[str, ...]:
    """Return the names that answers have: `ai.result` until 3.2, both in 3.3 and 3.4, `ai.response` from 4 on."""
    if "ai.finishReason" not in originals.attributes:
        return ("ai.response",)
    return ("ai.response", "ai.result") if "ai.response.finishReason" in originals.attributes else ("ai.result",)


def _answer(output: str) -> dict[str, str]:
    """Return text and tool calls, of which Langfuse makes one message when a span has both."""
    is_json, value = parse(output) if output[:1] in {"{", "["} and _hints_at_calls(output) else (False, None)
    if is_json and isinstance(value, dict) and value.keys() == {"role", "content", "tool_calls"}:
        calls = value["tool_calls"]
        if value["role"] == "assistant" and isinstance(value["content"], str):
            return {"text": value["content"], "toolCalls": calls if isinstance(calls, str) else dump(calls)}
    if is_json and isinstance(value, list) and all(_is_call(item) for item in value):
        return {"toolCalls": output}
    return {"text": output}


def _hints_at_calls(output: str) -> bool:
    return "toolCallId" in output or '"tool_calls"' in output or output == "[]"


def _is_call(item: Any) -> bool:
    return isinstance(item, dict) and "toolCallId" in item and "toolName" in item


def _metadata(observation: Observation, originals: Originals, found: Rebuilt) -> None:
    """Put the caller's metadata back, of which Langfuse made the observation's metadata, user, session and tags."""
    there = originals.attributes
    doubles = has_whole_doubles(originals.resource)
    for key, value in originals.user.items():
        if key.startswith(RESERVED_KEY):
            continue
        found.claimed.add(key)
        if key != "tools" or _TOOLS not in there:  # earlier servers show the prompt's tools beside the metadata
            found.attributes[_METADATA + key] = attribute_value(key, value, doubles=doubles)
    if observation.user_id and not any(key in there for key in _USER):
        found.attributes[_METADATA + "userId"] = observation.user_id
    if observation.session_id and not any(key in there for key in _SESSION):
        found.attributes[_METADATA + "sessionId"] = observation.session_id
    if observation.tags and not any(key in there for key in _TAGS):
        found.attributes[_METADATA + "tags"] = list(observation.tags)
        if len(observation.tags) == 1:
            found.guessed.add(_METADATA + "tags")  # may have been plain text
    if any(key.startswith(_PROPAGATED) for key in there):
        found.guessed |= {key for key in found.attributes if key.startswith(_METADATA)}
    if observation.api == "v1":  # it shows them on the trace: another span may have set them
        found.guessed |= {_METADATA + key for key in ("userId", "sessionId", "tags")} & found.attributes.keys()


CONVENTION: Convention = Convention(
    "vercel-ai", lambda originals: originals.scope is not None and originals.scope.name == "ai", _rebuild
)
