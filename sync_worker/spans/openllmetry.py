"""How OpenLLMetry's instrumentations mark their spans, each of them in its own way.

Read off their sources, versions 0.47.5 and 0.62.4 of opentelemetry-instrumentation-<name>. OpenTelemetry's own
instrumentations of vertexai and anthropic have the same scopes and versions from 1 on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sync_worker.spans.span_model import AttributeValue, Scope
from sync_worker.spans.versions import version_of

PREFIX = "opentelemetry.instrumentation."

_NONE = re.compile(r"(?!)")
_ALL = re.compile("")


@dataclass(frozen=True, slots=True)
class Markers:
    """Names of the spans that are CLIENT beside calls of models, and of those that stay UNSET though they are fine."""

    client: re.Pattern[str] = _NONE
    unset: re.Pattern[str] = _ALL
    calls: bool = True  # whether calls of models are CLIENT


_FINE = Markers(unset=_NONE)

#: By the scope's name after the prefix, up to its next dot.
_MARKERS: dict[str, Markers] = {
    "agno": Markers(client=_ALL, unset=_NONE),
    "alephalpha": _FINE,
    "anthropic": _FINE,
    "chromadb": Markers(),
    "cohere": _FINE,
    "crewai": _FINE,
    "google_generativeai": _FINE,
    "groq": _FINE,
    "haystack": Markers(unset=re.compile(r".*\.(?:task|workflow)\Z", re.DOTALL)),
    "langchain": Markers(client=re.compile("vector_db_retrieve ")),
    "llamaindex": Markers(calls=False),
    "mcp": Markers(unset=re.compile(r"(?:mcp\.client\.session|ResponseStreamWriter)\Z"), calls=False),
    "milvus": Markers(),
    "mistralai": _FINE,
    "ollama": _FINE,
    "openai_agents": Markers(client=re.compile(r"openai\.realtime\."), unset=_NONE),
    "pinecone": Markers(client=_ALL, unset=_NONE),
    "replicate": _FINE,
    "together": _FINE,
    "transformers": _FINE,
    "vertexai": _FINE,
    "watsonx": _FINE,
}

#: The same for spans that name no `gen_ai.provider.name` yet: openai-agents up to 0.60, crewai before 0.57.
_OLDER: dict[str, Markers] = {
    "crewai": Markers(client=re.compile(r".*\.(?:agent|task)\Z", re.DOTALL), unset=_NONE),
    "openai_agents": Markers(
        client=re.compile(r"Agent Workflow\Z|.*\.agent\Z|openai\.realtime\.", re.DOTALL), unset=_NONE
    ),
}

#: Named by openai's instrumentation; only where the answer was streamed does it state that all went well.
_STREAMED = ("gen_ai.is_streaming", "llm.is_streaming")


def markers_of(scope: Scope | None, attributes: Mapping[str, AttributeValue]) -> Markers | None:
    """Return how the instrumentation of a span marks it; None where it is none of OpenLLMetry's."""
    if scope is None or not scope.name.startswith(PREFIX) or version_of(scope) >= (1,):
        return None
    instrumentation = scope.name.removeprefix(PREFIX).partition(".")[0]
    if instrumentation == "openai":
        return _FINE if any(attributes.get(key) is True for key in _STREAMED) else Markers()
    if "gen_ai.provider.name" not in attributes and instrumentation in _OLDER:
        return _OLDER[instrumentation]
    return _MARKERS.get(instrumentation)
