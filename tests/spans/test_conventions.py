"""All conventions together: any span passes, in bounds and in time, and strangers' spans are left alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_worker.spans.context import TraceContext, gather
from sync_worker.spans.conventions import CONVENTIONS, rebuilt
from sync_worker.spans.conventions.convention import Rebuilt
from sync_worker.spans.conversion import convert
from sync_worker.spans.encode import to_proto
from sync_worker.spans.restore import take_apart
from sync_worker.spans.span_model import Conversion
from tests.spans.made import CHILD, OTLP, ROOT, TRACE, row
from tests.support.cost import MOST, TIMES, growth

SCOPES = (
    "ai", "gen_ai", "pydantic-ai", "logfire.openai", "genkit-tracer", "livekit-agents", "mlflow.x", "pipecat",
    "litellm", "@mastra/otel-exporter", "gcp.vertex.agent", "traceloop.tracer", "langsmith", "langfuse-sdk", "my.app",
    "strands.telemetry.tracer", "opentelemetry.util.genai.handler",
    *(f"opentelemetry.instrumentation.{name}"
      for name in ("openai.v1", "anthropic", "langchain", "mcp", "openai_agents", "google_genai")),
    *(f"openinference.instrumentation.{name}"
      for name in ("openai", "anthropic", "langchain", "google_adk", "agno", "dspy", "smolagents", "litellm", "crewai",
                   "openai_agents", "mistralai", "groq", "bedrock", "google_genai")),
    "@arizeai/openinference-instrumentation-openai",
)  # fmt: skip
MARKS = (
    "openinference.span.kind", "input.mime_type", "output.mime_type", "traceloop.span.kind", "mlflow.traceRequestId",
    "mastra.span.type", "mastra.trace_id", "genkit:name", "genkit:metadata:subtype", "logfire.json_schema",
    "logfire.msg", "logfire.msg_template", "ai.operationId", "operation.name", "ai.finishReason", "ai.toolCall.name",
    "ai.telemetry.functionId", "agent_name", "model_request_parameters", "tool_arguments", "lk.pii.x",
    "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.system", "gen_ai.tool.name", "gen_ai.tool.call.id",
    "mcp.method.name", "messaging.operation", "http.request.method", "error.type", "error.message", "db.system",
    "llm.tools.0.tool.json_schema", "langfuse.observation.type", "span.kind", "gen_ai.is_streaming",
)  # fmt: skip
WORDS = (
    "execute_tool", "tool", "chat", "LLM", "AGENT", "TOOL", "model", "ai.generateText.doGenerate", "ai.toolCall", "x",
    '{"properties":{"events":{"type":"array"},"prompt":{},"tool_response":{"type":["object"]}}}', "{}", "[1, 2]", "",
)  # fmt: skip
KEYS = (
    "role", "content", "parts", "tools", "messages", "prompt", "type", "text", "name", "function", "arguments", "id",
    "choices", "message", "tool_calls", "index", "output", "input", "config", "contents", "generations", "kwargs",
    "event.name", "0", "a.b", "instructions", "summary", "parameters_json_schema", "toolCallId", "toolName", "lc",
    "llm_output", "data", "function_declarations", "candidates", "response", "result", "system", "tool_call_id",
)  # fmt: skip

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=3)
    | st.sampled_from(["user", "system", "assistant", "tool_call", "text", "function_call", "message", "gen_ai.choice"])
)  # fmt: skip
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
SIDES = (
    st.none()
    | st.text(st.characters(), max_size=4)
    | JSON.map(json.dumps)
    | JSON.map(lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False))
)
VALUES = st.sampled_from(WORDS) | JSON
KNOWN = st.dictionaries(st.sampled_from(MARKS), VALUES, max_size=5)


def metadata(scope: str, known: dict[str, Any], *, nested: bool = False) -> dict[str, Any]:
    """Return metadata of a span of some instrumentation, as either generation of Langfuse's API shows it."""
    if nested:
        return {"scope": {"name": scope, "version": "1.0"}, "resourceAttributes": {"a": 1}, "attributes": known}
    return {f"attributes.{key}": value for key, value in known.items()} | OTLP | {"scope.name": scope}


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(
    sides=st.lists(st.tuples(SIDES, SIDES), min_size=2, max_size=2),
    scope=st.sampled_from(SCOPES),
    known=KNOWN,
    user=st.dictionaries(st.sampled_from(["tools", "a", "scope", "", "$kelet", "langfuse_tags"]), JSON, max_size=2),
    kind=st.sampled_from(["GENERATION", "TOOL", "AGENT", "SPAN", "EMBEDDING", "RETRIEVER", "CHAIN", "EVENT"]),
    nested=st.booleans(),
    api=st.sampled_from(["v1", "v2"]),
    level=st.sampled_from(["ERROR", "DEFAULT"]),
)
def test_any_span_passes(
    sides: list[tuple[str | None, str | None]],
    scope: str,
    known: dict[str, Any],
    user: dict[str, Any],
    kind: str,
    nested: bool,
    api: Any,
    level: str,
) -> None:
    """Whatever stands in input, output and attributes: no convention may lose a row over it."""
    rows = [
        replace(
            row(row_id, type=kind, input=asked, output=answered, metadata=metadata(scope, known, nested=nested) | user),
            api=api,
            level=level,
            status_message=answered,
            parent_id=parent,
        )
        for (row_id, parent), (asked, answered) in zip(((ROOT, None), (CHILD, ROOT)), sides, strict=True)
    ]
    trace = replace(row("t-" + TRACE, is_root=True, end=None, metadata=user), api=api)
    context = gather(TRACE, [trace, *rows])
    known_context = TraceContext.from_json(TRACE, json.loads(json.dumps(context.as_json())))
    result = convert(rows, known_context, "shop", Conversion())
    assert len(result.spans) == len(rows)
    for _, span in result.spans:
        assert len(to_proto(span).SerializeToString()) > 0
        assert len(span.attributes) <= Conversion().max_attributes
        assert not any("$kelet" in key for key in span.attributes if not key.startswith("metadata."))


def deep(levels: int) -> str:
    return '[{"parts":' * levels + "1" + "}]" * levels


PARTS = {"role": "user", "parts": [{"type": "text", "content": "hi"}], "content": "hi"}
#: Sides of a size, by how many there are of what they hold, and that number.
HUGE: dict[str, tuple[int, Callable[[int], Any]]] = {
    "messages": (3_000, lambda count: [PARTS] * count),
    "messages and tools": (
        2_000,
        lambda count: {
            "messages": [PARTS] * count,
            "tools": [{"name": f"f{at}", "function": {"name": f"f{at}"}} for at in range(count)],
        },
    ),
    "systems": (3_000, lambda count: [{"role": "system", "content": "hi"}] * count),
    "events": (3_000, lambda count: [{"event.name": "gen_ai.choice", "message": PARTS}] * count),
    "keys": (2_000, lambda count: {str(at): {"role": "user"} for at in range(count)}),
    "unread": (3_000, lambda count: [{"message": PARTS}] * count),
    "quotes": (200_000, lambda count: '"' * count),
    "brackets": (200_000, lambda count: "[" * count),
    "deep": (400, deep),
    "deeper": (50_000, deep),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HUGE)
def test_huge_sides_pass_in_time(name: str) -> None:
    """A row of thousands of messages would hold up all the others, or send more attributes than anybody reads."""
    count, make = HUGE[name]
    small, large = (
        payload if isinstance(payload, str) else json.dumps(payload, separators=(",", ":"))
        for payload in (make(count // TIMES), make(count))
    )

    def rebuilding(text: str, scope: str, known: dict[str, Any]) -> Callable[[], Rebuilt]:
        made = row(type="GENERATION", input=text, output=text, metadata=metadata(scope, known))
        originals = take_apart(made.metadata)
        return lambda: rebuilt(made, originals, TraceContext(TRACE))

    for scope in SCOPES:
        for known in ({"openinference.span.kind": "LLM"}, {"gen_ai.system": "x", "traceloop.span.kind": "tool"}):
            times, made = growth(rebuilding(small, scope, known), rebuilding(large, scope, known))
            assert times < MOST, scope
            assert len(made.attributes) < 1_200, scope


@pytest.mark.parametrize("text", ['[{"role":"user","content":"\ud800"}]', '[{"role":"user","content":NaN}]'])
def test_sides_that_are_no_json_of_everybody(text: str) -> None:
    """Readers of JSON differ over lone surrogates and NaN: a row must pass with both."""
    for scope in SCOPES:
        made = row(type="GENERATION", input=text, output=text, metadata=metadata(scope, {"gen_ai.system": "x"}))
        assert len(rebuilt(made, take_apart(made.metadata), TraceContext(TRACE)).attributes) < 1_200, scope


@pytest.mark.slow
@given(
    sides=st.tuples(SIDES, SIDES),
    known=st.dictionaries(st.sampled_from(["http.method", "db.system", "error.type", "x", "ai", "llm"]), VALUES),
    scope=st.sampled_from(["my.app", "aiohttp", "ai.something", "gen_ai_app", "genkit", "", "@opentelemetry/x"]),
    kind=st.sampled_from(["GENERATION", "TOOL", "SPAN"]),
)  # fmt: skip
def test_strangers_are_left_alone(
    sides: tuple[str | None, str | None], known: dict[str, Any], scope: str, kind: str
) -> None:
    """A span of another instrumentation would get attributes that it never had."""
    made = row(type=kind, input=sides[0], output=sides[1], metadata=metadata(scope, known))
    originals = take_apart(made.metadata)
    assert not [convention.name for convention in CONVENTIONS if convention.matches(originals)]
    assert rebuilt(made, originals, TraceContext(TRACE)).attributes == {}


@pytest.mark.parametrize(
    ("scope", "known", "key"),
    [
        ("pydantic-ai", {}, "input.value"),
        ("@mastra/arize", {"mastra.span.type": "tool_call"}, "input.value"),
        ("opentelemetry.instrumentation.openai.v1", {"gen_ai.system": "openai"}, "input.value"),
        ("my.app", {}, "input.value"),
        ("ai", {"ai.operationId": "ai.generateText"}, "ai.prompt"),
        ("traceloop.tracer", {"traceloop.span.kind": "task"}, "traceloop.entity.input"),
    ],
)
def test_spans_that_openinference_repeats(scope: str, known: dict[str, Any], key: str) -> None:
    """A processor may add OpenInference's attributes to any span; Langfuse's order of keys shows which it took."""
    made = row(input="hi", metadata=metadata(scope, known | {"openinference.span.kind": "CHAIN"}))
    assert rebuilt(made, take_apart(made.metadata), TraceContext(TRACE)).attributes == {key: "hi"}


def test_each_has_its_own_name() -> None:
    """Two conventions of one name would hide one another in whatever lists them."""
    names = [convention.name for convention in CONVENTIONS]
    assert len(set(names)) == len(names)
