"""OpenInference: what Langfuse 4.16 made of a span is put in, what the instrumentation had written must come out."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import pytest

from sync_worker.records import Observation
from sync_worker.spans.context import gather
from sync_worker.spans.conventions.openinference import CONVENTION
from sync_worker.spans.genai import GUESSED
from sync_worker.spans.restore import take_apart
from tests.spans.made import TRACE, attributes, row, span
from tests.support.cost import MOST, TIMES, growth

GET_WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def llm(
    scope: str,
    asked: Any,
    answered: Any = None,
    *,
    kind: str = "LLM",
    version: str = "0.1.66",
    name: str = "call",
    kept: Mapping[str, Any] = MappingProxyType({}),
) -> Observation:
    """Return a row; input and output are written as Langfuse writes what it merged, compact."""
    return row(
        type="GENERATION" if kind == "LLM" else kind,
        name=name,
        input=text(asked),
        output=text(answered),
        metadata={
            **{f"attributes.{key}": value for key, value in kept.items()},
            "attributes.openinference.span.kind": kind,
            "scope.version": version,
            "scope.name": scope if "." in scope or "@" in scope else f"openinference.instrumentation.{scope}",
            "resourceAttributes.service.name": "shop",
        },
    )


def text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def stated(made: Any) -> dict[str, Any]:
    """Return the attributes of a row that OpenInference names, with their common prefixes left out."""
    names = {"llm.input_messages.": "in.", "llm.output_messages.": "out.", "llm.tools.": "tools."}
    found: dict[str, Any] = {}
    for key, value in attributes(made).items():
        if key in {"input.value", "output.value"}:
            found[key] = value
        for prefix, short in names.items():
            if key.startswith(prefix):
                found[short + key.removeprefix(prefix)] = value
    return found


def messages(made: Any, side: str) -> dict[str, Any]:
    return {key.removeprefix(side + "."): value for key, value in stated(made).items() if key.startswith(side + ".")}


def test_input_and_output_are_the_raw_texts() -> None:
    """A text that is rewritten on the way is another text."""
    made = llm("crewai", '{"a": 1,  "b":2}', "plain", kind="CHAIN")
    assert stated(made) == {"input.value": '{"a": 1,  "b":2}', "output.value": "plain"}


@pytest.mark.parametrize("nothing", [None, ""])
def test_what_was_not_there_gives_no_attribute(nothing: str | None) -> None:
    assert stated(llm("openai", nothing, nothing)) == {}


def test_openai_chat() -> None:
    """Each of a message's fields has a key of its own; lists of contents stand apart from text."""
    asked = {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "Frosch"},
            {
                "role": "user",
                "name": "bob",
                "content": [
                    {"type": "text", "text": "Was?"},
                    {"type": "input_audio", "input_audio": {}},
                    {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
                ],
            },
            {"role": "assistant", "content": None, "function_call": {"name": "old", "arguments": "{}"}},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
        ],
    }
    answered = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "ja", "tool_calls": None}}]}
    made = llm("openai", asked, answered)
    assert messages(made, "in") == {
        "0.message.role": "system",
        "0.message.content": "Frosch",
        "1.message.role": "user",
        "1.message.name": "bob",
        "1.message.contents.0.message_content.type": "text",
        "1.message.contents.0.message_content.text": "Was?",
        "1.message.contents.2.message_content.type": "image",
        "1.message.contents.2.message_content.image.image.url": "https://a/b.png",
        "2.message.role": "assistant",
        "2.message.function_call_name": "old",
        "2.message.function_call_arguments_json": "{}",
        "3.message.role": "assistant",
        "3.message.tool_calls.0.tool_call.id": "c1",
        "3.message.tool_calls.0.tool_call.function.name": "f",
        "3.message.tool_calls.0.tool_call.function.arguments": '{"a": 1}',
        "4.message.role": "tool",
        "4.message.tool_call_id": "c1",
        "4.message.content": "42",
    }
    assert messages(made, "out") == {"0.message.role": "assistant", "0.message.content": "ja"}
    assert "llm." not in str(attributes(made).get(GUESSED))


def test_an_embedding_has_no_messages() -> None:
    """Its request has an `input` as well, which is no message."""
    made = llm("openai", {"model": "e", "input": ["a"]}, {"data": []}, kind="EMBEDDING")
    assert stated(made).keys() == {"input.value", "output.value"}


def test_an_image_that_is_too_big_is_hidden() -> None:
    """The instrumentation's limit is 32,000 characters."""
    url = "data:image/png;base64," + "A" * 32_000
    asked = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}
    found = messages(llm("openai", asked), "in")
    assert found["0.message.contents.0.message_content.image.image.url"] == "__REDACTED__"


def test_openai_responses() -> None:
    """Instructions take the first place, items stand behind it, each is a message."""
    asked = {
        "instructions": "Kurz.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": [1]},
        ],
    }
    answered = {
        "object": "response",
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}, {"text": "b"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ja"}]},
        ],
    }
    assert messages(llm("openai", asked, answered), "in") == {
        "0.message.role": "system",
        "0.message.content": "Kurz.",
        "1.message.role": "user",
        "1.message.contents.0.message_content.text": "Hi",
        "1.message.contents.0.message_content.type": "text",
        "2.message.role": "assistant",
        "2.message.tool_calls.0.tool_call.id": "c1",
        "2.message.tool_calls.0.tool_call.function.name": "f",
        "3.message.role": "tool",
        "3.message.tool_call_id": "c1",
        "3.message.content": "[1]",
    }
    new = messages(llm("openai", asked, answered, version="0.1.52"), "out")
    assert new["0.message.contents.0.message_content.type"] == "reasoning"
    assert new["0.message.contents.0.message_content.text"] == "a\nb"
    assert new["1.message.contents.0.message_content.text"] == "ja"
    old = messages(llm("openai", asked, answered, version="0.1.51"), "out")
    assert old["0.message.contents.1.message_content.text"] == "b"
    assert old["0.message.contents.1.message_content.type"] == "text"


SPOKEN = [
    {"role": "user", "content": "Hi"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "Moment"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
        ],
    },
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "42"}, {"type": "text", "text": "Und?"}],
    },
]


def test_anthropic_by_version() -> None:
    """Three generations tell one conversation in three ways."""
    asked = {"system": "Frosch", "messages": SPOKEN}
    first = messages(llm("anthropic", asked, version="1.0.0"), "in")
    assert first["0.message.role"] == "user"
    assert first["1.message.content"] == "Moment"
    assert first["1.message.tool_calls.0.tool_call.function.arguments"] == '{"a": 1}'
    assert first["2.message.role"] == "user"
    assert first["2.message.tool_call_id"] == "t1"
    assert not any("contents" in key for key in first)

    second = messages(llm("anthropic", asked, version="2.1.7"), "in")
    assert second["0.message.content"] == "Frosch"
    assert second["2.message.contents.0.message_content.signature"] == "s"
    assert second["2.message.contents.2.message_content.type"] == "tool_use"
    assert second["2.message.contents.2.tool_call.id"] == "t1"
    assert second["3.message.role"] == "user"
    assert second["3.message.tool_call_id"] == "t1"
    assert second["3.message.contents.1.message_content.text"] == "Und?"

    third = messages(llm("anthropic", asked, version="3.1.0"), "in")
    assert third["3.message.role"] == "tool"
    assert third["3.message.content"] == "42"
    assert third["4.message.role"] == "user"
    assert third["4.message.contents.0.message_content.text"] == "Und?"


def test_anthropic_output_has_ids_since_it_has_contents() -> None:
    answered = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]}
    key = "0.message.tool_calls.0.tool_call.id"
    assert key not in messages(llm("anthropic", {"messages": []}, answered, version="1.0.6"), "out")
    assert messages(llm("anthropic", {"messages": []}, answered, version="1.1.0"), "out")[key] == "t1"


def constructed(kind: str, **kwargs: Any) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", kind], "kwargs": kwargs}


def test_langchain_model() -> None:
    """The first row of messages counts; calls are taken from where LangChain keeps them parsed."""
    called = {"name": "f", "args": {"a": 1}, "id": "c1", "type": "tool_call"}
    asked = {
        "messages": [
            [
                constructed("HumanMessage", content=["so", {"type": "text", "text": "Hi"}]),
                constructed("AIMessageChunk", content="", tool_calls=[called]),
                constructed("ToolMessage", content="42", tool_call_id="c1", name="f"),
            ],
            [constructed("HumanMessage", content="another")],
        ]
    }
    made = llm("langchain", asked, {"generations": [[{"message": constructed("AIMessage", content="ja")}]]})
    assert messages(made, "in") == {
        "0.message.role": "user",
        "0.message.contents.0.message_content.text": "so",
        "0.message.contents.1.message_content.type": "text",
        "0.message.contents.1.message_content.text": "Hi",
        "1.message.role": "assistant",
        "1.message.tool_calls.0.tool_call.id": "c1",
        "1.message.tool_calls.0.tool_call.function.name": "f",
        "1.message.tool_calls.0.tool_call.function.arguments": '{"a": 1}',
        "2.message.role": "tool",
        "2.message.content": "42",
        "2.message.tool_call_id": "c1",
        "2.message.name": "f",
    }
    assert messages(made, "out") == {"0.message.role": "assistant", "0.message.content": "ja"}


def test_langchain_before_it_read_parsed_calls() -> None:
    """Older versions read a message's calls as the provider wrote them, and no role of a user's own object."""
    called = [{"name": "f", "args": {"a": 1}, "id": "c1"}]
    raw = {"tool_calls": [{"id": "c2", "function": {"name": "g", "arguments": "{}"}}]}
    asked = {"messages": [[constructed("AIMessage", tool_calls=called, additional_kwargs=raw), {"role": "user"}]]}
    assert messages(llm("langchain", asked, version="0.1.43"), "in") == {
        "0.message.role": "assistant",
        "0.message.tool_calls.0.tool_call.id": "c2",
        "0.message.tool_calls.0.tool_call.function.name": "g",
        "0.message.tool_calls.0.tool_call.function.arguments": "{}",
    }
    only_parsed = {"messages": [[constructed("AIMessage", tool_calls=called)]]}
    assert messages(llm("langchain", only_parsed, version="0.1.43"), "in") == {"0.message.role": "assistant"}


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (
            {"type": "human", "data": {"content": "Hi", "name": None}},
            {"0.message.role": "user", "0.message.content": "Hi"},
        ),
        (
            {"type": "ai", "content": "Hi", "additional_kwargs": {}},
            {"0.message.role": "assistant", "0.message.content": "Hi"},
        ),
        (["user", "Hi"], {"0.message.role": "user", "0.message.content": "Hi"}),
        ({"role": "user", "content": "Hi"}, {"0.message.role": "user"}),
        ("content='Hi'", {}),
    ],
)
def test_langchain_chain(first: Any, expected: dict[str, Any]) -> None:
    """A chain's messages are one row, of which the instrumentation takes the first; of a user's own, the role alone."""
    made = llm("langchain", {"messages": [first, {"type": "human", "data": {"content": "second"}}]}, kind="CHAIN")
    assert messages(made, "in") == expected


def test_google_adk() -> None:
    """Parts keep their places, answers of functions become messages of a tool."""
    asked = {
        "model": "gemini",
        "contents": [
            {"role": "user", "parts": [{"text": "Hi"}]},
            {
                "role": "model",
                "parts": [{"text": "hm", "thought": True}, {"function_call": {"name": "f", "args": {"a": 1}}}],
            },
            {"role": "user", "parts": [{"function_response": {"id": "c1", "name": "f", "response": {"r": 1}}}]},
        ],
        "config": {"system_instruction": "Frosch"},
    }
    assert messages(llm("gcp.vertex.agent", asked, version="2.13.0"), "in") == {
        "0.message.role": "system",
        "0.message.content": "Frosch",
        "1.message.role": "user",
        "1.message.contents.0.message_content.text": "Hi",
        "1.message.contents.0.message_content.type": "text",
        "2.message.role": "model",
        "2.message.contents.0.message_content.text": "hm",
        "2.message.contents.0.message_content.type": "reasoning",
        "2.message.tool_calls.1.tool_call.function.name": "f",
        "2.message.tool_calls.1.tool_call.function.arguments": '{"a": 1}',
        "3.message.role": "tool",
        "3.message.name": "f",
        "3.message.tool_call_id": "c1",
        "3.message.content": '{"r": 1}',
    }


def test_openai_agents() -> None:
    """Calls share a message, its text is told twice, and the instructions stand in the answer only."""
    answered = {
        "object": "response",
        "instructions": "kurz",
        "tools": [{"type": "web_search"}, {"type": "function", "name": "get_weather"}],
        "output": [
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "g", "arguments": '{"a":1}'},
        ],
    }
    made = llm("openai_agents", {"messages": [{"role": "user", "content": "Hi"}], "tools": [GET_WEATHER]}, answered)
    found = stated(made)
    assert found["input.value"] == '[{"role":"user","content":"Hi"}]'
    assert found["in.0.message.content"] == "kurz"
    assert found["in.1.message.content"] == "Hi"
    assert found["out.0.message.tool_calls.1.tool_call.id"] == "c2"
    assert "out.0.message.tool_calls.0.tool_call.function.arguments" not in found
    assert json.loads(found["tools.1.tool.json_schema"]) == GET_WEATHER


def test_openai_agents_chat() -> None:
    """A model that does not speak Responses is told in chat messages, from the first place on."""
    asked = [{"role": "system", "content": "kurz"}, {"role": "user", "content": "Hi"}]
    found = messages(llm("openai_agents", asked, [{"role": "assistant", "content": "ja"}], name="generation"), "in")
    assert found["1.message.content"] == "Hi"


def test_agno() -> None:
    """Agno writes a list of one message, with reasoning both as contents and beside its text."""
    asked = {"messages": [{"role": "user", "content": "Hi"}, {"role": "developer", "content": "no"}]}
    answered = [{"role": "assistant", "content": "ja", "reasoning_content": "hm"}]
    made = llm("agno", {**asked, "tools": [GET_WEATHER]}, answered)
    found = stated(made)
    assert json.loads(found["input.value"]) == asked
    assert json.loads(found["tools.0.tool.json_schema"]) == GET_WEATHER
    assert messages(made, "in") == {"0.message.role": "user", "0.message.content": "Hi"}
    assert messages(made, "out") == {
        "0.message.role": "assistant",
        "0.message.contents.0.message_content.type": "reasoning",
        "0.message.contents.0.message_content.text": "hm",
        "0.message.contents.1.message_content.type": "text",
        "0.message.contents.1.message_content.text": "ja",
        "0.message.content": "ja",
    }


def test_a_guess_says_so() -> None:
    """LiteLLM keeps the text of an answer alone: that an assistant gave it is likely, not certain."""
    made = attributes(llm("litellm", {"messages": [{"role": "user", "content": "Hi"}]}, "ja"))
    assert made["llm.output_messages.0.message.content"] == "ja"
    guessed = made[GUESSED]
    assert isinstance(guessed, list)
    assert "llm.output_messages.0.message.role" in guessed
    assert "output.value" not in guessed


def test_unknown_ways_give_no_messages() -> None:
    """What a program of its own has in its input is not known."""
    asked = {"messages": ["ChatMessage(role=<MessageRole.USER: 'user'>)", {"role": "user", "content": "Hi"}]}
    assert stated(llm("my.agent", asked, "ja")).keys() == {"input.value", "output.value"}


def test_tools_that_the_request_has_stay_in_it() -> None:
    asked = {"model": "gpt-4o", "tools": [GET_WEATHER], "messages": []}
    found = stated(llm("openai", asked))
    assert json.loads(found["input.value"]) == asked
    assert json.loads(found["tools.0.tool.json_schema"]) == GET_WEATHER


def test_tools_of_a_request_that_langfuse_did_not_touch() -> None:
    """Langfuse writes compact JSON: another text has no tools of Langfuse's in it."""
    found = stated(llm("openai", json.dumps({"messages": [], "tools": [GET_WEATHER]})))
    assert found.keys() == {"input.value"}


@pytest.mark.parametrize("before", [{"messages": [[]]}, "plain text", None])
def test_tools_that_langfuse_added_are_taken_out(before: Any) -> None:
    """Before, the input was an object, a text, or nothing."""
    merged = {"prompt": before} if isinstance(before, str) else before or {}
    found = stated(llm("langchain", {**merged, "tools": [GET_WEATHER]}))
    assert found.get("input.value") == text(before)
    assert json.loads(found["tools.0.tool.json_schema"]) == GET_WEATHER


def test_tools_that_were_not_moved_stay() -> None:
    """An older Langfuse leaves them among the attributes; what is in the input was there before."""
    asked = {"messages": [[]], "tools": [GET_WEATHER]}
    made = llm("langchain", asked, kept={"llm.tools.0.tool.json_schema": GET_WEATHER})
    found = stated(made)
    assert found["input.value"] == text(asked)
    assert found.keys() == {"input.value", "tools.0.tool.json_schema"}


def test_a_tool_without_a_name_has_kept_its_place() -> None:
    """Langfuse moves tools that have a name; the others go between them again."""
    kept = {"llm.tools.0.tool.json_schema": {"type": "web_search"}}
    made = llm("langchain", {"messages": [[]], "tools": [GET_WEATHER]}, kept=kept)
    found = stated(made)
    assert json.loads(found["tools.0.tool.json_schema"]) == {"type": "web_search"}
    assert json.loads(found["tools.1.tool.json_schema"]) == GET_WEATHER


def test_tools_that_the_sdk_read_back_are_left_out() -> None:
    """Of Responses the tool of the answer was written, with fields that depend on the SDK's version."""
    tool = {"type": "function", "name": "f"}
    found = stated(
        llm("openai", {"input": "Hi", "tools": [tool]}, {"object": "response", "output": [], "tools": [tool]})
    )
    assert not any(key.startswith("tools.") for key in found)


def test_tools_of_google_adk_come_from_both() -> None:
    """Google's own definitions hide OpenInference's of the same name, which the request still declares."""
    declared = {"name": "f", "description": "d", "parameters_json_schema": {"type": "object"}}
    own = {"name": "f", "description": "d", "parameters": None, "type": "function"}
    asked = {"model": "g", "contents": [], "config": {"tools": [{"function_declarations": [declared]}]}}
    made = attributes(llm("gcp.vertex.agent", {**asked, "tools": [own]}))
    assert made["input.value"] == text(asked)
    assert made["gen_ai.tool.definitions"] == text([own])
    assert made["llm.tools.0.tool.json_schema"] == text(declared)


def test_messages_without_a_value_are_the_row_s_own() -> None:
    """Without `input.value` Langfuse makes objects of the dotted keys: they are made flat again, and nothing else."""
    asked = [
        {"message": {"role": "user", "tool_calls": [{"tool_call": {"id": "c1"}}]}},
        None,
        {"message": {"content": "x"}},
    ]
    made = llm("beeai", {"messages": asked, "tools": [GET_WEATHER]}, [{"message": {"role": "assistant"}}])
    found = stated(made)
    assert json.loads(found.pop("tools.0.tool.json_schema")) == GET_WEATHER
    assert found == {
        "in.0.message.role": "user",
        "in.0.message.tool_calls.0.tool_call.id": "c1",
        "in.2.message.content": "x",
        "out.0.message.role": "assistant",
    }


def test_a_value_that_looks_like_messages_is_a_value() -> None:
    made = llm("beeai", [{"message": {"role": "user"}}], kept={"input.mime_type": "application/json"})
    assert stated(made) == {"input.value": '[{"message":{"role":"user"}}]'}


@pytest.mark.parametrize(
    ("scope", "kind", "expected"),
    [
        ("openinference.instrumentation.openai", "LLM", (1, 1)),
        ("@arizeai/openinference-instrumentation-openai", "LLM", (1, 1)),
        ("gcp.vertex.agent", "LLM", (1, 1)),
        ("my.agent", "RETRIEVER", (1, 1)),
        ("openinference.instrumentation.autogen", "AGENT", (1, 0)),
    ],
)
def test_kind_and_status(scope: str, kind: str, expected: tuple[int, int]) -> None:
    """OpenInference's spans are INTERNAL and end with OK, a program's own as well."""
    made = span(llm(scope, "a", "b", kind=kind))
    assert (made.kind, made.status_code) == expected


def test_a_workflow_of_adk_is_not_ended_by_its_instrumentation() -> None:
    made = llm("google_adk", None, None, kind="CHAIN", kept={"gen_ai.operation.name": "invoke_workflow"})
    assert span(made).status_code == 0


@pytest.mark.parametrize(("scope", "name"), [("google_adk", "execute_tool f"), ("langchain", "f")])
def test_names_of_tools(scope: str, name: str) -> None:
    """Langfuse shows the tool's name; Google's kit named the span by the conventions, others by the tool."""
    kept = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "f"}
    assert span(llm(scope, "{}", "x", kind="TOOL", name="f", kept=kept)).name == name


def test_an_original_attribute_wins() -> None:
    made = llm("openai", {"messages": [{"role": "user"}]}, kept={"llm.input_messages.0.message.role": "kept"})
    assert attributes(made)["llm.input_messages.0.message.role"] == "kept"


def nested(depth: int) -> str:
    return '{"messages":' + "[" * depth + "]" * depth + ',"tools":[{"name":"f"}]}'


HOSTILE = [
    "null", "[]", "{}", "[1]", '"x"', "{",
    '{"tools":[', '{"tools":[null]}', '{"tools":{"a":1}}', '{"messages":{"a":1}}', '{"messages":[null,1,"x",[],{}]}',
    '{"messages":[{"role":{},"content":{"a":1},"tool_calls":[null,{"function":1}]}]}',
    '{"messages":[{"role":NaN,"content":[1,{"type":[]}]}]}',
    '{"messages":[{"role":"\ud800","content":"\ud800"}]}',
    '{"contents":[null,{"parts":[null,1,{"function_call":{"args":NaN}},{"function_response":{}}]}],"config":1}',
    '{"input":[null,1,{"type":{}},{"type":"reasoning","summary":[1,{"text":2}]},{"type":"message","content":[1]}]}',
    '{"content":[null,{"type":"image","source":1},{"type":"tool_result","content":{"source":{}}}],"role":"a"}',
    '{"choices":[null,{"index":"x","message":1},{"index":1e999,"message":{"content":{}}}]}',
    '{"generations":[[null,{"message":{"kwargs":{"content":[[1]],"additional_kwargs":[1]},"id":[1]}}]]}',
    '{"output":[null,{"type":"message","content":[null]},{"type":[]},{"type":"function_call","arguments":{}}],"tools":[1]}',
    '[{"message":{}},null,{"message":{"a":[[[]]],"":1}}]', nested(900), nested(100_000),
]  # fmt: skip
SCOPES = [
    "openai", "anthropic", "langchain", "google_adk", "agno", "dspy", "smolagents", "litellm", "openai_agents", "groq",
    "mistralai", "portkey", "beeai", "llama_index", "haystack", "google_genai", "bedrock", "autogen_agentchat",
    "instructor", "unheard_of", "@arizeai/openinference-instrumentation-openai", "my.agent", "gcp.vertex.agent",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("version", ["", "0.1.1", "1.1", "9" * 5000, "x.y"])
def test_hostile_texts(scope: str, version: str) -> None:
    """Whatever stands in a row, there is a span, with values that OTLP has."""
    for hostile in HOSTILE:
        made = attributes(llm(scope, hostile, hostile, version=version))
        for key, value in made.items():
            assert isinstance(value, str | bool | int | float | list), key


@cache
def _messages_and_tools(count: int) -> str | None:
    """Return so many of each kind, as text."""
    return text(
        {
            "messages": [{"role": "user", "content": "x"}] * count,
            "input": [{"role": "user", "content": "x"}] * count,
            "contents": [{"role": "user", "parts": [{"text": "x"}]}] * count,
            "tools": [{"name": f"t{at}"} for at in range(count)],
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("scope", SCOPES)
def test_many_messages(scope: str) -> None:
    """10,000 messages cost no more than their number, and give attributes within a bound."""

    def rebuilding(count: int) -> Callable[[], dict[str, Any]]:
        many = _messages_and_tools(count)
        made = llm(scope, many, many)
        originals, context = take_apart(made.metadata), gather(TRACE, [made])
        return lambda: CONVENTION.rebuild(made, originals, context).attributes

    times, made = growth(rebuilding(10_000 // TIMES), rebuilding(10_000))
    assert times < MOST
    assert len(made) < 2000


def test_a_long_conversation_does_not_push_out_the_rest() -> None:
    """What was rebuilt is in the row's input as well: it is what falls off the end."""
    asked = {"messages": [{"role": "user", "content": "x"}] * 1000}
    made = attributes(llm("openai", asked, kept={"llm.token_count.prompt": 3}))
    assert made["llm.token_count.prompt"] == 3
    assert made["metadata.langfuse_trace_id"]
    assert made["input.value"] == text(asked)
