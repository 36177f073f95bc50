"""What is known of the instrumentations whose spans reach Langfuse, by the name of their scope.

Langfuse drops a span's kind and the difference between OK and UNSET, and shows some spans under another name. All
follow from who made the span; the rules were read off spans exported directly by each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sync_worker.records import Observation
from sync_worker.spans.model import AttributeValue, Scope

INTERNAL, SERVER, CLIENT = 1, 2, 3
UNSET, OK, ERROR = 0, 1, 2

_MODEL_CALLS = frozenset({"GENERATION", "EMBEDDING"})
_REMOTE_CALLS = _MODEL_CALLS | {"RETRIEVER"}

PYDANTIC_AI = "pydantic-ai"
#: `pydantic-ai-slim` whose model calls are CLIENT first, and whose tools' names follow the conventions by default.
_PYDANTIC_CLIENT, _PYDANTIC_CONVENTIONS = (1, 42), (2, 0)

_MAX_DIGITS = 9  # of a version's number

#: Kinds as Mastra spells them in an attribute (`@mastra/otel-exporter` 0.3), and by the type of its spans (1.4).
_MASTRA_KINDS = {
    "server": SERVER,
    "client": CLIENT,
    "model_inference": CLIENT,
    "rag_embedding": CLIENT,
    "mcp_tool_call": CLIENT,
    "mcp_server_request": SERVER,
}


@dataclass(frozen=True, slots=True)
class Habits:
    """How an instrumentation marks its spans: the types that are CLIENT, and the status of a span without fault."""

    client_types: frozenset[str] = frozenset()
    fine_status: int = UNSET


#: By prefix of the scope's name; the longest that fits counts.
_BY_SCOPE: dict[str, Habits] = {
    "langfuse-sdk": Habits(),
    "openinference.": Habits(fine_status=OK),
    "litellm": Habits(fine_status=OK),
    "ai": Habits(),
    "gcp.vertex.agent": Habits(),
    PYDANTIC_AI: Habits(),
    "logfire": Habits(),
    "genkit-tracer": Habits(),
    "livekit-agents": Habits(),
    "mlflow.": Habits(fine_status=OK),
    "@mastra/otel": Habits(fine_status=OK),
    "@mastra/otel-bridge": Habits(),
    "pipecat": Habits(),
    "traceloop.tracer": Habits(),
    "opentelemetry.instrumentation.": Habits(client_types=_MODEL_CALLS),
    "opentelemetry.instrumentation.anthropic": Habits(client_types=_MODEL_CALLS, fine_status=OK),
    "opentelemetry.util.genai": Habits(client_types=_MODEL_CALLS),
    "com.anthropic.sdk": Habits(client_types=_MODEL_CALLS, fine_status=OK),
    "gen_ai": Habits(client_types=_MODEL_CALLS),
}
#: Scopes whose whole name must fit: a prefix this short would take in strangers.
_WHOLE_NAMES = frozenset({"ai", "gen_ai"})

#: Where nothing is known of the maker, GenAI's conventions: calls that leave the process are CLIENT.
_UNKNOWN = Habits(client_types=_REMOTE_CALLS)


def habits_of(scope: Scope | None) -> Habits:
    """Return what is known of the maker of a span; the conventions where its scope is unknown."""
    if scope is None:
        return _UNKNOWN
    best = ""
    for prefix in _BY_SCOPE:
        fits = scope.name == prefix if prefix in _WHOLE_NAMES else scope.name.startswith(prefix)
        if fits and len(prefix) > len(best):
            best = prefix
    return _BY_SCOPE[best] if best else _UNKNOWN


def kind_of(row: Observation, scope: Scope | None, originals: Mapping[str, AttributeValue]) -> int:
    """Return the OTLP span kind of a row."""
    if scope is not None and scope.name == PYDANTIC_AI:
        is_call = row.type == "GENERATION" and originals.get("gen_ai.operation.name") != "image_generation"
        return CLIENT if is_call and version_of(scope) >= _PYDANTIC_CLIENT else INTERNAL
    if "mastra.span.type" in originals:
        return _mastra_kind(originals)
    return CLIENT if row.type in habits_of(scope).client_types else INTERNAL


def _mastra_kind(originals: Mapping[str, AttributeValue]) -> int:
    if originals.get("gen_ai.operation.name") == "chat" and "span.kind" not in originals:
        return CLIENT
    return _MASTRA_KINDS.get(str(originals.get("span.kind", originals["mastra.span.type"])), INTERNAL)


def status_of(row: Observation, scope: Scope | None) -> int:
    """Return the OTLP status code of a row: ERROR for level ERROR, else what its maker sets on a span without fault."""
    return ERROR if row.level == "ERROR" else habits_of(scope).fine_status


def name_of(row: Observation, scope: Scope | None, originals: Mapping[str, AttributeValue]) -> str:
    """Return the span's original name where Langfuse shows another one, else the name that it shows."""
    maker = "" if scope is None else scope.name
    shown = row.name or row.type.lower()
    if maker == "ai" or originals.get("ai.toolCall.name") == shown or _ends_with_operation(shown, originals):
        return _vercel_name(shown, originals)
    if scope is not None and maker == PYDANTIC_AI:
        return _pydantic_name(row, shown, scope, originals)
    if maker.startswith("logfire") and shown == originals.get("logfire.msg"):
        template = originals.get("logfire.msg_template")
        return template if isinstance(template, str) and template else shown
    if maker == "traceloop.tracer" and originals.get("traceloop.span.kind") == "tool":
        return shown if shown.endswith(".tool") else shown + ".tool"
    if originals.get("gen_ai.tool.name") == shown and "mastra.trace_id" in originals:
        return f"tool.execute {shown}"
    return _tool_call_name(row, shown, originals)


def _ends_with_operation(shown: str, originals: Mapping[str, AttributeValue]) -> bool:
    operation = originals.get("ai.operationId")
    return isinstance(operation, str) and shown in {
        operation,
        f"{originals.get('ai.telemetry.functionId')}:{operation}",
    }


def _vercel_name(shown: str, originals: Mapping[str, AttributeValue]) -> str:
    """Return the operation; before `ai` 3.3 it stood only in `operation.name`, before the function's id."""
    operation = originals.get("ai.operationId")
    if isinstance(operation, str) and operation:
        return operation
    named = originals.get("operation.name")
    return named.partition(" ")[0] if isinstance(named, str) and named.startswith("ai.") else shown


def runs_tool_by_conventions(scope: Scope | None, originals: Mapping[str, AttributeValue]) -> bool:
    """Whether pydantic-ai names a tool's run by the conventions: from version 3 of its instrumentation on.

    The description that it adds for Logfire names the attributes; without it the package's version must do.
    """
    described = str(originals.get("logfire.json_schema", ""))
    if '"gen_ai.tool.call.arguments"' in described:
        return True
    if '"tool_arguments"' in described or "tool_arguments" in originals:
        return False
    return version_of(scope) >= _PYDANTIC_CONVENTIONS


def _pydantic_name(row: Observation, shown: str, scope: Scope, originals: Mapping[str, AttributeValue]) -> str:
    told = originals.get("logfire.msg")
    if row.type == "TOOL":
        if runs_tool_by_conventions(scope, originals):
            return f"execute_tool {originals.get('gen_ai.tool.name', shown)}"
        return "running output function" if str(told).startswith("running output function") else "running tool"
    if shown == told:
        if shown.endswith(" run"):
            is_new = version_of(scope) >= _PYDANTIC_CONVENTIONS
            return "invoke_agent " + shown.removesuffix(" run") if is_new else "agent run"
        if shown.startswith("running ") and shown.endswith((" tool", " tools")):
            return "running tools"
    return shown


def _tool_call_name(row: Observation, shown: str, originals: Mapping[str, AttributeValue]) -> str:
    is_call = originals.get("gen_ai.operation.name") == "execute_tool"
    return f"execute_tool {shown}" if is_call and originals.get("gen_ai.tool.name") == shown else shown


def sdk_major(scope: Scope | None) -> int:
    """Return the major version of Langfuse's Python SDK that made a span; 0 when no Langfuse SDK made it."""
    return version_of(scope)[0] if scope is not None and scope.name.startswith("langfuse-sdk") else 0


def version_of(scope: Scope | None) -> tuple[int, int]:
    """Return major and minor version of a span's maker; 0 for what is no number."""
    major, _, rest = ("" if scope is None else scope.version).partition(".")
    return _number(major), _number(rest.partition(".")[0])


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else 0
