"""Spans of OpenInference's instrumentations and of LiteLLM beside what the worker makes of Langfuse's rows for them.

Made by hand after the instrumentations' sources, which each case names; Langfuse's part is `ingested`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from sync_worker.spans.genai import GUESSED
from tests.spans.ingested import flat, ingested, recovered
from tests.spans.made import attributes, span

IN, OUT = "llm.input_messages", "llm.output_messages"
JSON = {"input.mime_type": "application/json", "output.mime_type": "application/json"}
LLM = {"openinference.span.kind": "LLM"}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
TOOL = {"llm.tools.0.tool.json_schema": json.dumps(WEATHER)}
TEXT = "message.contents.{}.message_content.text"
TYPE = "message.contents.{}.message_content.type"
CALL = "message.tool_calls.{}.tool_call."


def contents(role: str, *texts: str) -> dict[str, Any]:
    """Return a message whose texts stand in contents."""
    found: dict[str, Any] = {"role": role}
    for at, text in enumerate(texts):
        found |= {TYPE.format(at): "text", TEXT.format(at): text}
    return found


def calls(role: str, *asked: tuple[str | None, str, str]) -> dict[str, Any]:
    """Return a message that asks for tools, by id, name and arguments."""
    found: dict[str, Any] = {"role": role}
    for at, (call_id, name, arguments) in enumerate(asked):
        found |= {} if call_id is None else {CALL.format(at) + "id": call_id}
        found |= {CALL.format(at) + "function.name": name, CALL.format(at) + "function.arguments": arguments}
    return found


def body(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


USER_SHOWN = (
    "ChatMessage(role=<MessageRole.USER: 'user'>, additional_kwargs={}, "
    "blocks=[TextBlock(block_type='text', text=\"it's\\nÖ\")])"
)

CALL_SHOWN = (
    "ChatMessage(role=<MessageRole.ASSISTANT: 'assistant'>, additional_kwargs={'tool_calls': "
    "[ChatCompletionMessageToolCall(id='c1', function=Function(arguments='{\"a\": 1}', name='weather'), "
    "type='function')]}, blocks=[])"
)
ANSWER_SHOWN = (
    "ChatMessage(role=<MessageRole.TOOL: 'tool'>, additional_kwargs={'name': 'weather', 'tool_call_id': 'c1'}, "
    "blocks=[TextBlock(block_type='text', text='21')])"
)
IMAGE_SHOWN = (
    "ChatMessage(role=<MessageRole.USER: 'user'>, additional_kwargs={}, blocks=[TextBlock(block_type='text', text='a'),"
    " ImageBlock(block_type='image', image=None, path=None, url=AnyUrl('https://a/b.png'), image_mimetype=None, "
    "detail=None), TextBlock(block_type='text', text='b')])"
)
SYSTEM_SHOWN = (
    "ChatMessage(role=<MessageRole.SYSTEM: 'system'>, content=[{'type': 'text', 'text': 'Be \"good\"'}, "
    "{'type': 'text', 'text': ''}, {'type': 'text', 'text': 'b'}], tool_calls=None, raw=None, token_usage=None)"
)
RAW_SHOWN = (
    "ChatCompletion(id='x', choices=[Choice(finish_reason='stop', index=0, logprobs=None, message="
    "ChatCompletionMessage(content=None, reasoning_content='think', role='assistant'))], created=1)"
)
REPLY_SHOWN = (
    "ChatMessage(_role=<ChatRole.ASSISTANT: 'assistant'>, _content=[ToolCall(tool_name='weather', arguments={'a': 1}, "
    "id='c1', extra=None)], _name=None, _meta={'finish_reason': 'tool_calls', 'usage': {'prompt_tokens': 1}})"
)

PAIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "LlamaIndex": (  # _handler.py: arguments as repr(), the response as str()
        "openinference.instrumentation.llama_index",
        LLM | TOOL | {
            "input.value": body({
                "messages": [
                    USER_SHOWN,
                    CALL_SHOWN,
                    ANSWER_SHOWN,
                    IMAGE_SHOWN,
                ],
                "kwargs": {"tools": [WEATHER]},
            }),
            "input.mime_type": "application/json",
            "output.value": "assistant: Regen: viel",
        }
        | flat(IN, {"role": "user", "content": "it's\nÖ"}, calls("assistant", ("c1", "weather", '{"a": 1}')),
               {"role": "tool", "content": "21", "name": "weather", "tool_call_id": "c1"},
               {"role": "user", TYPE.format(0): "text", TEXT.format(0): "a", TYPE.format(2): "text",
                TEXT.format(2): "b", TYPE.format(1): "image",
                "message.contents.1.message_content.image.image.url": "https://a/b.png"})
        | flat(OUT, {"role": "assistant", "content": "Regen: viel"}),
    ),
    "LlamaIndex asks for tools": (
        "openinference.instrumentation.llama_index",
        LLM | {"input.value": body({"messages": [USER_SHOWN]}), "input.mime_type": "application/json",
               "output.value": "assistant: None"}
        | flat(IN, {"role": "user", "content": "it's\nÖ"}) | flat(OUT, {"role": "assistant"}),
    ),
    "LlamaIndex, completion": (
        "openinference.instrumentation.llama_index",
        LLM | {"input.value": body({"prompt": "Hi"}), "input.mime_type": "application/json",
               "output.value": "assistant: no message", "llm.prompts": ["Hi"]},
    ),
    "smolagents": (  # _wrappers.py: dataclasses as str(), the answer by its dict()
        "openinference.instrumentation.smolagents",
        LLM | JSON | TOOL | {
            "input.value": body({
                "messages": [
                    SYSTEM_SHOWN,
                    {"role": "user", "content": "Hi"},
                ],
                "stop_sequences": None,
                "tools_to_call_from": ["<smolagents.tools.Tool object at 0x7f>"],
            }),
            "output.value": body({
                "role": "assistant", "content": None,
                "tool_calls": [{"function": {"arguments": '{"a": 1}', "name": "weather", "description": None},
                                "id": "c1", "type": "function"}],
                "raw": RAW_SHOWN,
                "token_usage": {"input_tokens": 1, "output_tokens": 2},
            }),
        }
        | flat(IN, contents("system", 'Be "good"', "b"), {"role": "user", "content": "Hi"})
        | flat(OUT, contents("assistant", "think") | calls("assistant", ("c1", "weather", '{"a": 1}'))),
    ),
    "Haystack": (  # _wrappers.py: messages as repr()
        "openinference.instrumentation.haystack",
        LLM | JSON | {
            "input.value": body({"messages": [
                "ChatMessage(_role=<ChatRole.SYSTEM: 'system'>, _content=[TextContent(text='S')], _name=None)",
                "ChatMessage(_role=<ChatRole.USER: 'user'>, _content=[TextContent(text='Hi')], _name='ann', _meta={})",
            ], "generation_kwargs": None}),
            "output.value": body({"replies": [REPLY_SHOWN]}),
        }
        | flat(IN, {"role": "system", "content": "S"}, {"role": "user", "content": "Hi", "name": "ann"})
        | flat(OUT, calls("assistant", (None, "weather", '{"a": 1}'))),
    ),
    "Haystack, texts": (
        "openinference.instrumentation.haystack",
        LLM | JSON | {"input.value": body({"prompt": "Hi"}), "output.value": body({"replies": ["Ho"], "meta": [{}]})}
        | flat(IN, {"role": "user", "content": "Hi"}) | flat(OUT, {"role": "assistant", "content": "Ho"}),
    ),
    "BeeAI": (  # processors/chat.py
        "openinference.instrumentation.beeai",
        LLM | {"input.mime_type": "application/json", "output.mime_type": "text/plain", "output.value": "Ho"} | {
            "input.value": body({"messages": [
                {"role": "system", "content": [{"type": "text", "text": "S"}], "meta": {}},
                {"role": "assistant", "content": [
                    {"type": "tool-call", "id": "c1", "tool_name": "weather", "args": '{"a": 1}'}]},
                {"role": "tool", "content": [
                    {"type": "tool-result", "result": "21", "tool_name": "weather", "tool_call_id": "c1"}]},
            ], "stream": False}),
        }
        | flat(IN, contents("system", "S"), calls("assistant", ("c1", "weather", '{"a": 1}')),
               contents("tool", "21") | {"message.contents.0.message.tool_call_id": "c1"})
        | flat(OUT, contents("assistant", "Ho")),
    ),
    "AutoGen asks for tools": (  # _wrappers.py: there is no input.value
        "openinference.instrumentation.autogen_agentchat",
        LLM | TOOL | {
            "output.mime_type": "application/json",
            "output.value": body({"finish_reason": "function_calls",
                                  "content": [{"id": "c1", "arguments": '{"a": 1}', "name": "weather"}]}),
        }
        | flat(OUT, calls("assistant", ("c1", "weather", '{"a": 1}'))),
    ),
    "Google GenAI": (  # _request_attributes_extractor.py, _context.py
        "openinference.instrumentation.google_genai",
        LLM | JSON | {
            "input.value": body({
                "contents": [
                    {"role": "user", "parts": [{"text": "Hi"}]},
                    {"role": "model", "parts": [{"function_call": {"id": "c1", "name": "weather", "args": {"a": 1}}}]},
                    {"role": "user", "parts": [
                        {"function_response": {"id": "c1", "name": "weather", "response": {"t": 21}}}]},
                    {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
                ],
                "system_instruction": {"role": "user", "parts": [{"text": "S"}]},
                "tools": [{"function_declarations": [{"name": "weather", "parameters": {"type": "OBJECT"}}]}],
                "generation_config": {"temperature": 0.5},
            }),
            "output.value": body({"candidates": [{"content": {"role": "model", "parts": [
                {"thought": True, "text": "think"}, {"text": "Ho"}]}, "finish_reason": "STOP", "index": 0}]}),
            "llm.tools.0.tool.json_schema": body({"name": "weather", "parameters": {"type": "OBJECT"}}),
        }
        | flat(IN, {"role": "system", "content": "S"}, {"role": "user", "content": "Hi"},
               calls("model", ("c1", "weather", '{"a": 1}')),
               {"role": "user", "content": '{"t": 21}', "tool_call_id": "c1"}, contents("user", "a", "b"))
        | flat(OUT, contents("model", "think", "Ho") | {TYPE.format(0): "reasoning"}),
    ),
    "Bedrock's Converse, the answer": (  # _converse_attributes.py
        "openinference.instrumentation.bedrock",
        LLM | JSON | {
            "input.value": body([{"role": "user", "content": [{"text": "Hi"}]}]),
            "output.value": body({"role": "assistant", "content": [
                {"text": "Ho"}, {"toolUse": {"toolUseId": "c1", "name": "weather", "input": {"a": 1}}}]}),
        }
        | flat(OUT, contents("assistant", "Ho") | calls("assistant", ("c1", "weather", '{"a": 1}'))),
    ),
    "Claude on Bedrock": (  # utils/anthropic/_attributes.py
        "openinference.instrumentation.bedrock",
        LLM | JSON | {
            "input.value": body({"anthropic_version": "x", "system": "S", "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": [
                    {"type": "text", "text": "Ho"},
                    {"type": "tool_use", "id": "c1", "name": "weather", "input": {"a": 1}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "21"}]},
            ]}),
            "output.value": body({"role": "assistant", "content": [{"type": "text", "text": "Regen"}]}),
        }
        | flat(IN, {"role": "user", "content": "Hi"},
               contents("assistant", "Ho") | calls("assistant", ("c1", "weather", '{"a": 1}')),
               {"role": "user", "content": "21", "tool_call_id": "c1"})
        | flat(OUT, {"role": "assistant", "content": "Regen"}),
    ),
    "DSPy": (  # __init__.py: contents are flattened as they are
        "openinference.instrumentation.dspy",
        LLM | JSON | {
            "input.value": body({"prompt": None, "messages": [
                {"role": "system", "content": "S"},
                {"role": "user", "content": [{"type": "text", "text": "Hi"},
                                             {"type": "image_url", "image_url": {"url": "https://a/b"}}]}]}),
            "output.value": body(["Ho"]),
        }
        | flat(IN, {"role": "system", "content": "S"},
               {"role": "user", "message.content.0.type": "text", "message.content.0.text": "Hi",
                "message.content.1.type": "image_url", "message.content.1.image_url.url": "https://a/b"})
        | flat(OUT, {"role": "assistant", "content": "Ho"}),
    ),
    "Agno, streamed": (  # _model_wrapper.py
        "openinference.instrumentation.agno",
        LLM | JSON | {
            "input.value": body({"messages": [{"role": "user", "content": "Hi"}]}),
            "output.value": body({"role": "assistant", "content": "Ho"}),
        }
        | flat(IN, {"role": "user", "content": "Hi"}) | flat(OUT, {"role": "assistant", "content": "Ho"}),
    ),
    "Ollama": (  # not listed: a whole request, and a message
        "openinference.instrumentation.ollama",
        LLM | JSON | TOOL | {
            "input.value": body({"model": "llama3", "messages": [{"role": "user", "content": "Hi"}],
                                 "tools": [WEATHER]}),
            "output.value": body({"model": "llama3", "message": {"role": "assistant", "content": "Ho", "tool_calls": [
                {"function": {"name": "weather", "arguments": {"a": 1}}}]}}),
        }
        | flat(IN, {"role": "user", "content": "Hi"})
        | flat(OUT, {"content": "Ho"} | calls("assistant", (None, "weather", '{"a": 1}'))),
    ),
    "CrewAI's model calls": (  # not listed: a list of messages, and a text
        "openinference.instrumentation.crewai",
        LLM | {"input.mime_type": "application/json", "output.mime_type": "text/plain"} | {
            "input.value": body([{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]),
            "output.value": "Ho",
        }
        | flat(IN, {"role": "system", "content": "S"}, {"role": "user", "content": "Hi"})
        | flat(OUT, {"role": "assistant", "content": "Ho"}),
    ),
    "Together": (
        "openinference.instrumentation.together",
        LLM | JSON | {
            "input.value": body({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}),
            "output.value": body({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Ho"}}]}),
        }
        | flat(IN, {"role": "user", "content": "Hi"}) | flat(OUT, {"role": "assistant", "content": "Ho"}),
    ),
    "one in JavaScript": (
        "@arizeai/openinference-instrumentation-unheard-of",
        LLM | JSON | {
            "input.value": body({"modelId": "x", "prompt": "Hi"}),
            "output.value": body({"message": {"role": "assistant", "content": "Ho"}}),
        }
        | flat(IN, {"role": "user", "content": "Hi"}) | flat(OUT, {"role": "assistant", "content": "Ho"}),
    ),
}  # fmt: skip


PAIRS["Instructor"] = (  # _wrappers.py: the input is written field by field
    "openinference.instrumentation.instructor",
    {
        "openinference.span.kind": "TOOL",
        "input.mime_type": "application/json",
        "input.value.0.role": "system",
        "input.value.0.content": "S",
        "input.value.1.role": "user",
        "input.value.1.content": "Hi",
        "output.mime_type": "application/json",
        "output.value": body({"name": "Ada"}),
    }
    | flat(IN, {"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}),
)
PAIRS["AutoGen without an answer"] = (  # the messages themselves become the input
    "openinference.instrumentation.autogen_agentchat",
    LLM
    | TOOL
    | flat(IN, {"role": "developer", "content": "S"}, {"role": "assistant", "content": "Hm"}, {"role": "function"})
    | {f"{IN}.1.thought": "well", f"{IN}.2.function.0": body({"name": "weather", "content": "21"})},
)


@pytest.mark.parametrize("name", PAIRS)
def test_all_comes_back(name: str) -> None:
    """Kelet would see a model call of this framework without what was said."""
    scope, written = PAIRS[name]
    missing, wrong = recovered(scope, written)
    assert (missing, wrong) == ({}, {})


@pytest.mark.parametrize("name", PAIRS)
def test_the_scope_keeps_its_version(name: str) -> None:
    """Whoever looks for what an instrumentation's version does would find no version."""
    scope, written = PAIRS[name]
    made = span(ingested(scope, written, version="1.10.2"))
    assert (made.scope.name, made.scope.version) == (scope, "1.10.2")


def test_messages_of_an_unlisted_instrumentation_are_guesses() -> None:
    """Messages that follow from no instrumentation's source would look as if it had written them."""
    scope, written = PAIRS["Ollama"]
    found = attributes(ingested(scope, written))
    assert {key for key in written if key.startswith(("llm.input_messages.", "llm.output_messages."))} <= set(
        found[GUESSED]  # type: ignore[arg-type]
    )


def test_the_numbers_of_conversed_messages_are_unknown() -> None:
    """Bedrock's system prompt, which Langfuse does not keep, is message 0: no other may take its place."""
    scope, written = PAIRS["Bedrock's Converse, the answer"]
    assert not any(key.startswith("llm.input_messages") for key in attributes(ingested(scope, written)))


@pytest.mark.parametrize("kind", ["CHAIN", "AGENT", "TOOL", "EMBEDDING"])
def test_other_spans_have_no_messages(kind: str) -> None:
    """Only model calls have messages: an agent's input with the same shape must not become some."""
    scope, written = PAIRS["Together"]
    found = attributes(ingested(scope, written | {"openinference.span.kind": kind}))
    assert not any(key.startswith("llm.") for key in found)


def test_a_program_of_its_own_is_left_alone() -> None:
    """A program's own span in OpenInference's words may have any text as its input and output."""
    _, written = PAIRS["Together"]
    assert not any(key.startswith("llm.") for key in attributes(ingested("my.agent", written)))
