"""Frameworks with few attributes of their own: Logfire, Mastra, Genkit, MLflow, LiveKit, Pipecat."""

import json
from typing import Any

import pytest

from sync_worker.records import Observation
from sync_worker.spans.genai import GUESSED
from tests.spans.made import attributes, held, row, span


def made(scope: str, there: dict[str, Any] | None = None, **changes: Any) -> Observation:
    metadata = {f"attributes.{key}": value for key, value in (there or {}).items()} | {"scope.name": scope}
    return row(**({"metadata": metadata} | changes))


def described(*names: str) -> dict[str, Any]:
    return {"logfire.json_schema": {"properties": {name: {} for name in names}}}


def test_logfire_names_what_is_gone() -> None:
    """Logfire's description names the attributes: one that is missing is what Langfuse shows as input or output."""
    found = attributes(made("logfire", described("prompt", "city") | {"city": "Zürich"}, input="Wetter?"))
    assert held(found, "prompt", "input", "events") == {"prompt": "Wetter?"}
    found = attributes(made("logfire", described("input", "output"), input="a", output="b"))
    assert held(found, "input", "output") == {"input": "a", "output": "b"}
    found = attributes(made("logfire", described("city") | {"city": "Zürich"}, input="Wetter?", output="x"))
    assert not {"prompt", "input", "output"} & found.keys()


def test_logfire_events() -> None:
    """Events of a model call are one list again."""
    asked, choice = {"event.name": "gen_ai.user.message"}, {"event.name": "gen_ai.choice"}
    found = attributes(
        made("logfire.openai", described("events"), input=json.dumps([asked]), output=json.dumps(choice))
    )
    assert json.loads(str(found["events"])) == [asked, choice]
    assert found[GUESSED] == ["events"]
    assert "events" not in attributes(made("logfire", described("events"), input="no events"))


def test_logfire_template_is_the_name() -> None:
    """Langfuse shows the filled-in message; the span is named by its template."""
    there = {"logfire.msg": "Hello Zürich", "logfire.msg_template": "Hello {city}"}
    assert span(made("logfire", there, name="Hello Zürich")).name == "Hello {city}"
    assert span(made("logfire", there, name="another")).name == "another"


def test_mastra() -> None:
    """Model calls have messages, agents their instructions as plain text, tools arguments and results."""
    messages = json.dumps([{"role": "user", "parts": []}])
    there = {"mastra.span.type": "model_inference", "gen_ai.operation.name": "chat",
             "gen_ai.response.finish_reasons": ["stop"], "mastra.tags": ["a"]}  # fmt: skip
    found = span(made("@mastra/otel-exporter", there, type="GENERATION", input=messages, output=messages))
    assert found.kind == 3
    assert held(found.attributes, "gen_ai.input.messages", "gen_ai.output.messages") == {
        "gen_ai.input.messages": messages, "gen_ai.output.messages": messages,
    }  # fmt: skip
    assert found.attributes["gen_ai.response.finish_reasons"] == '["stop"]'
    assert found.attributes["mastra.tags"] == '["a"]'
    agent = made("@mastra/otel-exporter", {"mastra.span.type": "agent_run"}, input='[{"role":"system","content":"Go"}]')
    assert attributes(agent)["gen_ai.system_instructions"] == "Go"
    assert (span(agent).kind, span(agent).status_code) == (1, 1)
    assert span(made("@mastra/otel-bridge", {"mastra.span.type": "agent_run"})).status_code == 0
    tool = {"mastra.span.type": "mcp_tool_call", "gen_ai.operation.name": "execute_tool"}
    found = span(made("@mastra/otel-exporter", tool, type="TOOL", input="{}", output="7"))
    assert held(found.attributes, "gen_ai.tool.call.arguments", "gen_ai.tool.call.result") == {
        "gen_ai.tool.call.arguments": "{}", "gen_ai.tool.call.result": "7",
    }  # fmt: skip
    assert found.kind == 3


def test_mastra_0_3() -> None:
    """The first versions wrote input and output plainly, and once more for the model; and their kind as text."""
    there = {"mastra.span.type": "model_generation", "mastra.trace_id": "t", "span.kind": "client"}
    found = attributes(made("@mastra/otel", there, input="a", output="b"))
    assert held(found, "input", "output", "gen_ai.prompt", "gen_ai.completion") == {
        "input": "a", "output": "b", "gen_ai.prompt": "a", "gen_ai.completion": "b",
    }  # fmt: skip
    there = {"mastra.span.type": "tool_call", "mastra.trace_id": "t", "span.kind": "internal", "gen_ai.tool.name": "w"}
    found_span = span(made("@mastra/otel", there, type="TOOL", name="w", input="a"))
    assert (found_span.name, found_span.kind) == ("tool.execute w", 1)
    assert "gen_ai.prompt" not in found_span.attributes
    agent = {"mastra.span.type": "agent_run", "mastra.trace_id": "t", "span.kind": "server"}
    assert span(made("@mastra/otel", agent)).kind == 2


def test_genkit() -> None:
    """Input is JSON text always; of a model's Langfuse shows a part, which is not passed off as the whole."""
    found = attributes(made("genkit-tracer", input="Zürich", output="sunny"))
    assert held(found, "genkit:input", "genkit:output") == {"genkit:input": '"Zürich"', "genkit:output": "sunny"}
    kept = {"genkit:input": "Zürich", "genkit:output": ["a"], "genkit:name": "flow"}
    assert held(attributes(made("genkit-tracer", kept)), *kept) == kept | {
        "genkit:input": '"Zürich"', "genkit:output": '["a"]',
    }  # fmt: skip
    model = made("genkit-tracer", {"genkit:metadata:subtype": "model"}, type="GENERATION", input="[]", output="{}")
    assert not {"genkit:input", "genkit:output"} & attributes(model).keys()
    assert span(model).kind == 1


def test_mlflow() -> None:
    """MLflow writes everything as JSON text, quotes of strings and numbers included, and OK at the end."""
    there = {"mlflow.traceRequestId": "tr-1", "mlflow.spanType": "LLM", "n": 3, "list": ["a"]}
    found = span(made("mlflow.tracing.provider", there, input='{"q": 1}', output='"a"'))
    assert held(found.attributes, *there, "mlflow.spanInputs", "mlflow.spanOutputs") == {
        "mlflow.traceRequestId": '"tr-1"', "mlflow.spanType": '"LLM"', "n": "3", "list": '["a"]',
        "mlflow.spanInputs": '{"q": 1}', "mlflow.spanOutputs": '"a"',
    }  # fmt: skip
    assert found.status_code == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llm_node", {"lk.chat_ctx": "in", "lk.response.text": "out"}),
        ("user_turn", {"lk.user_transcript": "in"}),
        ("function_tool", {"lk.function_tool.output": "out"}),
        ("llm_request", {}),
    ],
)
def test_livekit(name: str, expected: dict[str, str]) -> None:
    """The span's name says which attributes it has."""
    found = span(made("livekit-agents", name=name, type="GENERATION", input="in", output="out"))
    assert {key: value for key, value in found.attributes.items() if key.startswith("lk.")} == expected
    assert found.kind == 1


def test_livekit_by_the_conventions() -> None:
    """Later versions write the conventions' messages, and their own under other names."""
    there = {"lk.pii.chat_ctx": "x", "gen_ai.operation.name": "chat"}
    messages = json.dumps([{"role": "user", "parts": []}])
    found = attributes(made("livekit-agents", there, name="llm_request", input=messages, output=messages))
    assert held(found, "gen_ai.input.messages", "lk.chat_ctx") == {"gen_ai.input.messages": messages}
    found = attributes(made("livekit-agents", there, name="llm_request", input='[{"role":"user","content":"a"}]'))
    assert not {"gen_ai.input.messages", "lk.chat_ctx"} & found.keys()


def test_pipecat_and_mime_types() -> None:
    """Plain names where the instrumentation or an attribute beside them tells; none where nobody does."""
    found = attributes(made("pipecat", input="a", output="b"))
    assert held(found, "input", "output") == {"input": "a", "output": "b"}
    found = attributes(made("mine", {"input.mime_type": "text/plain"}, input="a"))
    assert held(found, "input.value", "output.value", "input") == {"input.value": "a"}
    found = attributes(made("mine", input="a", output="b"))
    assert not {"input", "output", "input.value", "output.value", "prompt"} & found.keys()


@pytest.mark.parametrize(
    ("scope", "there"),
    [
        ("logfire", {"logfire.json_schema": '{"properties":7}'}),
        ("logfire", described("events", "gen_ai.input.messages")),
        ("@mastra/otel", {"mastra.span.type": [1]}),
        ("genkit-tracer", {"genkit:metadata:subtype": {}}),
        ("livekit-agents", {"lk.pii.x": None}),
        ("mlflow.x", {"mlflow.traceRequestId": {"a": [float("nan")]}}),
    ],
)
@pytest.mark.parametrize("text", ["[", "[7]", "{}", "\ud800", "[" * 50_000, '[{"role":"system","content":7}]'])
def test_hostile(scope: str, there: dict[str, Any], text: str) -> None:
    """Strangers' text never stops the conversion."""
    for name in ("llm_node", "function_tool", ""):
        assert attributes(made(scope, there, name=name, input=text, output=text))
