"""A span's kind, which Langfuse drops: it follows from who made the span, and from OpenTelemetry's general words."""

from __future__ import annotations

from collections.abc import Mapping

from sync_worker.records import Observation
from sync_worker.spans.instrumentations import MODEL_CALLS, PYDANTIC_AI, UNKNOWN, span_profile_of
from sync_worker.spans.openllmetry import markers_of
from sync_worker.spans.span_model import AttributeValue, Scope
from sync_worker.spans.versions import version_of

INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = 1, 2, 3, 4, 5

#: `pydantic-ai-slim` whose model calls are CLIENT first.
_PYDANTIC_CLIENT = (1, 42)

#: Kinds as Mastra spells them in an attribute (`@mastra/otel-exporter` 0.3), and by the type of its spans (1.4).
_MASTRA_KINDS = {
    "server": SERVER,
    "client": CLIENT,
    "model_inference": CLIENT,
    "rag_embedding": CLIENT,
    "mcp_tool_call": CLIENT,
    "mcp_server_request": SERVER,
}
_MASTRA_TYPE = "mastra.span.type"

#: What is CLIENT by GenAI's conventions though Langfuse has no type for it (opentelemetry-util-genai 1.3b0).
_REMOTE_OPERATIONS = frozenset({"retrieval", "create_agent", "fetch_response"})

#: What the HTTP conventions ask for on one side only, in their newer and older names.
_ONLY_SERVERS = frozenset({"http.route", "url.path", "http.target", "http.server_name"})
_ONLY_CLIENTS = frozenset({"url.full", "http.url"})
_METHODS = frozenset({"http.request.method", "http.method"})
_DATABASES = frozenset({"db.system", "db.system.name"})
_MESSAGING = {"publish": PRODUCER, "send": PRODUCER, "create": PRODUCER, "receive": CONSUMER, "process": CONSUMER}


def kind_of(observation: Observation, scope: Scope | None, originals: Mapping[str, AttributeValue]) -> int:
    """Return the OTLP span kind of an observation."""
    instrumentation = "" if scope is None else scope.name
    if instrumentation == PYDANTIC_AI:
        is_call = observation.type == "GENERATION" and originals.get("gen_ai.operation.name") != "image_generation"
        return CLIENT if is_call and version_of(scope) >= _PYDANTIC_CLIENT else INTERNAL
    if _MASTRA_TYPE in originals:
        return _of_mastra(originals)
    if instrumentation == "litellm":
        return _of_litellm(observation, originals)
    markers = markers_of(scope, originals)
    if markers is not None:
        return (
            CLIENT
            if (markers.calls and observation.type in MODEL_CALLS) or markers.client.match(observation.name or "")
            else INTERNAL
        )
    profile = span_profile_of(scope, originals)
    if observation.type in profile.client_types:
        return CLIENT
    # An instrumentation that is not known, or that writes spans of all kinds in OpenTelemetry's general words.
    may_be_any = profile is UNKNOWN or instrumentation.startswith(("opentelemetry.", "@opentelemetry/"))
    return _by_attributes(observation, originals) if originals and may_be_any else INTERNAL


def _of_mastra(originals: Mapping[str, AttributeValue]) -> int:
    if originals.get("gen_ai.operation.name") == "chat" and "span.kind" not in originals:
        return CLIENT
    return _MASTRA_KINDS.get(str(originals.get("span.kind", originals[_MASTRA_TYPE])), INTERNAL)


def _of_litellm(observation: Observation, originals: Mapping[str, AttributeValue]) -> int:
    """Return the kind of LiteLLM's spans (1.106.2): calls are CLIENT where it follows the newest conventions."""
    if observation.name == "Received Proxy Server Request":
        return SERVER
    newest = observation.type in MODEL_CALLS and "gen_ai.provider.name" in originals
    return CLIENT if newest or originals.keys() & _DATABASES else INTERNAL


def _by_attributes(observation: Observation, originals: Mapping[str, AttributeValue]) -> int:
    """Return the kind that OpenTelemetry's conventions for HTTP, databases, messaging and GenAI give such a span."""
    if str(originals.get("gen_ai.operation.name")) in _REMOTE_OPERATIONS:
        return CLIENT
    if originals.keys() & _METHODS:
        return _of_http(observation, originals)
    if originals.keys() & _DATABASES:
        return CLIENT
    operation = originals.get("messaging.operation.type", originals.get("messaging.operation"))
    return _MESSAGING.get(operation, INTERNAL) if isinstance(operation, str) else INTERNAL


def _of_http(observation: Observation, originals: Mapping[str, AttributeValue]) -> int:
    """Tell a client's request from a server's; where neither side's words are there, a server's begins a trace."""
    if originals.keys() & _ONLY_SERVERS:
        return SERVER
    if originals.keys() & _ONLY_CLIENTS:
        return CLIENT
    return CLIENT if observation.parent_id else SERVER
