"""GenAI attributes from Langfuse's fields, so that Kelet sees one language whatever made the span.

An original attribute always wins: what is built here only fills what is missing. Names are those of OpenTelemetry's
GenAI conventions; `gen_ai.system` is their older name for the provider, which Kelet's dashboards read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sync_worker.json_text import dump, parse
from sync_worker.records import Observation
from sync_worker.spans.messages import Conversation, read_input, read_output
from sync_worker.spans.providers import provider_called, provider_of
from sync_worker.spans.request_parameters import is_given, request_attributes
from sync_worker.spans.retrieval import retrieval_attributes
from sync_worker.spans.span_model import Attributes, AttributeValue
from sync_worker.spans.tool_calls import is_tool, tool_call
from sync_worker.spans.tool_definitions import DEFINITIONS, tool_definitions
from sync_worker.spans.usage import usage_attributes

#: Names the keys of a span whose values were guessed.
GUESSED = "kelet.source.langfuse.guessed"

OPERATIONS = {
    "GENERATION": "chat",
    "EMBEDDING": "embeddings",
    "AGENT": "invoke_agent",
    "TOOL": "execute_tool",
    "RETRIEVER": "retrieval",
}
#: Types whose tokens are counted; a parent's usage would count its children's tokens again.
_COUNTED = frozenset({"GENERATION", "EMBEDDING"})


#: Keys of which a message's part has one, by its type; other frameworks' parts have other keys.
_PART_KEYS: dict[str, set[str]] = {
    "text": {"content"},
    "reasoning": {"content"},
    "thinking": {"content"},
    "tool_call": {"name"},
    "tool_call_response": {"response", "result"},
    "blob": {"content"},
    "uri": {"uri"},
    "file": {"file_id"},
}

#: Text without this key, which JSON may write with an escape, holds no message in parts: it need not be parsed.
_PARTS, _ESCAPE = '"parts"', "\\u00"

#: What Langfuse makes of prompts where a span has only answers: no program wrote that.
_NO_PROMPTS = "{}"

#: Attributes and fields that name the provider, the surest first: the conventions' two names, OpenInference's, the
#: Vercel AI SDK's; what Langfuse makes of the former; LangChain's and LiteLLM's words in metadata.
_PROVIDER_ATTRIBUTES = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "ai.model.provider", "llm.system")
_PROVIDER_PARAMETERS = ("system",)
_PROVIDER_METADATA = ("ls_provider", "custom_llm_provider")


def genai_attributes(
    observation: Observation, originals: Mapping[str, AttributeValue], agent: str | None
) -> Attributes:
    """Return the GenAI attributes of an observation that `originals` lacks.

    `agent` is the name of the nearest agent at or above the observation. Guessed keys are named under `GUESSED`.
    """
    derived: Attributes = {}
    guessed: list[str] = []
    runs_tool = is_tool(observation, originals)
    operation = OPERATIONS.get("TOOL" if runs_tool else observation.type)
    if operation is not None:
        derived["gen_ai.operation.name"] = operation
    if agent:
        derived["gen_ai.agent.name"] = agent
    if observation.type in _COUNTED:
        _provider(observation, originals, derived, guessed)
        if observation.model:
            derived["gen_ai.request.model"] = observation.model
            derived["gen_ai.response.model"] = observation.model
        derived.update(request_attributes(observation.model_parameters))
        counts = usage_attributes(observation.usage, originals, is_embedding=observation.type == "EMBEDDING")
        derived.update(counts.attributes)
        guessed += counts.guessed
    if observation.prompt_name:
        derived["gen_ai.prompt.name"] = observation.prompt_name
        if observation.prompt_version is not None:
            derived["gen_ai.prompt.version"] = str(observation.prompt_version)
    if observation.completion_start_ms is not None and observation.type == "GENERATION":
        derived["gen_ai.response.time_to_first_chunk"] = (
            max(0, observation.completion_start_ms - observation.start_ms) / 1000
        )
    if runs_tool:
        stated = tool_call(observation, originals)
        derived.update(stated.attributes)
        guessed += stated.guessed
    elif observation.type in {"GENERATION", "AGENT"}:
        _messages(observation, originals, derived)
        if DEFINITIONS not in derived and DEFINITIONS not in originals:
            tools = tool_definitions(observation, originals)
            if tools is not None:
                derived[DEFINITIONS] = tools
    elif observation.type == "RETRIEVER":
        derived.update(retrieval_attributes(observation, originals))
    missing = {key: value for key, value in derived.items() if key not in originals} if originals else derived
    return _marked(missing, guessed) if guessed else missing


def _marked(missing: Attributes, guessed: list[str]) -> Attributes:
    """Return attributes with the names of those that were guessed, where some are left of them."""
    left = [key for key in guessed if key in missing]
    return missing | {GUESSED: left} if left else missing


def _provider(
    observation: Observation, originals: Mapping[str, AttributeValue], derived: Attributes, guessed: list[str]
) -> None:
    named = _named_provider(observation, originals)
    provider = None if named is None else provider_called(named)
    if provider is None and observation.model:
        provider = provider_of(observation.model)
        if provider is not None:
            guessed += ["gen_ai.provider.name", "gen_ai.system"]
    if provider is not None:
        derived["gen_ai.provider.name"] = provider
        derived["gen_ai.system"] = provider


def _named_provider(observation: Observation, originals: Mapping[str, AttributeValue]) -> str | None:
    """Return what the provider is called, by whatever names it."""
    for stated, keys in (
        (originals, _PROVIDER_ATTRIBUTES),
        (observation.model_parameters, _PROVIDER_PARAMETERS),
        (observation.metadata, _PROVIDER_METADATA),
    ):
        for key in keys:
            name = stated.get(key)
            if isinstance(name, str) and is_given(name):
                return name
    return None


def _messages(observation: Observation, originals: Mapping[str, AttributeValue], derived: Attributes) -> None:
    """Chat messages of a model call, always; of an agent, where its input and output are messages.

    OpenAI's Responses API repeats in its answer what it was given: instructions and tools are no part of the output.
    """
    instructions: list[dict[str, Any]] = []
    if "gen_ai.input.messages" not in originals:
        asked = None if observation.input == _NO_PROMPTS else _kept(observation, read_input(observation.input))
        written = _as_written(observation.input)
        if asked is not None:
            if written is not None:
                asked = replace(asked, system=written[0])
                derived["gen_ai.input.messages"] = written[1]
            elif asked.messages:
                derived["gen_ai.input.messages"] = dump(asked.messages)
            instructions = asked.system
            if asked.tools:
                derived["gen_ai.tool.definitions"] = dump(asked.tools)
    if "gen_ai.output.messages" not in originals:
        answered = _kept(observation, read_output(observation.output))
        if answered is not None:
            system, text = _as_written(observation.output) or ([], None)
            if text is None or system:
                text = dump(answered.messages)
            derived["gen_ai.output.messages"] = text
            instructions = [part for part in answered.system if part not in instructions] + instructions
            if answered.tools:
                derived.setdefault("gen_ai.tool.definitions", dump(answered.tools))
            if answered.finish_reasons:
                derived["gen_ai.response.finish_reasons"] = answered.finish_reasons
    if instructions:
        derived["gen_ai.system_instructions"] = dump(instructions)


def _kept(observation: Observation, conversation: Conversation | None) -> Conversation | None:
    if conversation is not None and observation.type == "AGENT" and not conversation.recognised:
        return None
    return conversation


def _as_written(text: str | None) -> tuple[list[Any], str] | None:
    """Return system parts and messages of a text that holds GenAI's own messages: they stay as they were written.

    Langfuse puts system instructions before them, as plain messages, and tools beside them.
    """
    if not text or not (_PARTS in text or _ESCAPE in text):
        return None
    is_json, value = parse(text) if text.lstrip()[:1] in {"[", "{"} else (False, None)
    if (
        is_json
        and isinstance(value, dict)
        and value.keys() == {"messages", "tools"}
        and isinstance(value["tools"], list)
    ):
        value, text = value["messages"], None
    if not isinstance(value, list):
        return None
    first = next((at for at, item in enumerate(value) if not _is_plain_system(item)), len(value))
    if first == len(value) or not all(_is_genai_message(item) for item in value[first:]):
        return None
    system = [{"type": "text", "content": item["content"]} for item in value[:first]]
    return system, dump(value[first:]) if text is None or first else text


def _is_plain_system(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and item.keys() == {"role", "content"}
        and item["role"] == "system"
        and isinstance(item["content"], str)
    )


def _is_genai_message(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("role"), str)
        and isinstance(item.get("parts"), list)
        and isinstance(item.get("name"), str | None)
        and isinstance(item.get("finish_reason", ""), str)
        and all(
            isinstance(part, dict) and part.keys() & _PART_KEYS.get(str(part.get("type")), set())
            for part in item["parts"]
        )
    )
