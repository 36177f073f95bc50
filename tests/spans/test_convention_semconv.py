"""Messages, tools and tool calls of GenAI's conventions, rebuilt from a row's input and output."""

import json
from typing import Any

import pytest

from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.conventions import rebuilt
from sync_worker.spans.conventions.convention import Rebuilt
from sync_worker.spans.restore import take_apart
from tests.spans.made import OTLP, attributes, otlp, row

USER = {"role": "user", "parts": [{"type": "text", "content": "Zürich?"}]}
ANSWER = {"role": "assistant", "parts": [{"type": "text", "content": "Regen"}], "finish_reason": "stop"}
PLAIN = {"role": "user", "content": "Zürich?"}
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object"}}


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def back(made: Observation) -> Rebuilt:
    return rebuilt(made, take_apart(made.metadata), TraceContext("t"))


def chat(asked: str | None, answered: str | None = None, **original: Any) -> Rebuilt:
    known = {"gen_ai__operation__name": "chat", "gen_ai__provider__name": "openai"}
    return back(row(type="GENERATION", input=asked, output=answered, metadata=otlp(**(known | original))))


def test_messages_as_they_were() -> None:
    """Messages are byte for byte what their instrumentation wrote: its own JSON, not another one's."""
    asked, answered = json.dumps([USER]), json.dumps([ANSWER])
    assert chat(asked, answered).attributes == {
        "gen_ai.input.messages": asked, "gen_ai.output.messages": answered,
    }  # fmt: skip


def test_system_instructions() -> None:
    """Langfuse writes system instructions as the first message: there they are no instructions any more."""
    found = chat(compact([{"role": "system", "content": "Kurz."}, USER]))
    assert found.attributes == {
        "gen_ai.system_instructions": '[{"type":"text","content":"Kurz."}]',
        "gen_ai.input.messages": compact([USER]),
    }
    assert found.guessed == set()


def test_joined_system_instructions_are_a_guess() -> None:
    """Several parts come back joined by line breaks: one part with line breaks looks the same."""
    found = chat(compact([{"role": "system", "content": "Kurz.\nGut."}, USER]))
    assert found.guessed == {"gen_ai.system_instructions"}


def test_system_instructions_alone() -> None:
    """Instructions without messages are still instructions, and messages of nothing are none."""
    assert chat(compact([{"role": "system", "content": "Kurz."}])).attributes == {
        "gen_ai.system_instructions": '[{"type":"text","content":"Kurz."}]'
    }


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "parts": [{"type": "text", "content": "Kurz."}]}, USER],
        [{"role": "system", "content": "Kurz."}, PLAIN],
        [{"role": "system", "content": "Kurz.", "name": "x"}, USER],
        [USER, {"role": "system", "content": "Kurz."}],
    ],
    ids=["in parts", "all plain", "with a name", "not first"],
)
def test_system_message_of_the_instrumentation(messages: list[Any]) -> None:
    """A system message that the instrumentation wrote among the others stays where it was."""
    assert chat(compact(messages)).attributes == {"gen_ai.input.messages": compact(messages)}


def test_system_message_in_text_that_langfuse_did_not_write() -> None:
    """Langfuse writes compact JSON: text with spaces is the instrumentation's own, its system message too."""
    asked = json.dumps([{"role": "system", "content": "Kurz."}, USER])
    assert chat(asked).attributes == {"gen_ai.input.messages": asked}


def test_tools() -> None:
    """Tools that Langfuse moved into the input go back; the messages are what they were before."""
    asked = compact({"messages": [{"role": "system", "content": "Kurz."}, USER], "tools": [TOOL]})
    assert chat(asked).attributes == {
        "gen_ai.system_instructions": '[{"type":"text","content":"Kurz."}]',
        "gen_ai.input.messages": compact([USER]),
        "gen_ai.tool.definitions": compact([TOOL]),
    }


def test_tools_without_messages() -> None:
    """Where content is not captured the tools stand alone: no message is made of them."""
    found = attributes(row(type="GENERATION", input=compact({"tools": [TOOL]}), metadata=otlp(gen_ai__system="x")))
    assert found["gen_ai.tool.definitions"] == compact([TOOL])
    assert "gen_ai.input.messages" not in found


def test_tool_call() -> None:
    """Arguments and result of a tool are its own, even where they look like messages or are empty objects."""
    made = row(type="TOOL", input="{}", output=compact([USER]), metadata=otlp(gen_ai__operation__name="execute_tool"))
    assert back(made).attributes == {
        "gen_ai.tool.call.arguments": "{}", "gen_ai.tool.call.result": compact([USER]),
    }  # fmt: skip


def test_tool_call_in_messages() -> None:
    """An instrumentation may tell arguments and result in messages as well, which Langfuse takes first."""
    asked = json.dumps([{"role": "tool", "parts": [{"type": "tool_call", "arguments": {"city": "Zürich"}}]}])
    answered = json.dumps([{"role": "tool", "parts": [{"type": "tool_call_response", "response": "21.5"}]}])
    made = row(type="TOOL", input=asked, output=answered, metadata=otlp(gen_ai__operation__name="execute_tool"))
    found = back(made)
    assert found.attributes == {
        "gen_ai.input.messages": asked, "gen_ai.tool.call.arguments": '{"city":"Zürich"}',
        "gen_ai.output.messages": answered, "gen_ai.tool.call.result": "21.5",
    }  # fmt: skip
    assert found.guessed == {"gen_ai.tool.call.arguments", "gen_ai.tool.call.result"}


def test_embeddings() -> None:
    """OpenLLMetry writes messages for embeddings too, which no rule for chats restores."""
    known = otlp(gen_ai__operation__name="embeddings") | {"scope.name": "opentelemetry.instrumentation.openai.v1"}
    asked = json.dumps([USER])
    assert attributes(row(type="EMBEDDING", input=asked, metadata=known))["gen_ai.input.messages"] == asked


def test_plain_messages() -> None:
    """Messages without parts may be made of span events; a provider named the new way says they were an attribute."""
    asked = compact([PLAIN])
    assert chat(asked).attributes == {"gen_ai.input.messages": asked}
    older = row(type="GENERATION", input=asked, metadata=otlp(gen_ai__system="openai"))
    assert back(older).attributes == {}
    assert back(row(type="GENERATION", input=json.dumps([PLAIN]), metadata=otlp(gen_ai__system="x"))).attributes == {
        "gen_ai.input.messages": json.dumps([PLAIN])
    }


@pytest.mark.parametrize(
    "text", [None, "hi", "3", "null", '"x"', "[1]", '[{"parts":[]}]', '[{"role":1}]', '{"a":1}', "[", "[" * 100_000]
)
def test_nothing_to_put_back(text: str | None) -> None:
    """What is no list of messages was in no attribute for messages."""
    assert chat(text, text).attributes == {}


def test_other_vocabularies_are_left_alone() -> None:
    """OpenInference's spans may carry attributes of the conventions as well: they are its own."""
    metadata = otlp(gen_ai__system="x", openinference__span__kind="LLM")
    assert "gen_ai.input.messages" not in back(row(input=json.dumps([USER]), metadata=metadata)).attributes
    assert back(row(input=json.dumps([USER]), metadata=OTLP)).attributes == {}


def test_ten_thousand_messages() -> None:
    """A long conversation comes back whole."""
    asked = compact([{"role": "system", "content": "Kurz."}, *[USER] * 10_000])
    assert chat(asked).attributes["gen_ai.input.messages"] == compact([USER] * 10_000)
