"""LiteLLM's export to OpenTelemetry: GenAI's conventions, with tool calls in the older names beside them.

Source: litellm 1.106.2, integrations/opentelemetry.py. Tool calls go into `gen_ai.completion.N.function_call.*`, which
Langfuse reads first: what such a call was asked is lost, and of the answer the calls' ids.

Its `langfuse_otel` callback (1.110.2, integrations/langfuse/langfuse_otel.py, integrations/arize/_utils.py) writes
Langfuse's own names, and the answer in OpenInference's beside them. Langfuse takes the former and drops the latter,
which follow from the output: one message, or the calls that it asks for.
"""

from __future__ import annotations

from typing import Any

from sync_worker.json_text import parse
from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.conventions import prompts, semconv
from sync_worker.spans.conventions.convention import Convention, Rebuilt
from sync_worker.spans.conventions.openinference.writing import call, fields, flat, items
from sync_worker.spans.instrumentations import OPENINFERENCE_KIND
from sync_worker.spans.restore import Originals

#: What the callback for Langfuse writes; Langfuse keeps it in the metadata of any scope but its own SDK's.
_LANGFUSE_TYPE = "langfuse.observation.type"
_MASK_INPUT, _MASK_OUTPUT = "langfuse.generation.mask_input", "langfuse.generation.mask_output"
_OUTPUT = "llm.output_messages"
#: The role that the callback gives to a summary of reasoning.
_SUMMARY = "reasoning_summary"


def rebuild(observation: Observation, originals: Originals, context: TraceContext) -> Rebuilt:
    """Put back what Langfuse consumed of a span that LiteLLM made."""
    if _LANGFUSE_TYPE in originals.attributes:
        return _callback(observation, originals)
    if prompts.holds(observation.input, observation.output, originals):
        found = prompts.flattened(observation.input, observation.output)
        if not any(key.endswith((".role", ".content")) for key in found.attributes):
            found.lost.add(semconv.INPUT)
            found.guessed.add(semconv.OUTPUT)  # the calls are there, without their ids
        return found
    return semconv.rebuild_with(semconv.as_text, observation, originals)


def _callback(observation: Observation, originals: Originals) -> Rebuilt:
    """Put back what the callback wrote beside input and output, which go out under Langfuse's names as always."""
    found = Rebuilt()
    is_json, payload = parse(observation.output) if observation.output else (False, None)
    if is_json and isinstance(payload, dict) and isinstance(payload.get("role"), str):
        _answer(payload, found)
    elif is_json and isinstance(payload, list):
        _items(payload, str(originals.attributes.get("llm.request.type")), found)
    started = f"litellm-{originals.attributes.get('llm.request.type')}"
    if originals.attributes.get("langfuse.trace.name") == started:  # it began the trace, and set its input and output
        for key, mask, text in (
            ("input", _MASK_INPUT, observation.input),
            ("output", _MASK_OUTPUT, observation.output),
        ):
            if mask not in originals.attributes:
                found.put(f"langfuse.trace.{key}", text)
    return found


def _answer(payload: dict[str, Any], found: Rebuilt) -> None:
    found.attributes[f"{_OUTPUT}.0.message.role"] = payload["role"]
    if isinstance(payload.get("content"), str):
        found.attributes[f"{_OUTPUT}.0.message.content"] = payload["content"]
        found.put("output.value", payload["content"])


def _items(payload: list[Any], request: str, found: Rebuilt) -> None:
    """Put back the calls of a completion; of Responses the text of the last message, for their numbers are not kept."""
    if "completion" in request:
        if all(fields(item).get("type") == "function_call" for item in payload) and payload:
            found.attributes[f"{_OUTPUT}.0.message.role"] = "assistant"
            for at, item in enumerate(items(payload)):
                prefix = f"0.message.tool_calls.{at}"
                found.attributes |= flat(
                    _OUTPUT, call(prefix, item.get("call_id"), item.get("name"), item.get("arguments"))
                )
        return
    texts = [
        item["content"]
        for item in payload
        if isinstance(fields(item).get("content"), str) and item.get("role") != _SUMMARY
    ]
    found.put("output.value", texts[-1] if texts else None)


def matches(originals: Originals) -> bool:
    """Whether LiteLLM made a span, and not in the words of OpenInference, which its callback for Arize uses."""
    if originals.scope is None or not originals.scope.name.startswith("litellm"):
        return False
    return OPENINFERENCE_KIND not in originals.attributes or _LANGFUSE_TYPE in originals.attributes


CONVENTION: Convention = Convention("litellm", matches, rebuild)
