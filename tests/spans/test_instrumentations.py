"""Kind, status and name by instrumentation: what OpenLLMetry, LiteLLM and OpenTelemetry's own write."""

from typing import Any

import pytest

from sync_worker.spans.instrumentations import OK, UNSET, status_of
from sync_worker.spans.kinds import CLIENT, CONSUMER, INTERNAL, PRODUCER, SERVER, kind_of
from sync_worker.spans.span_model import Scope
from sync_worker.spans.span_names import name_of
from tests.spans.made import row

NEW: dict[str, Any] = {"gen_ai.provider.name": "x"}


@pytest.mark.parametrize(
    ("instrumentation", "version", "name", "type", "attributes", "kind", "status"),
    [
        ("openai.v1", "0.62.4", "openai.chat", "GENERATION", NEW, CLIENT, UNSET),
        ("openai.v1", "0.62.4", "openai.chat", "GENERATION", {"gen_ai.is_streaming": True}, CLIENT, OK),
        ("openai.v1", "0.47.5", "openai.chat", "GENERATION", {"llm.is_streaming": True}, CLIENT, OK),
        ("openai.v1", "0.47.5", "openai.chat", "GENERATION", {"llm.is_streaming": "True"}, CLIENT, UNSET),
        ("openai_v2", "2.4b0", "chat x", "GENERATION", {"gen_ai.is_streaming": True}, CLIENT, UNSET),
        ("vertexai", "0.62.4", "vertexai.generate_content", "GENERATION", {}, CLIENT, OK),
        ("vertexai", "2.0b0", "chat x", "GENERATION", {}, CLIENT, UNSET),
        ("langchain", "0.62.4", "ChatOpenAI.chat", "GENERATION", NEW, CLIENT, UNSET),
        ("langchain", "0.62.4", "vector_db_retrieve x", "SPAN", NEW, CLIENT, UNSET),
        ("langchain", "0.62.4", "x.workflow", "SPAN", NEW, INTERNAL, UNSET),
        ("llamaindex", "0.62.4", "OpenAI.task", "GENERATION", NEW, INTERNAL, UNSET),
        ("crewai.instrumentation", "0.62.4", "cook.agent", "AGENT", NEW, INTERNAL, OK),
        ("crewai.instrumentation", "0.47.5", "cook.agent", "GENERATION", {}, CLIENT, OK),
        ("crewai.instrumentation", "0.47.5", "cook\nwell.task", "SPAN", {}, CLIENT, OK),
        ("crewai.instrumentation", "0.47.5", "crewai.workflow", "SPAN", {}, INTERNAL, OK),
        ("openai_agents", "0.62.4", "Agent Workflow", "SPAN", NEW, INTERNAL, OK),
        ("openai_agents", "0.60.0", "Agent Workflow", "SPAN", {}, CLIENT, OK),
        ("agno", "0.62.4", "look.tool", "TOOL", {}, CLIENT, OK),
        ("haystack", "0.62.4", "x.task", "SPAN", {}, INTERNAL, UNSET),
        ("haystack", "0.62.4", "haystack.openai.chat", "GENERATION", {}, CLIENT, OK),
        ("mcp.instrumentation", "0.62.4", "tools/list.mcp", "SPAN", {}, INTERNAL, OK),
        ("mcp.instrumentation", "0.62.4", "mcp.client.session", "SPAN", {}, INTERNAL, UNSET),
        ("chromadb", "0.62.4", "chroma.query", "SPAN", {"db.system": "chroma"}, INTERNAL, UNSET),
        ("pinecone", "0.62.4", "pinecone.query", "SPAN", {"db.system": "Pinecone"}, CLIENT, OK),
    ],
)
def test_openllmetry(
    instrumentation: str,
    version: str,
    name: str,
    type: str,  # noqa: A002
    attributes: dict[str, Any],
    kind: int,
    status: int,
) -> None:
    """Each instrumentation marks its spans in its own way; a rule for one of them must not reach the next."""
    scope = Scope("opentelemetry.instrumentation." + instrumentation, version)
    made = row(name=name, type=type)
    assert (kind_of(made, scope, attributes), status_of(made, scope, attributes)) == (kind, status)


@pytest.mark.parametrize(
    ("scope", "name", "attributes", "expected"),
    [
        ("my.app", "POST /chat", {"http.request.method": "POST"}, SERVER),
        ("my.app", "GET", {"http.request.method": "GET", "url.full": "http://x"}, CLIENT),
        ("my.app", "GET", {"http.request.method": "GET"}, SERVER),
        ("opentelemetry.instrumentation.fastapi", "GET", {"http.method": "GET", "http.url": "x", "http.route": "/"},
         SERVER),
        ("opentelemetry.instrumentation.requests", "GET", {"http.method": "GET", "http.url": "x"}, CLIENT),
        ("opentelemetry.instrumentation.redis", "SET", {"db.system": "redis"}, CLIENT),
        ("opentelemetry.util.genai.handler", "retrieval x", {"gen_ai.operation.name": "retrieval"}, CLIENT),
        ("my.app", "q publish", {"messaging.operation.type": "publish"}, PRODUCER),
        ("my.app", "q process", {"messaging.operation": "process"}, CONSUMER),
        ("my.app", "q", {"messaging.operation": ["x"]}, INTERNAL),
        ("gcp.vertex.agent", "GET /", {"http.method": "GET", "http.route": "/"}, INTERNAL),
        ("litellm", "Received Proxy Server Request", {}, SERVER),
        ("litellm", "postgres", {"db.system.name": "postgresql"}, CLIENT),
        ("litellm", "redis", {}, INTERNAL),
    ],
)  # fmt: skip
def test_kind_by_attributes(scope: str, name: str, attributes: dict[str, Any], expected: int) -> None:
    """Spans of unknown instrumentations have OpenTelemetry's general attributes; those of known ones do not."""
    assert kind_of(row(name=name), Scope(scope), attributes) == expected


def test_litellm_calls() -> None:
    """LiteLLM's calls are CLIENT where it follows the newest conventions, and INTERNAL before."""
    call = row(type="GENERATION")
    assert (kind_of(call, Scope("litellm"), NEW), kind_of(call, Scope("litellm"), {})) == (CLIENT, INTERNAL)


def test_openinference_in_the_kits_own_spans() -> None:
    """OpenInference marks the spans of Google's kit that it writes into as fine; the kit itself does not."""
    scope = Scope("gcp.vertex.agent", "2.13.0")
    assert status_of(row(), scope, {"openinference.span.kind": "LLM"}) == OK
    assert status_of(row(), scope, {}) == UNSET


@pytest.mark.parametrize(
    ("scope", "attributes", "expected"),
    [
        ("opentelemetry.instrumentation.openai_agents", {"traceloop.span.kind": "tool"}, "look.tool"),
        ("opentelemetry.instrumentation.agno", {"traceloop.span.kind": "tool"}, "look.tool"),
        ("opentelemetry.instrumentation.langchain", {"traceloop.span.kind": "tool"}, "execute_tool look"),
        ("mcp", {"mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool"}, "tools/call look"),
        ("strands.telemetry.tracer", {"gen_ai.operation.name": "execute_tool"}, "execute_tool look"),
    ],
)
def test_names_of_tools(scope: str, attributes: dict[str, Any], expected: str) -> None:
    """Langfuse shows a tool's name alone; its instrumentation says what stood around it."""
    made = row(name="look", type="TOOL")
    assert name_of(made, Scope(scope), attributes | {"gen_ai.tool.name": "look"}) == expected


def test_names_that_langfuse_did_not_change() -> None:
    """Before langchain's instrumentation named its tools, Langfuse showed the span's own name."""
    scope = Scope("opentelemetry.instrumentation.langchain", "0.47.5")
    assert name_of(row(name="look.tool"), scope, {"traceloop.span.kind": "tool"}) == "look.tool"
