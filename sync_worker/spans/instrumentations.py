"""What is known of the instrumentations whose spans reach Langfuse, by the name of their scope.

Langfuse drops the difference between OK and UNSET, a span's kind (see `kinds`), and shows some spans under another name
(see `span_names`). All follow from who made the span; the rules were read off the instrumentations' sources, and off
spans exported directly by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from sync_worker.records import Observation
from sync_worker.spans.openllmetry import markers_of
from sync_worker.spans.span_model import AttributeValue, Scope
from sync_worker.spans.versions import version_of

UNSET, OK, ERROR = 0, 1, 2

MODEL_CALLS = frozenset({"GENERATION", "EMBEDDING"})
_REMOTE_CALLS = MODEL_CALLS | {"RETRIEVER"}

PYDANTIC_AI = "pydantic-ai"
GOOGLE_ADK = "gcp.vertex.agent"
#: Marks a span as written in OpenInference's attributes.
OPENINFERENCE_KIND = "openinference.span.kind"
#: OpenInference's instrumentation of Google's kit, which writes into the kit's own spans.
OPENINFERENCE_ADK = "openinference.instrumentation.google_adk"


@dataclass(frozen=True, slots=True)
class SpanProfile:
    """How an instrumentation marks its spans: the types that are CLIENT, and the status of a span without an error."""

    client_types: frozenset[str] = frozenset()
    fine_status: int = UNSET


#: By prefix of the scope's name; the longest that fits counts.
_BY_SCOPE: dict[str, SpanProfile] = {
    "langfuse-sdk": SpanProfile(),
    "openinference.": SpanProfile(fine_status=OK),
    "openinference.instrumentation.autogen": SpanProfile(),
    "openinference.instrumentation.autogen_agentchat": SpanProfile(fine_status=OK),
    "openinference.instrumentation.agentspec": SpanProfile(),
    "@arizeai/openinference-": SpanProfile(fine_status=OK),
    "litellm": SpanProfile(fine_status=OK),
    "ai": SpanProfile(),
    GOOGLE_ADK: SpanProfile(),
    PYDANTIC_AI: SpanProfile(),
    "logfire": SpanProfile(),
    "genkit-tracer": SpanProfile(),
    "livekit-agents": SpanProfile(),
    "mlflow.": SpanProfile(fine_status=OK),
    "@mastra/otel": SpanProfile(fine_status=OK),
    "@mastra/otel-bridge": SpanProfile(),
    "pipecat": SpanProfile(),
    "strands.telemetry.tracer": SpanProfile(fine_status=OK),
    "traceloop.tracer": SpanProfile(),
    "opentelemetry.instrumentation.": SpanProfile(client_types=MODEL_CALLS),
    "opentelemetry.util.genai": SpanProfile(client_types=MODEL_CALLS),
    "com.anthropic.sdk": SpanProfile(client_types=MODEL_CALLS, fine_status=OK),
    "gen_ai": SpanProfile(client_types=MODEL_CALLS),
}
#: Scopes whose whole name must fit: a prefix this short would take in strangers.
_WHOLE_NAMES = frozenset({"ai", "gen_ai"})
_MAX_NAME = 200  # characters of a scope's name that are looked at, and remembered

#: Where nothing is known of the instrumentation, GenAI's conventions: calls that leave the process are CLIENT.
UNKNOWN = SpanProfile(client_types=_REMOTE_CALLS)
#: A program's own spans in OpenInference's attributes: its tracer makes them INTERNAL, its decorators end them with OK.
_OPENINFERENCE = SpanProfile(fine_status=OK)


def span_profile_of(scope: Scope | None, originals: Mapping[str, AttributeValue]) -> SpanProfile:
    """Return what is known of the instrumentation of a span; the conventions where its scope is unknown."""
    if scope is None:
        return UNKNOWN
    is_openinference = OPENINFERENCE_KIND in originals
    if scope.name == GOOGLE_ADK and is_openinference:  # its instrumentation ends the span
        return _OPENINFERENCE
    if scope.name == OPENINFERENCE_ADK and _is_adk_workflow(originals):
        return SpanProfile()
    return _by_name(scope.name[:_MAX_NAME]) or (_OPENINFERENCE if is_openinference else UNKNOWN)


@lru_cache(maxsize=1024)
def _by_name(scope_name: str) -> SpanProfile | None:
    best = ""
    for prefix in _BY_SCOPE:
        fits = scope_name == prefix if prefix in _WHOLE_NAMES else scope_name.startswith(prefix)
        if fits and len(prefix) > len(best):
            best = prefix
    return _BY_SCOPE[best] if best else None


def _is_adk_workflow(originals: Mapping[str, AttributeValue]) -> bool:
    """Whether a span is one of Google's kit itself, made with the instrumentation's tracer but not ended by it."""
    return str(originals.get("gen_ai.operation.name")) in {"invoke_workflow", "invoke_node"}


def status_of(observation: Observation, scope: Scope | None, originals: Mapping[str, AttributeValue]) -> int:
    """Return the OTLP status code: ERROR for level ERROR, else what the instrumentation sets on an OK span."""
    if observation.level == "ERROR":
        return ERROR
    markers = markers_of(scope, originals)
    if markers is not None:
        return UNSET if markers.unset.match(observation.name or "") else OK
    return span_profile_of(scope, originals).fine_status


def runs_tool_by_conventions(scope: Scope | None, originals: Mapping[str, AttributeValue]) -> bool:
    """Whether pydantic-ai names a tool's run by the conventions: from version 3 of its instrumentation on.

    The description that it adds for Logfire names the attributes; without it the package's version must do.
    """
    described = str(originals.get("logfire.json_schema", ""))
    if '"gen_ai.tool.call.arguments"' in described:
        return True
    if '"tool_arguments"' in described or "tool_arguments" in originals:
        return False
    return is_pydantic_by_conventions(scope)


def is_pydantic_by_conventions(scope: Scope | None) -> bool:
    """Whether pydantic-ai's names follow the conventions by default."""
    return version_of(scope) >= (2, 0)
