"""Who wrote an OpenInference span, and how its messages follow from its input and output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sync_worker.records import Observation
from sync_worker.spans.instrumentations import GOOGLE_ADK
from sync_worker.spans.restore import Originals
from sync_worker.spans.versions import Version, version_of
from sync_worker.spans.vocabularies.openinference import agents, chat, gemini, langchain, responses
from sync_worker.spans.vocabularies.openinference.anthropic import anthropic_input, anthropic_output
from sync_worker.spans.vocabularies.openinference.tooling import Place
from sync_worker.spans.vocabularies.openinference.writing import Pairs, fields

Reader = Callable[[Any, Version], Pairs]

_PYTHON, _JAVASCRIPT = "openinference.instrumentation.", "@arizeai/openinference-instrumentation-"
#: openinference-instrumentation-openai tells reasoning as one content from here on.
_REASONING_WHOLE = (0, 1, 52)


#: Who names no version counts as the newest.
_NEWEST: Version = (1_000_000,)


@dataclass(frozen=True, slots=True)
class Maker:
    """How an instrumentation writes.

    `tools` says where tools stand in the input that it wrote: `kept` inside, as the request has them; `added` by
    Langfuse to an object; `wrapped` by Langfuse together with a list; `joined` to an object from an attribute of
    another maker, and from those of OpenInference only what that lacks.
    """

    reads_input: Reader | None = None
    reads_output: Reader | None = None
    reads_system: Reader | None = None  # finds the first message of the input in the output
    tools: Place = "added"
    only_llm: bool = True  # whether only model calls have messages
    sure: bool = True  # whether messages are known to be made like that
    answers_text: bool = False  # whether the output is the answer's text alone, where there is one


def _any_version(read: Callable[[Any], Pairs]) -> Reader:
    return lambda value, _: read(value)


def _openai_input(value: Any, version: Version) -> Pairs:
    if "messages" in fields(value):
        return chat.chat_input(value)
    return responses.responses_input(value, reasoning_whole=version >= _REASONING_WHOLE)


def _openai_output(value: Any, version: Version) -> Pairs:
    if "choices" in fields(value):
        return chat.chat_output(value)
    return responses.responses_output(value, reasoning_whole=version >= _REASONING_WHOLE)


_OPENAI = Maker(_openai_input, _openai_output, tools="kept")
_ANTHROPIC = Maker(anthropic_input, anthropic_output, tools="kept")
_LANGCHAIN = Maker(langchain.langchain_input, langchain.langchain_output, only_llm=False)
_ADK = Maker(_any_version(gemini.adk_input), _any_version(gemini.adk_output))
_UNKNOWN = Maker(sure=False)
_AGENTS = Maker(
    _any_version(agents.agents_input),
    _any_version(agents.agents_output),
    _any_version(agents.agents_system),
    tools="wrapped",
)
_AGENTS_CHAT = Maker(_any_version(agents.agents_chat), _any_version(agents.agents_chat), tools="wrapped")

#: By the last part of the scope's name. Makers that are not here have no messages: their input holds objects as Python
#: shows them (LlamaIndex, Haystack, CrewAI), or what they make of it differs by version and model (Bedrock, Vertex AI).
_MAKERS: dict[str, Maker] = {
    "openai": _OPENAI,
    "groq": Maker(_any_version(chat.groq_input), _any_version(chat.groq_output), tools="kept"),
    "portkey": Maker(_any_version(chat.groq_input), tools="kept", sure=False),
    "mistralai": Maker(_any_version(chat.mistral_input), _any_version(chat.mistral_output), tools="kept"),
    "anthropic": _ANTHROPIC,
    "langchain": _LANGCHAIN,
    "google_adk": _ADK,
    "google_genai": Maker(tools="kept"),
    "agno": Maker(_any_version(agents.agno_input), _any_version(agents.agno_output)),
    "dspy": Maker(_any_version(agents.plain_input), _any_version(agents.dspy_output)),
    "smolagents": Maker(_any_version(agents.plain_input), _any_version(agents.smolagents_output), sure=False),
    "litellm": Maker(
        _any_version(agents.litellm_input), _any_version(agents.litellm_output), sure=False, answers_text=True
    ),
    "openai_agents": _AGENTS,
    "instructor": Maker(tools="kept"),
    "bedrock": Maker(tools="kept"),
    "vertexai": Maker(tools="kept"),
}
_IN_JAVASCRIPT: dict[str, Maker] = {
    "openai": Maker(_openai_input, _openai_output, tools="kept", sure=False),
    "langchain": Maker(_LANGCHAIN.reads_input, _LANGCHAIN.reads_output, only_llm=False, sure=False),
    "anthropic": Maker(tools="kept"),
    "bedrock": Maker(tools="kept"),
}


def maker_of(row: Observation, originals: Originals) -> tuple[Maker, Version]:
    """Return what is known of the maker of a span, and its version."""
    if originals.scope is None:
        return _UNKNOWN, ()
    name, version = originals.scope.name, version_of(originals.scope) or _NEWEST
    if name.startswith(_JAVASCRIPT):
        return _IN_JAVASCRIPT.get(name.removeprefix(_JAVASCRIPT), _UNKNOWN), version
    if name == GOOGLE_ADK:  # Google's own spans, which the instrumentation of its kit adds to
        return replace(_ADK, tools="joined"), version
    if name == _PYTHON + "openai_agents" and row.name == "generation":
        return _AGENTS_CHAT, version
    return _MAKERS.get(name.removeprefix(_PYTHON), _UNKNOWN) if name.startswith(_PYTHON) else _UNKNOWN, version
