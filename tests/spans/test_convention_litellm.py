"""LiteLLM's spans, rebuilt from a row's input and output."""

import json
from typing import Any

from sync_worker.records import Observation
from tests.spans.made import attributes, otlp, row
from tests.spans.test_convention_semconv import ANSWER, USER, back, compact


def call(asked: str | None, answered: str | None, **original: Any) -> Observation:
    known = otlp(**({"gen_ai__system": "openai", "gen_ai__operation__name": "acompletion"} | original))
    return row(type="GENERATION", input=asked, output=answered, metadata=known | {"scope.name": "litellm"})


def test_messages() -> None:
    """Messages go back as LiteLLM wrote them; its instructions are plain text, unlike the conventions' own."""
    asked = compact([{"role": "system", "content": "Kurz.\nGut."}, USER])
    found = back(call(asked, json.dumps([ANSWER])))
    assert found.attributes == {
        "gen_ai.system_instructions": "Kurz.\nGut.",
        "gen_ai.input.messages": compact([USER]),
        "gen_ai.output.messages": json.dumps([ANSWER]),
    }
    assert found.guessed == set()


def test_tool_calls_hide_the_messages() -> None:
    """Of a call that asks for tools Langfuse keeps the tools alone: they must be seen, and nothing be made up."""
    made = call("{}", compact([{"function_call": {"arguments": '{"a": 1}', "name": "look"}}]))
    found = attributes(made)
    assert found["gen_ai.completion.0.function_call.arguments"] == '{"a": 1}'
    assert found["gen_ai.completion.0.function_call.name"] == "look"
    assert "gen_ai.input.messages" not in found
    asked = {"type": "tool_call", "name": "look", "arguments": {"a": 1}}
    assert found["gen_ai.output.messages"] == compact([{"role": "assistant", "parts": [asked]}])
    assert "gen_ai.output.messages" in str(found["kelet.source.langfuse.guessed"])


def test_older_versions() -> None:
    """Older versions wrote all of a call in the older names: messages derived from them are welcome."""
    made = call(compact([{"role": "user", "content": "x"}]), compact([{"role": "assistant", "content": "y"}]),
                llm__is_streaming="False")  # fmt: skip
    assert back(made).attributes == {
        "gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "x",
        "gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": "y",
    }  # fmt: skip
    assert "gen_ai.input.messages" in attributes(made)


def callback(answered: Any, **original: Any) -> Observation:
    known = {
        "langfuse__observation__type": "generation",
        "openinference__span__kind": "LLM",
        "llm__request__type": "acompletion",
    }
    return call(json.dumps([USER]), None if answered is None else json.dumps(answered), **(known | original))


def test_the_callback_for_langfuse() -> None:
    """That callback writes Langfuse's own names; what it told in OpenInference's beside them would be missing."""
    made = callback({"role": "assistant", "content": "Regen"})
    assert back(made).attributes == {
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": "Regen",
        "output.value": "Regen",
    }
    assert attributes(made)["langfuse.observation.input"] == json.dumps([USER])
    assert back(callback(None)).attributes == {}
    assert back(callback({})).attributes == {}


def test_the_callback_for_langfuse_asks_for_tools() -> None:
    """The calls of an answer stand in its output alone."""
    asked = {"id": "chatcmpl-1", "name": "look", "call_id": "c1", "type": "function_call", "arguments": {"a": 1}}
    assert back(callback([asked])).attributes == {
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.tool_calls.0.tool_call.id": "c1",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "look",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"a": 1}',
    }


def test_the_callback_for_langfuse_answers_responses() -> None:
    """Of Responses the callback leaves items out, so that the numbers of messages are not known: none is made up."""
    payload = [{"role": "reasoning_summary", "content": "Hm"}, {"role": "assistant", "content": "Regen"}]
    assert back(callback(payload, llm__request__type="aresponses")).attributes == {"output.value": "Regen"}


def test_the_callback_for_langfuse_begins_a_trace() -> None:
    """The trace's input and output, which the newer API does not return, are those of the call that began it."""
    payload = {"role": "assistant", "content": "Regen"}
    begun = {"langfuse__trace__name": "litellm-acompletion"}
    found = back(callback(payload, **begun)).attributes
    assert (found["langfuse.trace.input"], found["langfuse.trace.output"]) == (json.dumps([USER]), json.dumps(payload))
    masked = back(callback(payload, langfuse__generation__mask_input=True, **begun)).attributes
    assert "langfuse.trace.input" not in masked
    assert "langfuse.trace.input" not in back(callback(payload, langfuse__trace__name="chat")).attributes


def test_older_callbacks() -> None:
    """LiteLLM's callback for Arize has the answer's text as its output, and nothing else of the messages."""
    made = call("Hi", "Ho", openinference__span__kind="LLM")
    assert back(made).attributes == {
        "input.value": "Hi",
        "output.value": "Ho",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": "Ho",
    }


def test_types() -> None:
    """LiteLLM turns lists to text and keeps money in doubles, which Langfuse's JSON does not tell."""
    made = call(None, None, gen_ai__response__finish_reasons=["stop"], error__code=429, metadata__user_api_key_spend=0,
                llm__openai__created=7)  # fmt: skip
    found = attributes(made)
    assert found["gen_ai.response.finish_reasons"] == '["stop"]'
    assert found["error.code"] == "429"
    assert repr(found["metadata.user_api_key_spend"]) == "0.0"
    assert found["llm.openai.created"] == 7
