"""Definitions of tools: wherever an observation has them."""

import json
from typing import Any

import pytest

from tests.spans.made import attributes, generation, otlp

KEY = "gen_ai.tool.definitions"
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}
CHAT = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"input": json.dumps({"messages": [], "tools": [CHAT]})}, [CHAT], id="the input's"),
        pytest.param({"type": "AGENT", "input": json.dumps({"goal": "x", "tools": [TOOL]})}, [TOOL], id="an agent's"),
        pytest.param({"model_parameters": {"tools": json.dumps([CHAT])}}, [CHAT], id="parameters, as text"),
        pytest.param({"model_parameters": {"tools": [CHAT], "temperature": 1}}, [CHAT], id="parameters"),
        pytest.param({"model_parameters": {"functions": '[{"name":"f"}]'}}, [{"name": "f"}], id="functions"),
        pytest.param({"metadata": {"tools": [TOOL]}}, [TOOL], id="metadata"),
        pytest.param({"metadata": {"tools": json.dumps([TOOL])}}, [TOOL], id="metadata, as text"),
        pytest.param(
            {"model_parameters": {"tools": [{"functionDeclarations": [{"name": "f"}]}]}},
            [{"functionDeclarations": [{"name": "f"}]}],
            id="Gemini",
        ),
        pytest.param(
            {"model_parameters": {"tools": [{"toolSpec": {"name": "f"}}]}}, [{"toolSpec": {"name": "f"}}], id="Bedrock"
        ),
        pytest.param(
            {"metadata": otlp(llm__invocation_parameters={"temperature": 0, "tools": [CHAT]})},
            [CHAT],
            id="OpenInference's parameters",
        ),
        pytest.param(
            {"metadata": otlp(llm__tools__1__tool__json_schema={"name": "g"}, llm__tools__0__tool__json_schema=CHAT)},
            [CHAT, {"name": "g"}],
            id="OpenInference's tools",
        ),
        pytest.param(
            {"metadata": otlp(llm__request__functions__0__name="f", llm__request__functions__0__description="does",
                              llm__request__functions__0__parameters={"type": "object"})},
            [{"type": "function", "name": "f", "description": "does", "parameters": {"type": "object"}}],
            id="OpenLLMetry",
        ),
        pytest.param(
            {"metadata": otlp(model_request_parameters={"function_tools": [
                {"name": "f", "description": None, "parameters_json_schema": {"type": "object"}, "strict": None}]})},
            [TOOL],
            id="pydantic-ai",
        ),
        pytest.param(
            {"metadata": otlp(ai__prompt__tools=[json.dumps(TOOL)])}, [TOOL], id="Vercel"
        ),
        pytest.param(
            {"metadata": otlp(request_data={"model": "x", "tools": [CHAT]})}, [CHAT], id="Logfire"
        ),
        pytest.param(
            {"type": "AGENT", "metadata": otlp(gen_ai__agent__tools='["f","g"]')},
            [{"type": "function", "name": "f"}, {"type": "function", "name": "g"}],
            id="Strands",
        ),
        pytest.param({"model_parameters": {"tools": "[]"}}, None, id="none"),
        pytest.param({"model_parameters": {"tools": "{}"}}, None, id="not given"),
        pytest.param({"metadata": {"tools": ["search", "code"]}}, None, id="names of the user's own"),
        pytest.param({"metadata": {"tools": {"search": 3}}}, None, id="counts of the user's own"),
        pytest.param({"metadata": {"tools": [{"used": True}]}}, None, id="records of the user's own"),
        pytest.param({"type": "TOOL", "metadata": {"tools": [TOOL]}}, None, id="a tool's metadata"),
    ],
)  # fmt: skip
def test_found(changes: dict[str, Any], expected: Any) -> None:
    """Which tools a model could have called is what its choice is judged by."""
    found = attributes(generation(**changes)).get(KEY)
    assert (None if found is None else json.loads(str(found))) == expected


def test_the_instrumentation_knows_best() -> None:
    """What it wrote itself stays, as its instrumentation wrote it."""
    made = generation(metadata=otlp(gen_ai__tool__definitions='[{"name": "own"}]'), model_parameters={"tools": [CHAT]})
    assert attributes(made)[KEY] == '[{"name": "own"}]'
