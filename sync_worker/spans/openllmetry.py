"""How OpenLLMetry's instrumentations mark their spans, each of them in its own way.

Read off their sources, versions 0.47.5 and 0.62.4 of opentelemetry-instrumentation-<name>. OpenTelemetry's own
instrumentations of vertexai and anthropic have the same scopes and versions from 1 on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sync_worker.spans.model import AttributeValue, Scope
from sync_worker.spans.versions import version_of

PREFIX = "opentelemetry.instrumentation."

_NONE = re.compile(r"(?!)")
_ALL = re.compile("")


@dataclass(frozen=True, slots=True)
class Marks:
    """Names of the spans that are CLIENT beside calls of models, and of those that stay UNSET though they are fine."""

    client: re.Pattern[str] = _NONE
    unset: re.Pattern[str] = _ALL
    calls: bool = True  # whether calls of models are CLIENT


_FINE = Marks(unset=_NONE)

#: By the scope's name after the prefix, up to its next dot.
_MARKS: dict[str, Marks] = {
    "agno": Marks(client=_ALL, unset=_NONE),
    "alephalpha": _FINE,
    "anthropic": _FINE,
    "chromadb": Marks(),
    "cohere": _FINE,
    "crewai": _FINE,
    "google_generativeai": _FINE,
    "groq": _FINE,
    "haystack": Marks(unset=re.compile(r".*\.(?:task|workflow)\Z", re.DOTALL)),
    "langchain": Marks(client=re.compile("vector_db_retrieve ")),
    "llamaindex": Marks(calls=False),
    "mcp": Marks(unset=re.compile(r"(?:mcp\.client\.session|ResponseStreamWriter)\Z"), calls=False),
    "milvus": Marks(),
    "mistralai": _FINE,
    "ollama": _FINE,
    "openai_agents": Marks(client=re.compile(r"openai\.realtime\."), unset=_NONE),
    "pinecone": Marks(client=_ALL, unset=_NONE),
    "replicate": _FINE,
    "together": _FINE,
    "transformers": _FINE,
    "vertexai": _FINE,
    "watsonx": _FINE,
}

#: The same for spans that name no `gen_ai.provider.name` yet: openai-agents up to 0.60, crewai before 0.57.
_OLDER: dict[str, Marks] = {
    "crewai": Marks(client=re.compile(r".*\.(?:agent|task)\Z", re.DOTALL), unset=_NONE),
    "openai_agents": Marks(
        client=re.compile(r"Agent Workflow\Z|.*\.agent\Z|openai\.realtime\.", re.DOTALL), unset=_NONE
    ),
}

#: Named by openai's instrumentation; only where the answer was streamed does it say that all went well.
_STREAMED = ("gen_ai.is_streaming", "llm.is_streaming")


def marks_of(scope: Scope | None, attributes: Mapping[str, AttributeValue]) -> Marks | None:
    """Return how the maker of a span marks it; None where it is none of OpenLLMetry's."""
    if scope is None or not scope.name.startswith(PREFIX) or version_of(scope) >= (1,):
        return None
    maker = scope.name.removeprefix(PREFIX).partition(".")[0]
    if maker == "openai":
        return _FINE if any(attributes.get(key) is True for key in _STREAMED) else Marks()
    if "gen_ai.provider.name" not in attributes and maker in _OLDER:
        return _OLDER[maker]
    return _MARKS.get(maker)
