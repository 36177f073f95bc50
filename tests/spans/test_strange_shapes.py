"""Inputs and outputs with the keys of frameworks in places where no framework puts them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.spans.ingested import ingested
from tests.spans.made import converted, row

WORDS = (
    "type", "name", "args", "arguments", "kwargs", "input", "output", "id", "tool_call_id", "toolUseId", "call_id",
    "content", "contents", "parts", "role", "message", "messages", "function", "response", "result", "raw_output",
    "tool_name", "value", "mime_type", "update", "origin", "lc", "data", "choices", "candidates", "index", "prompt",
    "replies", "blocks", "additional_kwargs", "tool_calls", "text", "tools", "model", "system", "gen_ai.event.content",
    "toolUse", "toolResult", "tool_call", "__type", "raw", "meta", "_content", "_role", "_meta", "finish_reason",
)  # fmt: skip
KINDS = (
    "tool", "tool_call", "tool_use", "tool_result", "function", "function_call", "text", "user", "assistant", "weather",
    "tool_calls", "ToolResult", "tools/call", "image", "image_url", "thinking", "message", "reasoning", "",
    "{'a': 1}", '{"a": 1}', "content='x' tool_call_id='c'", "ChatMessage(role=<R.U: 'user'>, blocks=[T(text='x')])",
    "assistant: hi", "[1, 2", "ChatMessage(", "None",
)  # fmt: skip
LEAVES = some.none() | some.booleans() | some.integers(-3, 3) | some.floats(-2, 2) | some.sampled_from(KINDS)
SHAPES = some.recursive(
    LEAVES,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.sampled_from(WORDS), inner, max_size=5),
    max_leaves=25,
)
SCOPES = (
    "llama_index", "smolagents", "haystack", "beeai", "autogen_agentchat", "google_genai", "bedrock", "instructor",
    "dspy", "agno", "litellm", "openai", "anthropic", "langchain", "groq", "mistralai", "openai_agents", "unheard_of",
)  # fmt: skip


def text(value: Any, *, shown: bool = False) -> str:
    """Return a value as JSON, or as Python shows it."""
    return str(value) if shown else json.dumps(value, separators=(",", ":"))


@pytest.mark.slow
@given(SHAPES, SHAPES, some.booleans())
@settings(max_examples=150, deadline=None)
def test_tools(asked: Any, answered: Any, shown: bool) -> None:
    """A tool whose arguments look like anything would be lost, or its attributes hold what is no text."""
    made = converted([row(type="TOOL", name="weather", input=text(asked, shown=shown), output=text(answered))])
    assert made.failed == []
    ((_, span),) = made.spans
    for name in ("arguments", "result", "id"):
        assert isinstance(span.attributes.get(f"gen_ai.tool.call.{name}", ""), str)


@pytest.mark.slow
@pytest.mark.parametrize("scope", SCOPES)
@given(asked=SHAPES, answered=SHAPES, shown=some.booleans())
@settings(max_examples=25, deadline=None)
def test_model_calls(scope: str, asked: Any, answered: Any, shown: bool) -> None:
    """A model call whose input looks like anything would be lost."""
    written = {
        "openinference.span.kind": "LLM",
        "input.value": text(asked),
        "output.value": text(answered, shown=shown),
        "input.mime_type": "application/json",
    }
    assert converted([ingested(f"openinference.instrumentation.{scope}", written)]).failed == []


@given(SHAPES)
@settings(max_examples=40, deadline=None)
def test_the_callback_of_litellm(answered: Any) -> None:
    """An answer of LiteLLM's that looks like anything would be lost."""
    metadata = {
        "attributes.langfuse.observation.type": "generation",
        "attributes.llm.request.type": "acompletion",
        "attributes.langfuse.trace.name": "litellm-acompletion",
        "scope.name": "litellm",
    }
    made = row(type="GENERATION", input="[]", output=text(answered), metadata=metadata)
    assert converted([made]).failed == []
