"""What is known of the instrumentations whose spans reach Langfuse, by the name of their scope.

Langfuse drops a span's kind and the difference between OK and UNSET, and shows some spans under another name. All
follow from who made the span; the rules were read off spans exported directly by each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sync_worker.records import Observation
from sync_worker.spans.model import AttributeValue, Scope

INTERNAL, CLIENT = 1, 3
UNSET, OK, ERROR = 0, 1, 2

_MODEL_CALLS = frozenset({"GENERATION", "EMBEDDING"})
_REMOTE_CALLS = _MODEL_CALLS | {"RETRIEVER"}


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
    "pydantic-ai": Habits(),
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


def kind_of(row: Observation, scope: Scope | None) -> int:
    """Return the OTLP span kind of a row."""
    if scope is not None and scope.name == "pydantic-ai" and _major(scope.version) >= 2:
        return CLIENT if row.type == "GENERATION" else INTERNAL
    return CLIENT if row.type in habits_of(scope).client_types else INTERNAL


def status_of(row: Observation, scope: Scope | None) -> int:
    """Return the OTLP status code of a row: ERROR for level ERROR, else what its maker sets on a span without fault."""
    return ERROR if row.level == "ERROR" else habits_of(scope).fine_status


def name_of(row: Observation, scope: Scope | None, originals: Mapping[str, AttributeValue]) -> str:
    """Return the span's original name where Langfuse shows another one, else the name that it shows."""
    maker = "" if scope is None else scope.name
    shown = row.name or row.type.lower()
    if maker == "ai":
        original = originals.get("ai.operationId")
        return original if isinstance(original, str) and original else shown
    if scope is not None and maker == "pydantic-ai":
        return _pydantic_name(row, shown, _major(scope.version), originals)
    if maker == "traceloop.tracer" and originals.get("traceloop.span.kind") == "tool":
        return shown if shown.endswith(".tool") else shown + ".tool"
    return _tool_call_name(row, shown, originals)


def _pydantic_name(row: Observation, shown: str, major: int, originals: Mapping[str, AttributeValue]) -> str:
    if row.type == "TOOL":
        return _tool_call_name(row, shown, originals) if major >= 2 else "running tool"
    if shown == originals.get("logfire.msg"):
        if shown.endswith(" run"):
            return "invoke_agent " + shown.removesuffix(" run") if major >= 2 else "agent run"
        if shown.startswith("running ") and shown.endswith((" tool", " tools")):
            return "running tools"
    return shown


def _tool_call_name(row: Observation, shown: str, originals: Mapping[str, AttributeValue]) -> str:
    is_call = originals.get("gen_ai.operation.name") == "execute_tool"
    return f"execute_tool {shown}" if is_call and originals.get("gen_ai.tool.name") == shown else shown


def sdk_major(scope: Scope | None) -> int:
    """Return the major version of Langfuse's Python SDK that made a span; 0 when no Langfuse SDK made it."""
    return _major(scope.version) if scope is not None and scope.name.startswith("langfuse-sdk") else 0


def _major(version: str) -> int:
    head = version.partition(".")[0]
    return int(head) if head.isdigit() else 0
