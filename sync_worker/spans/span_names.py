"""A span's original name, where Langfuse shows another one: a tool's, an operation's or a message for people."""

from __future__ import annotations

from collections.abc import Mapping

from sync_worker.records import Observation
from sync_worker.spans.instrumentations import (
    OPENINFERENCE_ADK,
    PYDANTIC_AI,
    is_pydantic_by_conventions,
    runs_tool_by_conventions,
)
from sync_worker.spans.span_model import AttributeValue, Scope

_TOOL = "gen_ai.tool.name"


def name_of(observation: Observation, scope: Scope | None, originals: Mapping[str, AttributeValue]) -> str:
    """Return the span's original name where Langfuse shows another one, else the name that it shows."""
    instrumentation = "" if scope is None else scope.name
    shown = observation.name or observation.type.lower()
    if (
        instrumentation == "ai"
        or originals.get("ai.toolCall.name") == shown
        or ("ai.operationId" in originals and _ends_with_operation(shown, originals))
    ):
        return _of_vercel(shown, originals)
    if instrumentation == PYDANTIC_AI:
        return _of_pydantic(observation, shown, scope, originals)
    if instrumentation.startswith("logfire") and shown == originals.get("logfire.msg"):
        template = originals.get("logfire.msg_template")
        return template if isinstance(template, str) and template else shown
    if originals.get("traceloop.span.kind") == "tool":
        return _of_traceloop_tool(instrumentation, shown, originals)
    if (
        instrumentation.startswith("openinference.") and instrumentation != OPENINFERENCE_ADK
    ):  # they name tools' spans in ways of their own
        return shown
    return _of_tool_call(shown, originals) if originals.get(_TOOL) == shown else shown


def _ends_with_operation(shown: str, originals: Mapping[str, AttributeValue]) -> bool:
    operation = originals.get("ai.operationId")
    return isinstance(operation, str) and shown in {
        operation,
        f"{originals.get('ai.telemetry.functionId')}:{operation}",
    }


def _of_vercel(shown: str, originals: Mapping[str, AttributeValue]) -> str:
    """Return the operation; before `ai` 3.3 it stood only in `operation.name`, before the function's id."""
    operation = originals.get("ai.operationId")
    if isinstance(operation, str) and operation:
        return operation
    named = originals.get("operation.name")
    return named.partition(" ")[0] if isinstance(named, str) and named.startswith("ai.") else shown


def _of_pydantic(
    observation: Observation, shown: str, scope: Scope | None, originals: Mapping[str, AttributeValue]
) -> str:
    stated = originals.get("logfire.msg")
    if observation.type == "TOOL":
        if runs_tool_by_conventions(scope, originals):
            return f"execute_tool {originals.get(_TOOL, shown)}"
        return "running output function" if str(stated).startswith("running output function") else "running tool"
    if shown == stated:
        if shown.endswith(" run"):
            return "invoke_agent " + shown.removesuffix(" run") if is_pydantic_by_conventions(scope) else "agent run"
        if shown.startswith("running ") and shown.endswith((" tool", " tools")):
            return "running tools"
    return shown


def _of_traceloop_tool(instrumentation: str, shown: str, originals: Mapping[str, AttributeValue]) -> str:
    """Return a tool's name as OpenLLMetry writes it; Langfuse shows the tool's where the span names it."""
    if originals.get(_TOOL) == shown:
        # langchain's instrumentation has no suffix since it names the tool (0.62.4)
        langchain = instrumentation.startswith("opentelemetry.instrumentation.langchain")
        return f"execute_tool {shown}" if langchain else f"{shown}.tool"
    return shown if instrumentation != "traceloop.tracer" or shown.endswith(".tool") else f"{shown}.tool"


def _of_tool_call(shown: str, originals: Mapping[str, AttributeValue]) -> str:
    method = originals.get("mcp.method.name")  # OpenTelemetry's conventions for MCP: `tools/call {tool}`
    if isinstance(method, str) and method:
        return f"{method} {shown}"
    if "mastra.trace_id" in originals:
        return f"tool.execute {shown}"
    return f"execute_tool {shown}" if originals.get("gen_ai.operation.name") == "execute_tool" else shown
