"""LiteLLM's spans, rebuilt from a row's input and output."""

import json
from typing import Any

from sync_worker.records import Observation
from tests.spans.made import attributes, otlp, row
from tests.spans.test_vocab_conventions import ANSWER, USER, back, compact


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
    """Of a call that asks for tools Langfuse keeps the tools alone: the lost messages must not be made up."""
    made = call("{}", compact([{"function_call": {"arguments": '{"a": 1}', "name": "look"}}]))
    found = attributes(made)
    assert found["gen_ai.completion.0.function_call.arguments"] == '{"a": 1}'
    assert found["gen_ai.completion.0.function_call.name"] == "look"
    assert not found.keys() & {"gen_ai.input.messages", "gen_ai.output.messages"}


def test_older_versions() -> None:
    """Older versions wrote all of a call in the older names: messages derived from them are welcome."""
    made = call(compact([{"role": "user", "content": "x"}]), compact([{"role": "assistant", "content": "y"}]),
                llm__is_streaming="False")  # fmt: skip
    assert back(made).attributes == {
        "gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "x",
        "gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": "y",
    }  # fmt: skip
    assert "gen_ai.input.messages" in attributes(made)


def test_the_callback_for_langfuse() -> None:
    """That callback writes Langfuse's own names: input and output go out under those, once."""
    made = call(json.dumps([USER]), "{}", langfuse__observation__type="generation", openinference__span__kind="LLM")
    assert back(made).attributes == {}
    assert attributes(made)["langfuse.observation.input"] == json.dumps([USER])


def test_types() -> None:
    """LiteLLM turns lists to text and keeps money in doubles, which Langfuse's JSON does not tell."""
    made = call(None, None, gen_ai__response__finish_reasons=["stop"], error__code=429, metadata__user_api_key_spend=0,
                llm__openai__created=7)  # fmt: skip
    found = attributes(made)
    assert found["gen_ai.response.finish_reasons"] == '["stop"]'
    assert found["error.code"] == "429"
    assert repr(found["metadata.user_api_key_spend"]) == "0.0"
    assert found["llm.openai.created"] == 7
