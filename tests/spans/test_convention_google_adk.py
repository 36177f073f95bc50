"""Spans of Google's Agent Development Kit, rebuilt from a row's input and output."""

import json
from typing import Any

import pytest

from sync_worker.spans.context import TraceContext
from sync_worker.spans.conventions import rebuilt
from sync_worker.spans.conventions.convention import Rebuilt
from sync_worker.spans.restore import take_apart
from tests.spans.made import otlp, row
from tests.spans.test_convention_semconv import USER, compact

ARGS, ANSWER = '{"city": "Zürich"}', '{"temp": 21.5}'
TOOL = {"gen_ai__operation__name": "execute_tool", "gen_ai__tool__name": "look"}
OLDER = {
    "gcp.vertex.agent.llm_request": "{}",
    "gcp.vertex.agent.llm_response": "{}",
    "gcp.vertex.agent.tool_call_args": ARGS,
    "gcp.vertex.agent.tool_response": ANSWER,
}
NEWER = {"gen_ai.tool.call.arguments": ARGS, "gen_ai.tool.call.result": ANSWER}


def kit(asked: str | None, answered: str | None, name: str, version: str, root: str = "", **original: Any) -> Rebuilt:
    metadata = otlp(**original) | {"scope.name": "gcp.vertex.agent", "scope.version": version}
    made = row(name=name, input=asked, output=answered, metadata=metadata)
    return rebuilt(made, take_apart(metadata), TraceContext("t", root_name=root))


def test_model_call() -> None:
    """The span of a model call holds request and response as the kit writes them, empty where content is off."""
    assert kit("{}", "{}", "call_llm", "1.28.0", gen_ai__system="gcp.vertex.agent").attributes == {
        "gcp.vertex.agent.llm_request": "{}", "gcp.vertex.agent.llm_response": "{}",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("version", "root", "expected", "guessed"),
    [
        ("", "", OLDER, False),
        ("1.28.0", "invocation", OLDER, False),
        ("2.0.0", "app", OLDER, False),
        ("2.12.0", "app", OLDER, True),
        ("2.12.0", "invocation", OLDER, False),
        ("2.13.0", "invocation", OLDER, False),
        ("2.13.0", "invoke_workflow x", NEWER, False),
        ("3.1", "", NEWER, False),
        ("99999999999.1", "", OLDER, False),
    ],
)
def test_tools(version: str, root: str, expected: dict[str, str], guessed: bool) -> None:
    """The kit changed its names in 2.13; its traces before began with an `invocation`."""
    found = kit(ARGS, ANSWER, "look", version, root, **TOOL)
    assert found.attributes == expected
    assert bool(found.guessed) == guessed


def test_tool_without_content() -> None:
    """A tool's span without content has none of the older attributes either."""
    assert kit(None, None, "look", "2.13.0", "invocation", **TOOL).attributes == {}


def test_newer_model_call() -> None:
    """Model calls of the newer kind follow the conventions, tools and all."""
    asked = compact({"messages": [USER], "tools": [{"name": "look"}]})
    found = kit(asked, None, "generate_content gemini", "2.13.0", gen_ai__provider__name="gcp.gemini")
    assert found.attributes == {
        "gen_ai.input.messages": compact([USER]), "gen_ai.tool.definitions": '[{"name":"look"}]',
    }  # fmt: skip


def test_spans_that_openinference_wrote_into() -> None:
    """The request is OpenInference's, the tools that Langfuse put after it are the kit's."""
    body = {"model": "gemini", "contents": [], "config": {"tools": [1]}}
    asked = compact(body | {"tools": [{"name": "look"}]})
    found = kit(asked, ANSWER, "invoke_agent x", "2.13.0", openinference__span__kind="LLM")
    assert found.attributes == {
        "input.value": compact(body), "output.value": ANSWER, "gen_ai.tool.definitions": '[{"name":"look"}]',
    }  # fmt: skip
    assert kit(json.dumps(body), None, "x", "2.13.0", openinference__span__kind="LLM").attributes == {
        "input.value": json.dumps(body)
    }
