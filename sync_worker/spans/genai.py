"""GenAI attributes from Langfuse's fields, so that Kelet sees one language whatever made the span.

An original attribute always wins: what is built here only fills what is missing. Names are those of OpenTelemetry's
GenAI conventions; `gen_ai.system` is their older name for the provider, which Kelet's dashboards read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sync_worker.json_text import dump, parse
from sync_worker.records import Observation
from sync_worker.spans.messages import Conversation, read_input, read_output
from sync_worker.spans.model import Attributes, AttributeValue
from sync_worker.spans.usage import token_counts

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

#: Provider by the beginning of a model's name, for rows that name no provider. A guess, and marked as one.
_PROVIDERS = (
    (("gpt-", "o1", "o3", "o4", "text-embedding-", "chatgpt-", "davinci", "whisper-", "dall-e"), "openai"),
    (("claude",), "anthropic"),
    (("gemini", "models/gemini", "text-bison", "chat-bison"), "gcp.gemini"),
    (("mistral", "codestral", "ministral", "pixtral", "magistral"), "mistral_ai"),
    (("command-", "embed-english", "embed-multilingual", "rerank-"), "cohere"),
    (("deepseek",), "deepseek"),
    (("grok",), "x_ai"),
    (("sonar",), "perplexity"),
    (("amazon.", "anthropic.", "meta.", "us.anthropic.", "eu.anthropic."), "aws.bedrock"),
    (("kimi", "moonshot"), "moonshot_ai"),
)


def _number(value: Any) -> float | None:
    try:
        return float(value) if not isinstance(value, bool) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _integer(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number.is_integer() and abs(number) < 2**63 else None


def _strings(value: Any) -> list[str] | None:
    if isinstance(value, str):
        is_json, parsed = parse(value)
        return _strings(parsed) if is_json and isinstance(parsed, list) else [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value or None
    return None


def _boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value) if isinstance(value, str) else None


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

#: What Langfuse makes of prompts where a span has only answers: nobody said that.
_NO_PROMPTS = "{}"

_Reader = Callable[[Any], AttributeValue | None]

#: Langfuse's model parameters (which come back as text where they were not numbers), by GenAI name.
_PARAMETERS: tuple[tuple[str, tuple[str, ...], _Reader], ...] = (
    ("gen_ai.request.temperature", ("temperature",), _number),
    ("gen_ai.request.top_p", ("top_p", "topP"), _number),
    ("gen_ai.request.top_k", ("top_k", "topK"), _number),
    ("gen_ai.request.max_tokens", ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxTokens",
                                   "maxOutputTokens"), _integer),
    ("gen_ai.request.frequency_penalty", ("frequency_penalty", "frequencyPenalty"), _number),
    ("gen_ai.request.presence_penalty", ("presence_penalty", "presencePenalty"), _number),
    ("gen_ai.request.seed", ("seed",), _integer),
    ("gen_ai.request.stop_sequences", ("stop_sequences", "stop", "stopSequences"), _strings),
    ("gen_ai.request.choice.count", ("n", "candidate_count"), _integer),
    ("gen_ai.request.stream", ("stream",), _boolean),
)  # fmt: skip


def genai_attributes(row: Observation, originals: Mapping[str, AttributeValue], agent: str | None) -> Attributes:
    """Return the GenAI attributes of a row that `originals` lacks.

    `agent` is the name of the nearest agent at or above the row. Guessed keys are named under `GUESSED`.
    """
    derived: Attributes = {}
    guessed: list[str] = []
    operation = OPERATIONS.get(row.type)
    if operation is not None:
        derived["gen_ai.operation.name"] = operation
    if agent:
        derived["gen_ai.agent.name"] = agent
    if row.type in _COUNTED:
        _provider(row, originals, derived, guessed)
        _model(row, derived)
        if not any(key.startswith("gen_ai.usage.") for key in originals):
            derived.update(token_counts(row.usage))
    if row.completion_start_ms is not None and row.type == "GENERATION":
        derived["gen_ai.response.time_to_first_chunk"] = max(0, row.completion_start_ms - row.start_ms) / 1000
    if row.type == "TOOL":
        _tool(row, derived)
    elif row.type in {"GENERATION", "AGENT"}:
        _messages(row, originals, derived)
    elif row.type == "RETRIEVER" and row.input:
        derived["gen_ai.retrieval.query.text"] = row.input
    missing = {key: value for key, value in derived.items() if key not in originals}
    guessed = [key for key in guessed if key in missing]
    if guessed:
        missing[GUESSED] = guessed
    return missing


def _provider(
    row: Observation, originals: Mapping[str, AttributeValue], derived: Attributes, guessed: list[str]
) -> None:
    named = (
        originals.get("gen_ai.provider.name") or originals.get("gen_ai.system") or row.model_parameters.get("system")
    )
    provider = named if isinstance(named, str) and named else None
    if provider is None and row.model:
        provider = next((name for starts, name in _PROVIDERS if row.model.lower().startswith(starts)), None)
        if provider is not None:
            guessed += ["gen_ai.provider.name", "gen_ai.system"]
    if provider is not None:
        derived["gen_ai.provider.name"] = provider
        derived["gen_ai.system"] = provider


def _model(row: Observation, derived: Attributes) -> None:
    if row.model:
        derived["gen_ai.request.model"] = row.model
        derived["gen_ai.response.model"] = row.model
    for key, names, read in _PARAMETERS:
        for name in names:
            value = read(row.model_parameters[name]) if name in row.model_parameters else None
            if value is not None:
                derived[key] = value
                break


def _tool(row: Observation, derived: Attributes) -> None:
    if row.name:
        derived["gen_ai.tool.name"] = row.name
    call_id = row.metadata.get("tool_call_id")
    if isinstance(call_id, str) and call_id:
        derived["gen_ai.tool.call.id"] = call_id
    if row.input is not None:
        derived["gen_ai.tool.call.arguments"] = row.input
    if row.output is not None:
        derived["gen_ai.tool.call.result"] = row.output


def _messages(row: Observation, originals: Mapping[str, AttributeValue], derived: Attributes) -> None:
    """Chat messages of a model call, always; of an agent, where its input and output are messages."""
    if "gen_ai.input.messages" not in originals:
        asked = None if row.input == _NO_PROMPTS else _kept(row, read_input(row.input))
        written = _as_written(row.input)
        if asked is not None:
            if written is not None:
                asked = replace(asked, system=written[0])
                derived["gen_ai.input.messages"] = written[1]
            elif asked.messages:
                derived["gen_ai.input.messages"] = dump(asked.messages)
            if asked.system:
                derived["gen_ai.system_instructions"] = dump(asked.system)
            if asked.tools:
                derived["gen_ai.tool.definitions"] = dump(asked.tools)
    if "gen_ai.output.messages" not in originals:
        answered = _kept(row, read_output(row.output))
        if answered is not None:
            system, text = _as_written(row.output) or ([], None)
            if text is None or system:
                text = dump([*_system_turns(answered), *answered.messages])
            derived["gen_ai.output.messages"] = text
            if answered.tools:  # OpenAI's Responses API repeats in its answer what it was given
                derived.setdefault("gen_ai.tool.definitions", dump(answered.tools))
            if answered.finish_reasons:
                derived["gen_ai.response.finish_reasons"] = answered.finish_reasons


def _kept(row: Observation, conversation: Conversation | None) -> Conversation | None:
    if conversation is not None and row.type == "AGENT" and not conversation.recognised:
        return None
    return conversation


def _as_written(text: str | None) -> tuple[list[Any], str] | None:
    """Return system parts and messages of a text that holds GenAI's own messages: they stay as their maker wrote them.

    Langfuse puts system instructions before them, as plain messages, and tools beside them.
    """
    is_json, value = parse(text) if text and text.lstrip()[:1] in {"[", "{"} else (False, None)
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


def _system_turns(conversation: Conversation) -> list[dict[str, Any]]:
    """Put system parts of an output back into the row of messages: outputs have no attribute of their own for them."""
    return [{"role": "system", "parts": conversation.system}] if conversation.system else []
