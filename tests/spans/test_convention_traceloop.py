"""Traceloop's entities, rebuilt from a row's input and output."""

import json
from typing import Any

from sync_worker.spans.conventions.convention import Rebuilt
from tests.spans.made import otlp, row
from tests.spans.test_convention_semconv import ANSWER, USER, back, compact

ARGS = '{"args": ["Zürich"], "kwargs": {}}'


def entity(asked: str | None, answered: str | None, scope: str = "traceloop.tracer", **original: Any) -> Rebuilt:
    metadata = otlp(**({"traceloop__span__kind": "task"} | original)) | {"scope.name": scope}
    return back(row(input=asked, output=answered, metadata=metadata))


def test_input_and_output() -> None:
    """An entity's content is text of any shape: it goes back as it is, numbers and empty objects too."""
    assert entity(ARGS, "2").attributes == {"traceloop.entity.input": ARGS, "traceloop.entity.output": "2"}
    assert entity("{}", None).attributes == {"traceloop.entity.input": "{}"}
    assert entity(None, None).attributes == {}


def test_plain_messages_of_an_entity() -> None:
    """Messages without parts may be what a task was given: they are no attribute of GenAI's conventions."""
    asked = compact([{"role": "user", "content": "x"}])
    scope = "opentelemetry.instrumentation.llamaindex"
    assert entity(asked, "{}", scope, gen_ai__system="x").attributes == {
        "traceloop.entity.input": asked, "traceloop.entity.output": "{}",
    }  # fmt: skip


def test_messages_of_an_agent() -> None:
    """An instrumentation may write messages on an entity's span, which then has no input and output of its own."""
    scope = "opentelemetry.instrumentation.crewai.instrumentation"
    found = entity(json.dumps([USER]), json.dumps([ANSWER]), scope, gen_ai__provider__name="crewai")
    assert found.attributes.keys() == {"gen_ai.input.messages", "gen_ai.output.messages"}


def test_tools_of_langchain() -> None:
    """langchain's instrumentation writes a tool's content twice, and Langfuse takes both."""
    known = {"traceloop__span__kind": "tool", "gen_ai__operation__name": "execute_tool"}
    scope = "opentelemetry.instrumentation.langchain"
    assert entity(ARGS, "2", scope, **known).attributes == {
        "traceloop.entity.input": ARGS, "traceloop.entity.output": "2",
        "gen_ai.tool.call.arguments": ARGS, "gen_ai.tool.call.result": "2",
    }  # fmt: skip
    assert entity(ARGS, None, scope, traceloop__span__kind="tool").attributes == {"traceloop.entity.input": ARGS}


def test_tools_of_openai_agents() -> None:
    """The instrumentation of OpenAI's agents marks its spans as entities but writes arguments and results."""
    known = {"traceloop__span__kind": "tool", "gen_ai__operation__name": "execute_tool"}
    scope = "opentelemetry.instrumentation.openai_agents"
    assert entity('{"a":1}', "2", scope, **known).attributes == {
        "gen_ai.tool.call.arguments": '{"a":1}', "gen_ai.tool.call.result": "2",
    }  # fmt: skip
    older = {"traceloop__span__kind": "tool", "gen_ai__tool__name": "look", "gen_ai__system": "openai_agents"}
    assert entity("{}", '{"tool":{"name":"look","strict_json_schema":true}}', scope, **older).attributes == {
        "gen_ai.completion.tool.name": "look", "gen_ai.completion.tool.strict_json_schema": True,
    }  # fmt: skip


def test_openinference_is_left_alone() -> None:
    """A span of OpenInference that a Traceloop processor marked is still OpenInference's."""
    found = entity(ARGS, "2", "my.app", openinference__span__kind="CHAIN").attributes
    assert found == {"input.value": ARGS, "output.value": "2"}


def test_own_entities_that_openinference_repeats() -> None:
    """Langfuse takes Traceloop's input first, whatever a processor wrote beside it."""
    found = entity(ARGS, "2", openinference__span__kind="CHAIN").attributes
    assert found == {"traceloop.entity.input": ARGS, "traceloop.entity.output": "2"}
