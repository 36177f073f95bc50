"""Who wrote an OpenInference span, and how its messages follow from its input and output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sync_worker.records import Observation
from sync_worker.spans.conventions.openinference import (
    agents,
    backend,
    bedrock,
    general,
    google_genai,
    langchain_messages,
    openai_chat,
    openai_responses,
    shown,
)
from sync_worker.spans.conventions.openinference.anthropic import anthropic_input, anthropic_output
from sync_worker.spans.conventions.openinference.tooling import Place
from sync_worker.spans.conventions.openinference.writing import Pairs, fields
from sync_worker.spans.instrumentations import GOOGLE_ADK
from sync_worker.spans.restore import Originals
from sync_worker.spans.versions import Version, version_of

Reader = Callable[[Any, Version], Pairs]
#: Reads an output that is no JSON, with the input beside it.
Answer = Callable[[str, Any], Pairs]

_PYTHON, _JAVASCRIPT = "openinference.instrumentation.", "@arizeai/openinference-instrumentation-"
#: openinference-instrumentation-openai shows reasoning as one content from here on.
_REASONING_WHOLE = (0, 1, 52)


#: Who names no version counts as the newest.
_NEWEST: Version = (1_000_000,)


@dataclass(frozen=True, slots=True)
class Instrumentation:
    """How an instrumentation writes.

    `tools` states where tools stand in the input that it wrote: `kept` inside, as the request has them; `declared`
    inside, where Langfuse adds them once more, by name; `added` by Langfuse to an object; `wrapped` by Langfuse
    together with a list; `joined` to an object from an attribute of another instrumentation, and from those of
    OpenInference only what that lacks. `either` is `kept` for the body of a request, and `added` for anything else.
    """

    reads_input: Reader | None = None
    reads_output: Reader | None = None
    reads_system: Reader | None = None  # finds the first message of the input in the output
    tools: Place = "added"
    only_llm: bool = True  # whether only model calls have messages
    sure: bool = True  # whether messages are known to be made like that
    reads_answer: Answer | None = None  # finds the answer in an output that is text

    @property
    def reads_messages(self) -> bool:
        """Whether anything is known of the messages."""
        return bool(self.reads_input or self.reads_output or self.reads_answer)


def _any_version(read: Callable[[Any], Pairs]) -> Reader:
    return lambda value, _: read(value)


def _openai_input(value: Any, version: Version) -> Pairs:
    if "messages" in fields(value):
        return openai_chat.chat_input(value)
    return openai_responses.responses_input(value, reasoning_whole=version >= _REASONING_WHOLE)


def _openai_output(value: Any, version: Version) -> Pairs:
    if "choices" in fields(value):
        return openai_chat.chat_output(value)
    return openai_responses.responses_output(value, reasoning_whole=version >= _REASONING_WHOLE)


_OPENAI = Instrumentation(_openai_input, _openai_output, tools="kept")
_ANTHROPIC = Instrumentation(anthropic_input, anthropic_output, tools="kept")
_LANGCHAIN = Instrumentation(langchain_messages.langchain_input, langchain_messages.langchain_output, only_llm=False)
_ADK = Instrumentation(_any_version(google_genai.adk_input), _any_version(google_genai.adk_output))
_GENAI = Instrumentation(
    _any_version(google_genai.genai_input), _any_version(google_genai.genai_output), tools="declared", sure=False
)
#: A program's own spans, of which any text may be the input.
_STRANGER = Instrumentation(sure=False)
#: An instrumentation of OpenInference's that is not listed. It has tools in its input if that is a whole request.
_UNKNOWN = Instrumentation(
    _any_version(general.general_input),
    _any_version(general.general_output),
    tools="either",
    sure=False,
    reads_answer=agents.litellm_answer,
)
#: LiteLLM's callbacks for Arize, and its older one for Langfuse: the input is the last message's text, whose number is
#: not kept (integrations/arize/_utils.py).
_LITELLM = "litellm"
_LITELLM_ITSELF = Instrumentation(reads_answer=agents.litellm_answer, sure=False)
_AGENTS = Instrumentation(
    _any_version(agents.agents_input),
    _any_version(agents.agents_output),
    _any_version(agents.agents_system),
    tools="wrapped",
)
_AGENTS_CHAT = Instrumentation(_any_version(agents.agents_chat), _any_version(agents.agents_chat), tools="wrapped")

#: By the last part of the scope's name.
_INSTRUMENTATIONS: dict[str, Instrumentation] = {
    "openai": _OPENAI,
    "groq": Instrumentation(_any_version(openai_chat.groq_input), _any_version(openai_chat.groq_output), tools="kept"),
    "portkey": Instrumentation(
        _any_version(openai_chat.groq_input), _any_version(openai_chat.groq_output), tools="kept", sure=False
    ),
    "mistralai": Instrumentation(
        _any_version(openai_chat.mistral_input), _any_version(openai_chat.mistral_output), tools="kept"
    ),
    "anthropic": _ANTHROPIC,
    "langchain": _LANGCHAIN,
    "google_adk": _ADK,
    "google_genai": _GENAI,
    "agno": Instrumentation(_any_version(agents.agno_input), _any_version(agents.agno_output)),
    "autogen_agentchat": Instrumentation(None, _any_version(backend.autogen_output), sure=False),
    "beeai": Instrumentation(_any_version(backend.beeai_input), reads_answer=backend.beeai_answer, sure=False),
    "dspy": Instrumentation(_any_version(agents.plain_input), _any_version(agents.dspy_output)),
    "haystack": Instrumentation(_any_version(shown.haystack_input), _any_version(shown.haystack_output), sure=False),
    "llama_index": Instrumentation(
        _any_version(shown.llama_index_input), reads_answer=shown.llama_index_answer, sure=False
    ),
    "smolagents": Instrumentation(
        _any_version(shown.smolagents_input), _any_version(shown.smolagents_output), sure=False
    ),
    "litellm": Instrumentation(
        _any_version(agents.litellm_input),
        _any_version(agents.litellm_output),
        sure=False,
        reads_answer=agents.litellm_answer,
    ),
    "openai_agents": _AGENTS,
    "instructor": Instrumentation(tools="kept"),
    "bedrock": Instrumentation(_any_version(bedrock.bedrock_input), _any_version(bedrock.bedrock_output), tools="kept"),
    "vertexai": Instrumentation(tools="kept"),  # what it makes of the same body differs by the SDK that is used
}
_IN_JAVASCRIPT: dict[str, Instrumentation] = {
    "openai": Instrumentation(_openai_input, _openai_output, tools="kept", sure=False),
    "langchain": Instrumentation(_LANGCHAIN.reads_input, _LANGCHAIN.reads_output, only_llm=False, sure=False),
}


def instrumentation_of(observation: Observation, originals: Originals) -> tuple[Instrumentation, Version]:
    """Return what is known of the instrumentation of a span, and its version."""
    if originals.scope is None:
        return _STRANGER, ()
    name, version = originals.scope.name, version_of(originals.scope) or _NEWEST
    if name.startswith(_JAVASCRIPT):
        return _IN_JAVASCRIPT.get(name.removeprefix(_JAVASCRIPT), _UNKNOWN), version
    if name == GOOGLE_ADK:  # Google's own spans, which the instrumentation of its kit adds to
        return replace(_ADK, tools="joined"), version
    if name == _LITELLM:
        return _LITELLM_ITSELF, version
    if name == _PYTHON + "openai_agents" and observation.name == "generation":
        return _AGENTS_CHAT, version
    if name.startswith(_PYTHON):
        return _INSTRUMENTATIONS.get(name.removeprefix(_PYTHON), _UNKNOWN), version
    return _UNKNOWN if name.startswith(("openinference.", "@arizeai/openinference-")) else _STRANGER, version
