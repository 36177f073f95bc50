"""Tool calls in GenAI's words, of what each framework puts around arguments and results."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sync_worker.spans.genai import GUESSED
from tests.spans.made import attributes, held, otlp, row

NAME, ID = "gen_ai.tool.name", "gen_ai.tool.call.id"
ARGUMENTS, RESULT = "gen_ai.tool.call.arguments", "gen_ai.tool.call.result"
CITY = {"city": "Zürich", "days": 2}
CITY_TEXT = json.dumps(CITY)


def stated(input: Any, output: Any = None, **changes: Any) -> tuple[Any, Any, Any]:  # noqa: A002
    """Return arguments, result and call id of a tool's row; what is no text is written as JSON."""
    asked, answered = (
        value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for value in (input, output)
    )
    made = row(**({"type": "TOOL", "name": "weather", "input": asked, "output": answered} | changes))
    found = attributes(made)
    assert found.get("langfuse.observation.input") == asked
    assert found.get("langfuse.observation.output") == answered
    return _plain(found.get(ARGUMENTS)), _plain(found.get(RESULT)), found.get(ID)


def _plain(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text


CALLS: dict[str, tuple[Any, str | None]] = {
    "arguments": (CITY, None),
    "JSON in a JSON string": (json.dumps(CITY_TEXT), None),
    "LangChain's text of a dict": (str(CITY), None),
    "LangChain's ToolCall": ({"name": "weather", "args": CITY, "id": "c1", "type": "tool_call"}, "c1"),
    "LangChain's ToolCall as text": (str({"name": "weather", "args": CITY, "id": "c1", "type": "tool_call"}), "c1"),
    "LangChain's ToolCall in a list": ([{"name": "weather", "args": CITY, "id": "c1", "type": "tool_call"}], "c1"),
    "LangChain.js": ({"input": CITY_TEXT}, None),
    "LangChain.js with a call": (
        {"input": json.dumps({"name": "weather", "args": CITY, "id": "c1", "type": "tool_call"})}, "c1"),
    "LangGraph's call with context": (
        {"__type": "tool_call_with_context", "state": {"messages": []},
         "tool_call": {"name": "weather", "args": CITY, "id": "c1", "type": "tool_call"}}, "c1"),
    "OpenAI chat": ({"id": "c1", "type": "function", "function": {"name": "weather", "arguments": CITY_TEXT}}, "c1"),
    "OpenAI Responses": (
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": CITY_TEXT,
         "status": "completed"}, "c1"),
    "Anthropic": ({"type": "tool_use", "id": "c1", "name": "weather", "input": CITY}, "c1"),
    "Strands, the event": ([{"role": "tool", "content": CITY_TEXT, "id": "c1"}], "c1"),
    "Strands, the event's part": (
        [{"role": "tool", "parts": [{"type": "tool_call", "name": "weather", "id": "c1", "arguments": CITY}]}], "c1"),
    "Strands, toolUse": ({"toolUse": {"toolUseId": "c1", "name": "weather", "input": CITY}}, "c1"),
    "Bedrock": ({"toolUseId": "c1", "name": "weather", "input": CITY}, "c1"),
    "Gemini": ({"functionCall": {"name": "weather", "args": CITY}}, None),
    "Gemini with an id": ({"id": "c1", "name": "weather", "args": CITY}, "c1"),
    "Vercel AI SDK 5": ({"type": "tool-call", "toolCallId": "c1", "toolName": "weather", "input": CITY}, "c1"),
    "Vercel AI SDK 4": ({"type": "tool-call", "toolCallId": "c1", "toolName": "weather", "args": CITY}, "c1"),
    "Pydantic AI": (
        {"tool_name": "weather", "args": CITY_TEXT, "tool_call_id": "c1", "part_kind": "tool-call"}, "c1"),
    "AutoGen": ({"id": "c1", "name": "weather", "arguments": CITY_TEXT}, "c1"),
    "MCP's parameters": ({"name": "weather", "arguments": CITY}, None),
    "MCP's request": ({"method": "tools/call", "params": {"name": "get-weather", "arguments": CITY}}, None),
    "Langfuse's decorator": ({"args": [], "kwargs": CITY}, None),
    "smolagents": ({"args": [], "sanitize_inputs_outputs": True, "kwargs": CITY}, None),
    "LlamaIndex and DSPy": ({"kwargs": CITY}, None),
    "OpenInference's value": ({"value": CITY_TEXT, "mime_type": "application/json"}, None),
    "Azure's agents, the event": (
        [{"role": "tool", "gen_ai.system": "az.ai.agents", "event.name": "gen_ai.tool.message",
          "gen_ai.event.content": json.dumps({"content": CITY_TEXT, "tool_call_id": "c1"})}], "c1"),
    "a list of one call": ({"tool_calls": [{"name": "weather", "args": CITY, "id": "c1", "type": "tool_call"}]}, "c1"),
    "LlamaIndex's agents": ({"tool_name": "weather", "tool_kwargs": CITY, "tool_id": "c1"}, "c1"),
    "arguments by name as args": ({"args": CITY, "kwargs": {}}, None),
    "CrewAI": ({"tool_name": "weather", "tool_args": CITY}, None),
}  # fmt: skip


@pytest.mark.parametrize("shape", CALLS)
def test_arguments(shape: str) -> None:
    """Kelet would judge a call by the framework's bookkeeping, and by arguments that no schema fits."""
    given, call_id = CALLS[shape]
    assert stated(given) == (CITY, None, call_id)


MESSAGE: dict[str, Any] = {
    "content": "sunny", "additional_kwargs": {}, "response_metadata": {}, "type": "tool", "name": "weather",
    "id": None, "tool_call_id": "c1", "artifact": None, "status": "success",
}  # fmt: skip
CONSTRUCTED = {"lc": 1, "type": "constructor", "id": ["langchain_core", "messages", "ToolMessage"], "kwargs": MESSAGE}

RESULTS: dict[str, tuple[Any, Any, str | None]] = {
    "text": ("sunny", "sunny", None),
    "a number": ("21", 21, None),
    "a tool's own object": ({"temp": 21}, {"temp": 21}, None),
    "LangChain's message": (MESSAGE, "sunny", "c1"),
    "LangChain's message in a list": ([MESSAGE], "sunny", "c1"),
    "LangChain's message with blocks": (
        MESSAGE | {"content": [{"type": "text", "text": "sunny"}]}, [{"type": "text", "text": "sunny"}], "c1"),
    "LangChain's message, OpenInference": ({"type": "tool", "data": MESSAGE}, "sunny", "c1"),
    "LangChain's message, serialised": (CONSTRUCTED, "sunny", "c1"),
    "LangChain's message, JavaScript": ({"output": CONSTRUCTED}, "sunny", "c1"),
    "LangChain's message, str()": ("content='sun\\'s out' name='weather' tool_call_id='c1'", "sun's out", "c1"),
    "LangChain's message, repr()": (
        "ToolMessage(content=\"it's 21\", name='weather', id='6f', tool_call_id='c1')", "it's 21", "c1"),
    "LangGraph's Command": ({"update": {"messages": [MESSAGE]}, "goto": []}, "sunny", "c1"),
    "LangGraph's Command, repr()": (
        "Command(update={'messages': [ToolMessage(content='sunny', tool_call_id='c1')]})", "sunny", "c1"),
    "OpenAI chat": ({"role": "tool", "tool_call_id": "c1", "content": "sunny"}, "sunny", "c1"),
    "OpenAI Responses": ({"type": "function_call_output", "call_id": "c1", "output": "sunny"}, "sunny", "c1"),
    "Anthropic": ({"type": "tool_result", "tool_use_id": "c1", "content": "sunny"}, "sunny", "c1"),
    "Bedrock": (
        {"toolResult": {"toolUseId": "c1", "status": "success", "content": [{"text": "sunny"}]}},
        [{"text": "sunny"}], "c1"),
    "Strands": ({"toolUseId": "c1", "status": "success", "content": [{"text": "sunny"}]}, [{"text": "sunny"}], "c1"),
    "Google's ADK": ({"id": "c1", "name": "weather", "response": {"temp": 21}}, {"temp": 21}, "c1"),
    "Gemini": ({"functionResponse": {"name": "weather", "response": {"temp": 21}}}, {"temp": 21}, None),
    "Vercel AI SDK 5": (
        {"type": "tool-result", "toolCallId": "c1", "toolName": "weather", "input": CITY,
         "output": {"type": "json", "value": {"temp": 21}}}, {"temp": 21}, "c1"),
    "Vercel AI SDK 4": (
        {"type": "tool-result", "toolCallId": "c1", "toolName": "weather", "args": CITY, "result": {"temp": 21}},
        {"temp": 21}, "c1"),
    "Pydantic AI": (
        {"tool_name": "weather", "content": "sunny", "tool_call_id": "c1", "metadata": None,
         "timestamp": "2026-01-02T03:04:05Z", "part_kind": "tool-return"}, "sunny", "c1"),
    "AutoGen": ({"content": "sunny", "name": "weather", "call_id": "c1", "is_error": False}, "sunny", "c1"),
    "LlamaIndex": (
        {"blocks": [{"block_type": "text", "text": "21"}], "tool_name": "weather",
         "raw_input": {"args": [], "kwargs": CITY}, "raw_output": {"temp": 21}, "is_error": False},
        {"temp": 21}, None),
    "LlamaIndex without the raw result": (
        {"content": "sunny", "tool_name": "weather", "raw_input": {}, "raw_output": None, "is_error": False},
        "sunny", None),
    "LlamaIndex's agents": (
        {"tool_name": "weather", "tool_kwargs": CITY, "tool_id": "c1", "return_direct": False, "tool_output": {
            "blocks": [], "tool_name": "weather", "raw_input": {}, "raw_output": "sunny", "is_error": False}},
        "sunny", "c1"),
    "AutoGen's workbench": (
        {"type": "ToolResult", "name": "weather", "result": [{"type": "TextResultContent", "content": "sunny"}],
         "is_error": False}, [{"type": "TextResultContent", "content": "sunny"}], None),
    "LangGraph's state": ({"messages": [MESSAGE]}, "sunny", "c1"),
    "Haystack": (
        {"result": "sunny", "origin": {"tool_name": "weather", "arguments": CITY, "id": "c1"}, "error": False},
        "sunny", "c1"),
    "Semantic Kernel": (
        {"function": {"name": "weather", "plugin_name": "sky"}, "value": "sunny", "metadata": {}}, "sunny", None),
    "MCP": (
        {"content": [{"type": "text", "text": "sunny"}], "structuredContent": {"temp": 21}, "isError": False},
        {"content": [{"type": "text", "text": "sunny"}], "structuredContent": {"temp": 21}, "isError": False}, None),
    "OpenInference's value": ({"value": "sunny", "mime_type": "text/plain"}, "sunny", None),
}  # fmt: skip


@pytest.mark.parametrize("shape", RESULTS)
def test_results(shape: str) -> None:
    """Kelet would take the framework's bookkeeping for what the tool returned, and not match call and answer."""
    given, result, call_id = RESULTS[shape]
    assert stated(CITY, given) == (CITY, result, call_id)


@pytest.mark.parametrize(
    "given",
    [
        {"name": "Ada", "arguments": {"for": 1}},  # names another tool than the one that ran
        {"name": "weather", "args": CITY, "verbose": True},
        {"input": "Zürich"},
        {"args": "-l", "kwargs": "x"},
        {"type": "tool_call"},
        {"type": "function", "function": "sin"},
        {"role": "tool", "content": "x", "tenant": 7},
        [{"role": "user", "content": "hi"}],
        [1, 2],
        "Zürich",
        "it's {not} Python",
    ],
    ids=str,
)
def test_arguments_that_look_like_an_envelope(given: Any) -> None:
    """A tool's own parameters would be torn apart because their names are those of a framework."""
    assert stated(given) == (given, None, None)


@pytest.mark.parametrize(
    "given",
    [
        {"content": "x", "name": "file"},
        {"message": "saved", "id": "7"},
        {"type": "tool", "content": "hammer"},
        {"response": {"temp": 21}},
        {"output": "x"},
        {"value": 3, "unit": "m"},
        {"update": {"messages": []}},
        [{"text": "stored"}],
        "{'temp': 21}",
        "content='x' name='y'",
        "call_id=7 (no more)",
    ],
    ids=str,
)
def test_results_that_look_like_an_envelope(given: Any) -> None:
    """What a tool returned would lose a part because its keys are those of a framework."""
    assert stated(CITY, given) == (CITY, given, None)


def test_the_answer_of_an_event_needs_its_question() -> None:
    """`{message, id}` may be a tool's own result: it is an event's only where the arguments were an event's too."""
    event = [{"role": "tool", "content": CITY_TEXT, "id": "c1"}]
    answer = {"message": '[{"text": "sunny"}]', "id": "c1"}
    assert stated(event, answer) == (CITY, [{"text": "sunny"}], "c1")
    assert stated(CITY, answer) == (CITY, answer, None)
    assert stated(event, "sunny") == (CITY, "sunny", "c1")


def test_an_event_is_no_attribute() -> None:
    """Strands' span would say that it had the attributes which Langfuse made of its events."""
    made = row(
        type="TOOL",
        name="weather",
        input='[{"role":"tool","content":"{\\"city\\": \\"Bern\\"}","id":"t1"}]',
        output='{"message":"[{\\"text\\": \\"sunny\\"}]","id":"t1"}',
        metadata=otlp(gen_ai__operation__name="execute_tool", gen_ai__tool__name="weather", gen_ai__tool__call__id="t1")
        | {"scope.name": "strands.telemetry.tracer"},
    )
    assert held(attributes(made), ARGUMENTS, RESULT, ID) == {
        ARGUMENTS: '{"city": "Bern"}',
        RESULT: '[{"text": "sunny"}]',
        ID: "t1",
    }


@pytest.mark.parametrize(
    ("original", "name", "call_id"),
    [
        ({"tool__name": "search", "tool_call__id": "c1"}, "search", "c1"),
        ({"tool__name": "search", "tool__id": "c1"}, "search", "c1"),
        ({"ai__toolCall__name": "search", "ai__toolCall__id": "c1"}, "search", "c1"),
        ({"lk__function_tool__name": "search", "lk__function_tool__id": "c1"}, "search", "c1"),
        ({"traceloop__entity__name": "search"}, "search", None),
        ({"tool__name": 7}, "find.run", None),
    ],
)
def test_where_instrumentations_put_name_and_id(original: dict[str, Any], name: str, call_id: str | None) -> None:
    """The tool's name would be the span's (`find.run`), and the id that the instrumentation wrote would be unused."""
    made = row(type="TOOL", name="find.run", input="{}", metadata=otlp(**original))
    assert held(attributes(made), NAME, ID) == {NAME: name} | ({} if call_id is None else {ID: call_id})


def test_arguments_beside_the_input() -> None:
    """LiveKit's arguments, which Langfuse leaves among the attributes, would be told by nobody."""
    made = row(type="TOOL", output="sunny", metadata=otlp(lk__function_tool__arguments='{"city":"Bern"}'))
    assert attributes(made)[ARGUMENTS] == '{"city":"Bern"}'


def test_tools_that_langfuse_has_no_type_for() -> None:
    """Traceloop's tools would be plain spans, whose arguments nobody judges."""
    original = {"traceloop__span__kind": "tool", "traceloop__entity__name": "weather"}
    made = row(type="SPAN", name="weather.tool", input='{"args": [], "kwargs": {"city": "Bern"}}', output="sunny",
               metadata=otlp(**original))  # fmt: skip
    assert held(attributes(made), NAME, ARGUMENTS, RESULT, "gen_ai.operation.name") == {
        NAME: "weather",
        ARGUMENTS: '{"city":"Bern"}',
        RESULT: "sunny",
        "gen_ai.operation.name": "execute_tool",
    }
    assert NAME not in attributes(row(type="SPAN", metadata=otlp(traceloop__span__kind="task")))


def test_an_id_that_is_none() -> None:
    """ADK's words for a call without an id would join calls that have nothing to do with each other."""
    answer = {"id": "<not specified>", "name": "weather", "response": {}}
    assert stated(CITY, answer) == (CITY, {}, None)


def test_what_cannot_be_decided_stays_and_is_a_guess() -> None:
    """Arguments by position have no names: whoever reads them must know that they are not what the tool declares."""
    for given in ('{"args": ["Bern"], "kwargs": {}}', "{'city': Bern}"):
        found = attributes(row(type="TOOL", input=given))
        assert (found[ARGUMENTS], found[GUESSED]) == (given, [ARGUMENTS])


def test_originals_stay() -> None:
    """What the instrumentation wrote under the conventions' own names would be overwritten."""
    call = '{"name":"weather","args":{"city":"Bern"},"id":"c2","type":"tool_call"}'
    original = {"gen_ai__tool__call__arguments": call, "gen_ai__tool__call__id": "c1"}
    found = attributes(row(type="TOOL", input='{"city":"Bern"}', metadata=otlp(**original)))
    assert held(found, ARGUMENTS, ID) == {ARGUMENTS: call, ID: "c1"}


def test_text_stays_as_it_was() -> None:
    """White space and escapes of arguments that need no change would be lost."""
    given = '{"q":  "\\u00d6", "n": 1.10}'
    found = attributes(row(type="TOOL", input=given, output=given))
    assert held(found, ARGUMENTS, RESULT) == {ARGUMENTS: given, RESULT: given}
