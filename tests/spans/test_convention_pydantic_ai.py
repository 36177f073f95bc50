"""What pydantic-ai wrote, in each version of its instrumentation, comes back under its names."""

import json
from typing import Any

import pytest

from sync_worker.records import Observation
from sync_worker.spans.genai import GUESSED
from sync_worker.spans.span_model import Attributes, Span
from tests.spans.made import attributes, held, row, span

USER = {"role": "user", "parts": [{"type": "text", "content": "Wetter?"}]}
SYSTEM = {"role": "system", "content": "Be brief.\nBe kind."}
REQUESTED = {"name": "get_weather", "parameters_json_schema": {"type": "object"}, "strict": False}
DEFINED = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}}


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def made(kind: str, there: dict[str, Any], version: str = "1.20.0", **changes: Any) -> Observation:
    scope = {"scope.name": "pydantic-ai", "scope.version": version}
    metadata = {f"attributes.{key}": value for key, value in there.items()} | scope
    return row(**({"type": kind, "metadata": metadata} | changes))


def chat(*, version: str = "1.20.0", there: dict[str, Any] | None = None, **changes: Any) -> Attributes:
    own = {"gen_ai.operation.name": "chat"} | (there or {})
    return attributes(made("GENERATION", own, version, name="chat gpt-4o", **changes))


def test_chat_with_instructions() -> None:
    """Instructions that Langfuse put before the messages go back to their own attribute, always in one part."""
    found = chat(input=compact([SYSTEM, USER]), output=json.dumps([USER]))
    assert found["gen_ai.system_instructions"] == compact([{"type": "text", "content": "Be brief.\nBe kind."}])
    assert found["gen_ai.input.messages"] == compact([USER])
    assert found["gen_ai.output.messages"] == json.dumps([USER])
    assert GUESSED not in found


def test_tools_of_the_request() -> None:
    """Before 1.42 the request's parameters alone had the tools: they are whole again."""
    kept = {"output_mode": "text", "allow_text_output": True}
    found = chat(there={"model_request_parameters": kept}, input=compact({"messages": [USER], "tools": [REQUESTED]}))
    assert json.loads(str(found["model_request_parameters"])) == kept | {"function_tools": [REQUESTED]}
    assert found["gen_ai.input.messages"] == compact([USER])
    assert GUESSED not in found


def test_tools_defined_by_the_conventions() -> None:
    """Later both had them and Langfuse kept the definitions: that the parameters miss some is said."""
    found = chat(
        version="2.68.0",
        there={"model_request_parameters": {"output_mode": "text"}},
        input=compact({"messages": [USER], "tools": [DEFINED]}),
    )
    assert found["gen_ai.tool.definitions"] == compact([DEFINED])
    assert found["model_request_parameters"] == '{"output_mode":"text"}'
    assert found[GUESSED] == ["model_request_parameters"]


def test_parameters_without_tools() -> None:
    """A request that had no tools keeps its parameters as they are."""
    found = chat(there={"model_request_parameters": {"function_tools": []}}, input=compact([USER]))
    assert found["model_request_parameters"] == '{"function_tools":[]}'
    assert GUESSED not in found


def test_events_of_version_1() -> None:
    """Version 1 wrote one list of events, of which Langfuse made input and output."""
    asked = {"content": "Wetter?", "role": "user", "event.name": "gen_ai.user.message"}
    choice = {"index": 0, "message": {"content": "sunny"}, "event.name": "gen_ai.choice"}
    found = chat(input=compact([asked]), output=compact(choice))
    assert json.loads(str(found["events"])) == [asked, choice]
    assert found[GUESSED] == ["events"]
    assert json.loads(str(chat(output=compact(choice))["events"])) == [choice]


@pytest.mark.parametrize("kind", ["SPAN", "AGENT"])
def test_agent(kind: str) -> None:
    """An agent's messages and result have names of their own."""
    there = {"agent_name": "helper", "logfire.msg": "helper run"}
    found = attributes(made(kind, there, input=compact([SYSTEM, USER]), output="sunny"))
    assert found["pydantic_ai.all_messages"] == compact([USER])
    assert found["final_result"] == "sunny"
    assert "gen_ai.system_instructions" in found


def test_agent_of_version_1() -> None:
    """There Langfuse shows all messages as the output, and no result."""
    events = compact([{"content": "Wetter?", "event.name": "gen_ai.user.message"}])
    found = attributes(made("SPAN", {"agent_name": "helper"}, output=events))
    assert held(found, "all_messages_events", "final_result") == {"all_messages_events": events}


def schema(*names: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "object"} for name in names}}


@pytest.mark.parametrize(
    ("version", "described", "name", "keys"),
    [
        ("1.20.0", schema("tool_arguments"), "running tool", ["tool_arguments", "tool_response"]),
        ("2.68.0", schema("tool_arguments"), "running tool", ["tool_arguments", "tool_response"]),
        ("1.20.0", schema("gen_ai.tool.call.arguments"), "execute_tool weather",
         ["gen_ai.tool.call.arguments", "gen_ai.tool.call.result"]),
        ("2.0.0", schema(), "execute_tool weather", ["gen_ai.tool.call.arguments", "gen_ai.tool.call.result"]),
        ("0.8.1", schema(), "running tool", ["tool_arguments", "tool_response"]),
    ],
)  # fmt: skip
def test_tool(version: str, described: dict[str, Any], name: str, keys: list[str]) -> None:
    """The version of the instrumentation, not the package's, decides on the names of a tool's run."""
    there = {"gen_ai.tool.name": "weather", "logfire.msg": "running tool: weather", "logfire.json_schema": described}
    found = span(made("TOOL", there, version, name="weather", input='{"a": "1.10"}', output="1.10"))
    assert found.name == name
    assert held(found.attributes, *keys) == dict(zip(keys, ('{"a": "1.10"}', "1.10"), strict=True))


def test_result_that_reads_as_a_number() -> None:
    """Langfuse keeps a tool's result beside the output too, but as the number that its text reads as."""
    there = {"tool_response": 1.1, "tool_arguments": {"a": 1}, "gen_ai.tool.name": "weather"}
    found = attributes(made("TOOL", there, name="weather", input='{"a":1}', output="1.10"))
    assert held(found, "tool_arguments", "tool_response") == {"tool_arguments": '{"a":1}', "tool_response": "1.10"}


def name(kind: str, message: str, version: str, **there: str) -> str:
    return span(made(kind, {"logfire.msg": message} | there, version, name=there.get("tool", message))).name


def test_names() -> None:
    """Langfuse shows Logfire's message, or the tool; the span's name is another."""
    assert name("SPAN", "helper run", "1.20.0") == "agent run"
    assert name("AGENT", "helper run", "2.0.0") == "invoke_agent helper"
    assert name("SPAN", "running 2 tools", "1.20.0") == "running tools"
    assert name("TOOL", "running output function: f", "1.20.0", tool="f") == "running output function"
    assert name("SPAN", "waiting for x concurrency", "2.0.0") == "waiting for x concurrency"


def kind_of(kind: str, version: str, operation: str = "chat") -> Span:
    return span(made(kind, {"gen_ai.operation.name": operation}, version))


def test_kinds() -> None:
    """Model calls are CLIENT from 1.42 on; embeddings, images and agents never."""
    assert [kind_of("GENERATION", version).kind for version in ("0.8.1", "1.9.0", "1.41.2")] == [1, 1, 1]
    assert [kind_of("GENERATION", version).kind for version in ("1.42.0", "1.107.10", "2.0.0")] == [3, 3, 3]
    assert kind_of("EMBEDDING", "2.68.0", "embeddings").kind == 1
    assert kind_of("GENERATION", "2.68.0", "image_generation").kind == 1


def test_described_lists_are_text() -> None:
    """Embedded texts are JSON text, as the description says; names of tools that run are an array."""
    described = {"properties": {"inputs": {"type": ["array"]}, "embeddings": {"type": "array"}, "n": {}}}
    there = {"inputs": ["Zürich"], "embeddings": [[0.5]], "tools": ["a"], "n": 3, "logfire.json_schema": described}
    found = attributes(made("EMBEDDING", there))
    assert held(found, "inputs", "embeddings", "tools", "n") == {
        "inputs": '["Zürich"]', "embeddings": "[[0.5]]", "tools": ["a"], "n": 3,
    }  # fmt: skip


HOSTILE = [
    "[",
    '[{"role":"system","content":{}},7]',
    '{"messages":[],"tools":[7,null,{"parameters_json_schema":[]}]}',
    '[{"event.name":7},[]]',
    '{"event.name":"gen_ai.choice"',
    "[" * 50_000 + '"system"',
    '"event.name"',
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile(text: str) -> None:
    """Strangers' text never stops the conversion."""
    odd = {"logfire.json_schema": {"properties": [text]}, "model_request_parameters": [text], "agent_name": {}}
    for kind in ("GENERATION", "TOOL", "AGENT", "SPAN"):
        for version in ("", "x.y", "²", "9" * 5000):
            assert attributes(made(kind, odd, version, input=text, output=text))
