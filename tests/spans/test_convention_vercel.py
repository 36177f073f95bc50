"""What the Vercel AI SDK wrote and Langfuse consumed comes back under the SDK's names."""

import json
from typing import Any, cast

import pytest

from sync_worker.records import Observation
from sync_worker.spans.genai import GUESSED
from sync_worker.spans.span_model import Attributes
from tests.spans.made import attributes, generation, held, row, span

SCOPE: dict[str, Any] = {"scope.name": "ai", "resourceAttributes.telemetry.sdk.language": "nodejs"}
MESSAGES = [{"role": "user", "content": [{"type": "text", "text": "Wetter?"}]}]
TOOLS = [{"type": "function", "name": "get_weather", "inputSchema": {"type": "object"}}]
CALLS = '[{"toolCallId":"c1","toolName":"get_weather","input":"{}"}]'


def payload(operation: str, there: dict[str, Any] | None = None, **changes: Any) -> Attributes:
    """Return the attributes of a span of the SDK."""
    return attributes(made(operation, there, **changes))


def made(operation: str, there: dict[str, Any] | None = None, **changes: Any) -> Observation:
    own = {"ai.operationId": operation, "ai.response.finishReason": "stop"} | (there or {})
    user = changes.pop("user", {})
    metadata = user | {f"attributes.{key}": value for key, value in own.items()} | SCOPE
    return row(**({"name": f"fn:{operation}", "metadata": metadata} | changes))


@pytest.mark.parametrize(
    ("operation", "key"),
    [
        ("ai.generateText", "ai.prompt"),
        ("ai.streamObject", "ai.prompt"),
        ("ai.generateText.doGenerate", "ai.prompt.messages"),
        ("ai.streamObject.doStream", "ai.prompt.messages"),
        ("ai.toolCall", "ai.toolCall.args"),
    ],
)
def test_input(operation: str, key: str) -> None:
    """The input of each operation has a name of its own; under another one it would be invented."""
    found = payload(operation, input='{"prompt":"Wetter?"}')
    assert held(found, "ai.prompt", "ai.prompt.messages", "ai.toolCall.args") == {key: '{"prompt":"Wetter?"}'}


def test_tools_leave_the_messages() -> None:
    """Tools that Langfuse put beside the messages go back to an attribute of texts, and the messages are a list."""
    merged = json.dumps({"messages": MESSAGES, "tools": TOOLS}, separators=(",", ":"))
    found = payload("ai.generateText.doGenerate", input=merged)
    assert json.loads(str(found["ai.prompt.messages"])) == MESSAGES
    assert found["ai.prompt.tools"] == [json.dumps(TOOLS[0], separators=(",", ":"))]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("sunny", {"ai.response.text": "sunny"}),
        ("[1, 2]", {"ai.response.text": "[1, 2]"}),
        ('{"role":"assistant","content":"x"}', {"ai.response.text": '{"role":"assistant","content":"x"}'}),
        (CALLS, {"ai.response.toolCalls": CALLS}),
        (
            json.dumps({"role": "assistant", "content": "", "tool_calls": CALLS}),
            {"ai.response.text": "", "ai.response.toolCalls": CALLS},
        ),
        (
            json.dumps({"role": "assistant", "content": "so", "tool_calls": "[]"}),
            {"ai.response.text": "so", "ai.response.toolCalls": "[]"},
        ),
    ],
)
def test_answers(output: str, expected: dict[str, str]) -> None:
    """Text and tool calls are distinguished, though Langfuse makes one output of them."""
    found = payload("ai.streamText.doStream", output=output)
    assert held(found, "ai.response.text", "ai.response.toolCalls", "ai.response.object") == expected


def test_objects_and_tool_results() -> None:
    """An object looks like text, and a tool's result like anything: the operation tells them."""
    assert payload("ai.generateObject", output='{"a":1}')["ai.response.object"] == '{"a":1}'
    assert payload("ai.toolCall", output=CALLS)["ai.toolCall.result"] == CALLS


def test_nothing_stated_is_nothing_written() -> None:
    """A span whose inputs and outputs were not recorded gets no empty attributes."""
    found = payload("ai.generateText")
    assert not [key for key in found if key.startswith(("ai.prompt", "ai.response.text", "ai.telemetry"))]


@pytest.mark.parametrize(
    ("finished", "families"),
    [
        ({"ai.finishReason": "stop", "ai.response.finishReason": None}, ["ai.result.text"]),
        ({"ai.finishReason": "stop"}, ["ai.response.text", "ai.result.text"]),
        ({}, ["ai.response.text"]),
    ],
)
def test_versions_before_4(finished: dict[str, Any], families: list[str]) -> None:
    """Version 3.2 wrote `ai.result`, 3.3 and 3.4 wrote both, as their finish reasons show."""
    there = {"ai.response.finishReason": "stop"} | finished
    metadata = {f"attributes.{key}": value for key, value in there.items() if value} | SCOPE
    found = attributes(row(name="ai.generateText", metadata=metadata, output="sunny"))
    assert sorted(key for key in found if key.endswith(".text")) == families


def test_callers_metadata() -> None:
    """Metadata, user, session and tags are the SDK's attributes again, and not told twice under Langfuse's names."""
    only = made(
        "ai.generateText", user={"tenant": "acme", "n": 3, "score": 1, "flag": True}, user_id="u1", session_id="s1",
        tags=("a", "b"),
    )  # fmt: skip
    found = attributes(only)
    prefix = "ai.telemetry.metadata."
    assert {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)} == {
        "tenant": "acme", "n": 3, "score": 1, "flag": True, "userId": "u1", "sessionId": "s1", "tags": ["a", "b"],
    }  # fmt: skip
    assert "langfuse.observation.metadata.tenant" not in found
    assert GUESSED not in found


def test_user_of_the_span_itself() -> None:
    """A user that stood in an attribute Langfuse prefers is not made the SDK's too."""
    found = payload("ai.generateText", {"user.id": "u1"}, user_id="u1", user={"tenant": "acme"})
    assert "ai.telemetry.metadata.userId" not in found
    assert found[GUESSED] == ["ai.telemetry.metadata.tenant"]


def test_one_tag_may_have_been_text() -> None:
    """A single tag is a guess, and said to be one."""
    assert payload("ai.generateText", tags=("a",))[GUESSED] == ["ai.telemetry.metadata.tags"]


def test_tools_beside_the_metadata() -> None:
    """Earlier servers copied the prompt's tools into the row's metadata: they are not the caller's."""
    tool = json.dumps(TOOLS[0])
    found = payload("ai.generateText.doGenerate", {"ai.prompt.tools": [tool]}, user={"tools": [tool]})
    assert "ai.telemetry.metadata.tools" not in found
    assert found["ai.prompt.tools"] == [tool]


def test_json_text_of_values_and_embeddings() -> None:
    """The SDK writes the embedded value and its embedding as JSON text, quotes of a string included."""
    found = payload("ai.embed", {"ai.value": "Zürich", "ai.embedding": [0.5, 1], "ai.values": ['"Zürich"']})
    assert held(found, "ai.value", "ai.embedding", "ai.values") == {
        "ai.value": '"Zürich"', "ai.embedding": "[0.5,1]", "ai.values": ['"Zürich"'],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("there", "shown", "name"),
    [
        ({"ai.operationId": "ai.streamText", "ai.telemetry.functionId": "fn"}, "fn:ai.streamText", "ai.streamText"),
        ({"ai.operationId": "ai.toolCall", "ai.toolCall.name": "weather"}, "weather", "ai.toolCall"),
        ({"operation.name": "ai.toolCall fn", "ai.toolCall.name": "weather"}, "weather", "ai.toolCall"),
        ({}, "mine", "mine"),
    ],
)
@pytest.mark.parametrize("scope", ["ai", "a.tracer.of.my.own"])
def test_names(there: dict[str, str], shown: str, name: str, scope: str) -> None:
    """The span's name is the operation, whatever Langfuse shows, also with a tracer of the caller's own."""
    metadata = {f"attributes.{key}": value for key, value in there.items()} | {"scope.name": scope}
    assert span(row(name=shown, metadata=metadata)).name == name


@pytest.mark.parametrize(
    "text",
    ["{", "[", '{"role":"assistant","content":null,"tool_calls":[]}', '{"messages":{},"tools":3}',
     '[null,"toolCallId"]', '["\\ud800 toolCallId"]', "[" * 50_000, '{"tool_calls":' * 5000, "NaN", '{"tools":[NaN]}'],
)  # fmt: skip
def test_hostile(text: str) -> None:
    """Strangers' text never stops the conversion, and is not lost."""
    user = {"": {}, "userId": [[]], "a": float("nan")}
    for operation in ("ai.generateText.doGenerate", "ai.toolCall", ""):
        found = payload(operation, {"ai.value": {"x": [text]}}, input=text, output=text, user=user)
        assert any(key.startswith(("ai.response", "ai.toolCall.result")) for key in found)


def test_version_7() -> None:
    """Version 7 speaks the conventions: instructions and tools leave the messages, whose parts stay as written."""
    messages = [{"role": "user", "parts": [{"type": "unheard-of", "x": 1.5}]}]
    system = {"role": "system", "content": "Be brief."}
    metadata = {"attributes.gen_ai.operation.name": "chat", "scope.name": "gen_ai"}
    merged = json.dumps({"messages": [system, *messages], "tools": TOOLS}, separators=(",", ":"))
    found = attributes(generation(metadata=metadata, input=merged, output=json.dumps(messages)))
    assert json.loads(str(found["gen_ai.input.messages"])) == messages
    assert json.loads(str(found["gen_ai.system_instructions"])) == [{"type": "text", "content": "Be brief."}]
    assert json.loads(str(found["gen_ai.tool.definitions"])) == TOOLS
    assert found["gen_ai.output.messages"] == json.dumps(messages)


def test_version_7_tools_and_kinds() -> None:
    """A tool's run keeps its texts as they were; model calls of any sort are CLIENT."""
    metadata = {"scope.name": "gen_ai", "attributes.gen_ai.operation.name": "execute_tool",
                "attributes.gen_ai.tool.name": "weather"}  # fmt: skip
    found = span(row(type="TOOL", name="weather", metadata=metadata, input='{"a": 1}', output="21"))
    assert found.name == "execute_tool weather"
    assert held(found.attributes, "gen_ai.tool.call.arguments", "gen_ai.tool.call.result") == {
        "gen_ai.tool.call.arguments": '{"a": 1}', "gen_ai.tool.call.result": "21",
    }  # fmt: skip
    assert found.kind == 1
    assert span(generation(metadata={"scope.name": "gen_ai"})).kind == 3


def test_user_and_session_from_v1() -> None:
    """v1 tells user, session and tags of the whole trace: a span of another instrumentation may have said so."""
    changes: dict[str, Any] = {"input": "hi", "user_id": "u", "session_id": "s", "tags": ("a", "b")}
    keys = [f"ai.telemetry.metadata.{key}" for key in ("sessionId", "tags", "userId")]
    of_v1 = payload("ai.generateText", api="v1", **changes)
    assert [key for key in cast("list[str]", of_v1[GUESSED]) if key in of_v1 and "telemetry" in key] == keys
    of_v2 = payload("ai.generateText", **changes)
    assert not set(keys) & set(cast("list[str]", of_v2.get(GUESSED, [])))
    assert held(of_v2, *keys) == held(of_v1, *keys)
