"""Conversations as frameworks write them, read as messages. The literals are trimmed from real rows."""

import json
from typing import Any

import pytest

from sync_worker.spans import messages
from sync_worker.spans.messages import Conversation, read_input, read_output


def asked(value: object) -> Conversation:
    """Read a value as an input that has to be understood."""
    conversation = read_input(value if isinstance(value, str) else json.dumps(value))
    assert conversation is not None
    assert conversation.recognised
    return conversation


def answered(value: object) -> Conversation:
    """Read a value as an output that has to be understood."""
    conversation = read_output(value if isinstance(value, str) else json.dumps(value))
    assert conversation is not None
    assert conversation.recognised
    return conversation


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


def call(call_id: str, name: str, arguments: object) -> dict[str, Any]:
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}


def result(call_id: str, response: object, **more: object) -> dict[str, Any]:
    return {"type": "tool_call_response", "id": call_id, "response": response, "result": response, **more}


ZURICH = {"city": "Zürich"}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def test_public_names() -> None:
    """Callers would break, or inner helpers would become promises, if the public names changed unseen."""
    assert sorted(messages.__all__) == ["Conversation", "read_input", "read_output"]


@pytest.mark.parametrize("nothing", [None, ""])
def test_nothing_has_no_messages(nothing: str | None) -> None:
    """A row without input would be sent with an empty message that nobody wrote."""
    assert read_input(nothing) is None
    assert read_output(nothing) is None


@pytest.mark.parametrize("plain", ["Wetter?", " leading space", '"quoted"', "5", "true", "   "])
def test_plain_text_is_one_message(plain: str) -> None:
    """Text prompts would vanish or lose characters."""
    assert asked(plain).messages == [{"role": "user", "parts": [text(plain)]}]
    assert answered(plain).messages == [{"role": "assistant", "parts": [text(plain)]}]


OPENAI_CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "You are helpful."},
    {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Zürich"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": '{"t":12}'},
]
OPENAI_CHAT_READ = [
    {"role": "user", "parts": [text("Weather?")]},
    {"role": "assistant", "parts": [call("c1", "get_weather", ZURICH)]},
    {"role": "tool", "parts": [result("c1", '{"t":12}')]},
]


@pytest.mark.parametrize("body", [OPENAI_CHAT, {"messages": OPENAI_CHAT}, {"messages": OPENAI_CHAT, "model": "m"}])
def test_openai_chat(body: object) -> None:
    """The most common shape of all would arrive as raw JSON, with no system prompt set apart."""
    conversation = asked(body)
    assert conversation.messages == OPENAI_CHAT_READ
    assert conversation.system == [text("You are helpful.")]
    assert conversation.tools is None
    assert conversation.finish_reasons == []


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        ({"messages": [{"role": "user", "content": "hi"}], "tools": [TOOL]}, [{"role": "user", "parts": [text("hi")]}]),
        ({"prompt": "hi", "tools": [TOOL]}, [{"role": "user", "parts": [text("hi")]}]),
        ({"role": "user", "content": "hi", "tools": [TOOL]}, [{"role": "user", "parts": [text("hi")]}]),
        ({"tools": [TOOL]}, []),
        (
            [{"role": "user", "content": "hi"}, {"role": "tool", "content": TOOL}],
            [{"role": "user", "parts": [text("hi")]}],
        ),
    ],
)
def test_tools_are_found_beside_messages(body: object, payload: list[object]) -> None:
    """Langfuse moves tool definitions into the input in five ways; they would pose as messages or be lost."""
    conversation = asked(body)
    assert conversation.messages == payload
    assert conversation.tools == [TOOL]


def test_openai_response_body() -> None:
    """Why the model stopped would be lost, and bookkeeping of the API would be sent as if it had been said."""
    conversation = answered(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "gpt-4o-mini",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "tool_calls",
                    "logprobs": None,
                    "message": {
                        "role": "assistant",
                        "content": None,
                        "refusal": None,
                        "annotations": [],
                        "tool_calls": OPENAI_CHAT[2]["tool_calls"],
                    },
                },
                {"index": 1, "finish_reason": "stop", "text": "legacy"},
            ],
            "usage": {"total_tokens": 157},
        }
    )
    assert conversation.messages == [
        {"role": "assistant", "parts": [call("c1", "get_weather", ZURICH)], "finish_reason": "tool_calls"},
        {"role": "assistant", "parts": [text("legacy")], "finish_reason": "stop"},
    ]
    assert conversation.finish_reasons == ["tool_calls", "stop"]


def test_openai_responses_request() -> None:
    """Calls and answers of the Responses API stand beside messages and would make the list unreadable."""
    conversation = asked(
        {
            "model": "gpt-4o-mini",
            "instructions": "Kurz.",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "Wetter?"}]},
                {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "look it up"}]},
                {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": '{"city":"Zürich"}'},
                {"type": "function_call_output", "call_id": "c1", "output": "21 °C"},
                {"type": "web_search_call", "id": "ws_1", "action": {"query": "x"}},
            ],
        }
    )
    assert conversation.system == [text("Kurz.")]
    assert conversation.messages == [
        {"role": "user", "parts": [text("Wetter?")]},
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "look it up", "id": "rs_1"}]},
        {"role": "assistant", "parts": [call("c1", "get_weather", ZURICH)]},
        {"role": "tool", "parts": [result("c1", "21 °C")]},
        {"role": "assistant", "parts": [{"type": "web_search_call", "id": "ws_1", "action": {"query": "x"}}]},
    ]


def test_openai_responses_response() -> None:
    """One answer in several items would count as several answers."""
    conversation = answered(
        {
            "id": "resp_1",
            "object": "response",
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "output": [
                {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "xyz"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Sonnig"}]},
                {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "get_weather", "arguments": "{}"},
            ],
            "text": {"format": {"type": "text"}},
            "usage": {"total_tokens": 1},
        }
    )
    assert conversation.messages == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "", "id": "rs_1", "encrypted_content": "xyz"},
                text("Sonnig"),
                {**call("c1", "get_weather", {}), "_id": "fc_1"},
            ],
            "finish_reason": "max_output_tokens",
        }
    ]
    assert conversation.finish_reasons == ["max_output_tokens"]


def test_anthropic_request() -> None:
    """Anthropic's system prompt stands beside the messages, its calls and answers inside their content."""
    conversation = asked(
        {
            "model": "claude-sonnet-4-5",
            "system": [{"type": "text", "text": "Frosch", "cache_control": {"type": "ephemeral"}}],
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "messages": [
                {"role": "user", "content": "Wetter?"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "look it up", "signature": "sig"},
                        {"type": "text", "text": "Ich schaue"},
                        {"type": "tool_use", "id": "t1", "name": "get_weather", "input": ZURICH},
                    ],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "21 °C"}]},
            ],
            "tools": [{"name": "get_weather", "input_schema": {}}],
        }
    )
    assert conversation.system == [{**text("Frosch"), "cache_control": {"type": "ephemeral"}}]
    assert conversation.tools == [{"name": "get_weather", "input_schema": {}}]
    assert conversation.messages == [
        {"role": "user", "parts": [text("Wetter?")]},
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "look it up", "signature": "sig"},
                text("Ich schaue"),
                call("t1", "get_weather", ZURICH),
            ],
        },
        {"role": "user", "parts": [result("t1", "21 °C")]},
    ]


def test_anthropic_response() -> None:
    """The answer of Anthropic's API is one message with its reason to stop beside the content."""
    conversation = answered(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5",
            "content": [
                {"type": "redacted_thinking", "data": "abc"},
                {"citations": None, "type": "text", "text": "ok"},
            ],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 88},
        }
    )
    assert conversation.messages == [
        {
            "role": "assistant",
            "parts": [{"type": "redacted_thinking", "data": "abc"}, text("ok")],
            "finish_reason": "end_turn",
        }
    ]
    assert conversation.finish_reasons == ["end_turn"]


@pytest.mark.parametrize(
    ("called", "answer", "instruction"),
    [
        ("function_call", "function_response", {"config": {"system_instruction": "Frosch", "temperature": 0.2}}),
        ("functionCall", "functionResponse", {"systemInstruction": {"parts": [{"text": "Frosch"}]}}),
    ],
)
def test_gemini_request(called: str, answer: str, instruction: dict[str, Any]) -> None:
    """Gemini spells every key in two ways, and its parts name no type."""
    conversation = asked(
        {
            "model": "gemini-2.5-flash",
            "contents": [
                {"role": "user", "parts": [{"text": "Wetter?"}]},
                {"role": "model", "parts": [{"text": "hm", "thought": True}, {called: {"name": "w", "args": ZURICH}}]},
                {"role": "user", "parts": [{answer: {"name": "w", "response": {"temp": 21.5}}}]},
            ],
            **instruction,
        }
    )
    assert conversation.system == [text("Frosch")]
    assert conversation.messages == [
        {"role": "user", "parts": [text("Wetter?")]},
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "hm"},
                {"type": "tool_call", "name": "w", "arguments": ZURICH},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"type": "tool_call_response", "name": "w", "response": {"temp": 21.5}, "result": {"temp": 21.5}}
            ],
        },
    ]


def test_gemini_tools_are_listed_once() -> None:
    """Langfuse repeats the agent kit's tools beside the configuration, without their parameters."""
    declared = {"name": "w", "parameters_json_schema": {"type": "object"}}
    conversation = asked(
        {
            "contents": "hi",
            "config": {"tools": [{"function_declarations": [declared]}, {"google_search": {}}]},
            "tools": [{"name": "w", "parameters": None, "type": "function"}, {"name": "other"}],
        }
    )
    assert conversation.tools == [declared, {"google_search": {}}, {"name": "other"}]


@pytest.mark.parametrize(
    "body",
    [
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "ok"}]}, "finishReason": "STOP", "index": 0}]},
        {"content": {"parts": [{"text": "ok"}], "role": "model"}, "finish_reason": "STOP", "model_version": "g"},
    ],
)
def test_gemini_response(body: object) -> None:
    """Neither the API's candidates nor the agent kit's single content would be read."""
    conversation = answered(body)
    assert conversation.messages == [{"role": "assistant", "parts": [text("ok")], "finish_reason": "STOP"}]


def test_gemini_blocked_candidate() -> None:
    """A candidate without content would make the whole response unreadable, and its reason would be lost."""
    conversation = answered({"candidates": [{"finishReason": "SAFETY", "safetyRatings": [{"blocked": True}]}]})
    assert conversation.finish_reasons == ["SAFETY"]
    assert conversation.messages[0]["parts"] == [{"type": "safetyRatings", "content": [{"blocked": True}]}]


def serialised(name: str, **kwargs: object) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", name], "kwargs": kwargs}


LANGCHAIN_CALL = {"name": "get_weather", "args": ZURICH, "id": "c1", "type": "tool_call"}


@pytest.mark.parametrize(
    "body",
    [
        {
            "messages": [
                [
                    serialised("SystemMessage", content="Frosch", type="system"),
                    serialised("HumanMessage", content="Wetter?", type="human", id="1"),
                    serialised("AIMessage", content="", type="ai", tool_calls=[LANGCHAIN_CALL], invalid_tool_calls=[]),
                    serialised("ToolMessage", content="21 °C", type="tool", tool_call_id="c1"),
                ]
            ]
        },
        [
            {"type": "system", "data": {"content": "Frosch"}},
            {"type": "human", "data": {"content": "Wetter?"}},
            {"type": "ai", "data": {"content": "", "tool_calls": [LANGCHAIN_CALL]}},
            {"type": "tool", "data": {"content": "21 °C", "tool_call_id": "c1"}},
        ],
        {
            "messages": [
                ["system", "Frosch"],
                {"type": "human", "content": "Wetter?"},
                {"type": "AIMessageChunk", "content": "", "tool_calls": [LANGCHAIN_CALL]},
                {"type": "tool", "content": "21 °C", "tool_call_id": "c1"},
            ]
        },
    ],
)
def test_langchain_messages(body: object) -> None:
    """LangChain's serialised objects, dicts and tuples all stand for the same messages."""
    conversation = asked(body)
    assert conversation.system == [text("Frosch")]
    assert conversation.messages == [
        {"role": "user", "parts": [text("Wetter?")]},
        {"role": "assistant", "parts": [call("c1", "get_weather", ZURICH)]},
        {"role": "tool", "parts": [result("c1", "21 °C")]},
    ]


def test_langchain_tuples_stay_messages_of_their_own() -> None:
    """A list of nothing but tuples would melt into one turn, and hide who said what."""
    assert asked([["human", "hi"], ["ai", "ho"]]).messages == [
        {"role": "user", "parts": [text("hi")]},
        {"role": "assistant", "parts": [text("ho")]},
    ]


def test_langchain_generations() -> None:
    """LangChain keeps the answer as text and as a message; it would be said twice, or not at all."""
    message = serialised(
        "AIMessage",
        content="ok",
        additional_kwargs={"refusal": None},
        response_metadata={"finish_reason": "stop", "model_name": "gpt-4o-mini"},
    )
    chat = {"text": "ok", "generation_info": {"finish_reason": "stop"}, "type": "ChatGeneration", "message": message}
    plain = {"text": "legacy", "generation_info": {"finish_reason": "length"}, "type": "Generation"}
    conversation = answered({"generations": [[chat, plain]], "llm_output": {"model_name": "m"}, "type": "LLMResult"})
    assert conversation.messages == [
        {"role": "assistant", "parts": [text("ok")], "finish_reason": "stop"},
        {"role": "assistant", "parts": [text("legacy")], "finish_reason": "length"},
    ]


def test_langchain_refused_call_keeps_the_error() -> None:
    """A failed call has an empty message; the provider's error in its metadata would be lost."""
    message = serialised("AIMessage", content="", response_metadata={"body": {"error": {"message": "Rate limit"}}})
    conversation = answered({"generations": [[{"text": "", "generation_info": None, "message": message}]]})
    assert conversation.messages[0]["parts"] == [{"type": "error", "content": {"error": {"message": "Rate limit"}}}]


def test_langchain_calls_repeated_in_three_places_are_one() -> None:
    """A call would count three times: in the content, in tool_calls and in additional_kwargs."""
    conversation = answered(
        serialised(
            "AIMessage",
            content=[{"type": "tool_use", "id": "c1", "name": "get_weather", "input": {}}],
            tool_calls=[LANGCHAIN_CALL],
            additional_kwargs={"tool_calls": OPENAI_CHAT[2]["tool_calls"]},
        )
    )
    assert conversation.messages == [{"role": "assistant", "parts": [call("c1", "get_weather", ZURICH)]}]


def test_vercel_messages() -> None:
    """The Vercel SDK wraps what a tool answered; the wrapper would be taken for the answer."""
    conversation = asked(
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Wetter?"}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "reasoning", "text": "hm", "providerOptions": {"anthropic": {"signature": "s"}}},
                        {"type": "tool-call", "toolCallId": "c1", "toolName": "get_weather", "input": ZURICH},
                    ],
                },
                {
                    "role": "tool",
                    "content": [
                        {
                            "type": "tool-result",
                            "toolCallId": "c1",
                            "toolName": "get_weather",
                            "output": {"type": "error-text", "value": "offline"},
                        }
                    ],
                },
            ]
        }
    )
    assert conversation.messages == [
        {"role": "user", "parts": [text("Wetter?")]},
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "hm", "providerOptions": {"anthropic": {"signature": "s"}}},
                call("c1", "get_weather", ZURICH),
            ],
        },
        {"role": "tool", "parts": [result("c1", "offline", name="get_weather", output_type="error-text")]},
    ]


BARE_CALL = {"toolCallId": "c1", "toolName": "get_weather", "input": '{"city": "Zürich"}'}


@pytest.mark.parametrize(
    ("output", "parts"),
    [
        ([BARE_CALL, {**BARE_CALL, "toolCallId": "c2"}], [call(i, "get_weather", ZURICH) for i in ("c1", "c2")]),
        (
            {"role": "assistant", "content": "Moment", "tool_calls": json.dumps([BARE_CALL])},
            [text("Moment"), call("c1", "get_weather", ZURICH)],
        ),
        (
            [{"function_call": {"name": "get_weather", "arguments": '{"city": "Zürich"}'}}],
            [{"type": "tool_call", "name": "get_weather", "arguments": ZURICH}],
        ),
        (
            [
                {"type": "text", "text": "Moment"},
                {"type": "tool_use", "id": "c1", "name": "get_weather", "input": ZURICH},
            ],
            [text("Moment"), call("c1", "get_weather", ZURICH)],
        ),
    ],
)
def test_calls_without_a_message_are_one_answer(output: object, parts: list[object]) -> None:
    """Vercel and LiteLLM record bare calls; the model's turn would be raw JSON."""
    assert answered(output).messages == [{"role": "assistant", "parts": parts}]


def test_parts_pass_through() -> None:
    """What is in the conventions' shape already would be changed, or keep pydantic-ai's private spelling."""
    payload: list[dict[str, Any]] = [
        {"role": "user", "parts": [text("hi"), {"type": "uri", "modality": "image", "uri": "https://x/y.png"}]},
        {
            "role": "assistant",
            "parts": [{"type": "thinking", "content": "hm", "signature": "s"}, call("c1", "f", '{"a": 1}')],
            "finish_reason": "tool_call",
        },
        {
            "role": "user",
            "parts": [{"type": "tool_call_response", "id": "c1", "name": "f", "result": [1]}],
            "name": "bob",
        },
    ]
    assert asked(payload).messages == [
        payload[0],
        {
            "role": "assistant",
            "parts": [{"type": "reasoning", "content": "hm", "signature": "s"}, call("c1", "f", {"a": 1})],
            "finish_reason": "tool_call",
        },
        {"role": "user", "parts": [result("c1", [1], name="f")], "name": "bob"},
    ]


def test_parts_with_calls_beside_them() -> None:
    """LiteLLM writes text as parts but leaves calls and call ids beside them, where they would be lost."""
    conversation = asked(
        [
            {"role": "assistant", "parts": [text("")], "tool_calls": OPENAI_CHAT[2]["tool_calls"]},
            {"role": "tool", "parts": [text("21 °C")], "tool_call_id": "c1"},
        ]
    )
    assert conversation.messages == [
        {"role": "assistant", "parts": [text(""), call("c1", "get_weather", ZURICH)]},
        {"role": "tool", "parts": [result("c1", "21 °C")]},
    ]


def test_only_opening_system_messages_are_set_apart() -> None:
    """A system message in the middle would move to the front, and a named example would lose its name."""
    system = {"role": "developer", "content": "A"}
    conversation = asked([system, system, {"role": "user", "content": "hi"}, {"role": "system", "content": "B"}])
    assert conversation.system == [text("A"), text("A")]
    assert [message["role"] for message in conversation.messages] == ["user", "system"]
    example = asked([{"role": "system", "name": "example_user", "content": "A"}])
    assert example.messages == [{"role": "system", "parts": [text("A")], "name": "example_user"}]


NOT_IMPLEMENTED = {"lc": 1, "type": "not_implemented", "id": ["app", "City"], "repr": "City(city='Zürich')"}


@pytest.mark.parametrize("parsed", [ZURICH, {**ZURICH, "zip": None}, NOT_IMPLEMENTED, "City(city='Zürich')"])
@pytest.mark.parametrize("content_parts", [json.dumps(ZURICH), [{"type": "text", "text": json.dumps(ZURICH)}]])
def test_text_that_was_read_already(parsed: object, content_parts: object) -> None:
    """OpenAI's SDK puts the object that it reads beside the text, and the model would have said it twice."""
    payload = {"role": "assistant", "parts": [text(json.dumps(ZURICH))]}
    for message in (
        {"role": "assistant", "content": content_parts, "parsed": parsed},
        {"role": "assistant", "content": content_parts, "additional_kwargs": {"parsed": parsed}},
        {"role": "assistant", "content": [{"type": "output_text", "text": json.dumps(ZURICH), "parsed": parsed}]},
    ):
        assert answered(message).messages == [payload]
    asking = {"name": "f", "arguments": json.dumps(ZURICH), "parsed_arguments": parsed}
    calls = [{"id": "c1", "type": "function", "function": asking}]
    assert answered({"role": "assistant", "tool_calls": calls}).messages[0]["parts"] == [call("c1", "f", ZURICH)]


@pytest.mark.parametrize("content_parts", ["hi", '{"city":"Bern"}', "", None])
def test_what_says_something_else_than_the_text(content_parts: object) -> None:
    """What only has the name of a copy would be lost."""
    [message] = answered({"role": "assistant", "content": content_parts, "parsed": ZURICH}).messages
    assert {"type": "parsed", "content": ZURICH} in message["parts"]


def test_output_keeps_its_order() -> None:
    """An output has no place for instructions: what a whole state answers would lose its first turn."""
    assert answered([{"role": "system", "content": "A"}]).messages == [{"role": "system", "parts": [text("A")]}]


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        *(("human", "user"), ("ai", "assistant"), ("model", "assistant"), ("function", "tool"), ("User", "user")),
        *(("critic", "critic"), ("tool", "tool")),
    ],
)
def test_roles(role: str, expected: str) -> None:
    """Roles that only one framework knows would hide who spoke, and roles of agents would be renamed."""
    assert asked([{"role": role, "content": "x", "name": "n"}]).messages[0]["role"] == expected


def test_thought_with_a_role_of_its_own() -> None:
    """Old OpenLLMetry gives the thought its own role, which readers would take for a stranger speaking."""
    conversation = answered(
        [
            {"finish_reason": "end_turn", "role": "thinking", "content": "hm"},
            {"role": "assistant", "content": "ok"},
        ]
    )
    assert conversation.messages == [
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}], "finish_reason": "end_turn"},
        {"role": "assistant", "parts": [text("ok")]},
    ]


def test_state_beside_messages_is_kept() -> None:
    """Documents of an agent's state would be dropped, or settings would be sent as if they had been said."""
    conversation = asked(
        {"messages": [{"role": "user", "content": "hi"}], "documents": ["See"], "temperature": 0.2, "user": "u", "k": 3}
    )
    assert conversation.messages == [{"role": "user", "parts": [text("hi"), {"type": "documents", "content": ["See"]}]}]


@pytest.mark.parametrize(
    "value",
    [
        *({}, [], [1], ["a", "b"], {"city": "Zürich"}, {"input": "question"}, {"text": "x"}, [[], []]),
        *([{"content": "hi", "x": 1}, 5], {"messages": [{"role": "admin", "email": "x"}, {"x": 1}]}),
        *([{"role": "admin", "email": "x"}], {"role": 5, "content": "x"}, {"messages": []}, {"choices": [{}]}),
        *({"prompt": "hi", "answer": "ho"}, {"messages": "hi"}, {"generations": [[{"x": 1}]]}, {"contents": [{}]}),
        *([[{"role": "user", "content": "a"}], [{"role": "user", "content": "b"}]], {"output": "x"}, {"message": "x"}),
    ],
)
def test_anything_else_stays_whole(value: object) -> None:
    """Half-understood data would lose the other half; it has to stay exactly as it came."""
    raw = json.dumps(value, indent=1)
    for read, role in ((read_input, "user"), (read_output, "assistant")):
        conversation = read(raw)
        assert conversation is not None
        assert not conversation.recognised
        assert conversation.messages == [{"role": role, "parts": [text(raw)]}]
        assert (conversation.system, conversation.tools, conversation.finish_reasons) == ([], None, [])


@pytest.mark.parametrize("raw", ['[{"role": "user", "content": "cut he', "[INST] hi", "{'role': 'user'}", "[" * 5000])
def test_text_that_only_looks_like_json(raw: str) -> None:
    """A cut or foreign text would raise instead of going out as it is."""
    conversation = read_input(raw)
    assert conversation == Conversation([{"role": "user", "parts": [text(raw)]}], [], None, [], recognised=False)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"type": "brand_new", "x": "y"}, {"role": "user", "parts": [{"type": "brand_new", "x": "y"}]}),
        ({"type": "brand_new_output", "x": 1}, {"role": "tool", "parts": [{"type": "brand_new_output", "x": 1}]}),
        ({"type": "text", "text": "loose"}, {"role": "user", "parts": [text("loose")]}),
        ({"role": "note", "body": "b"}, {"role": "note", "parts": [{"type": "body", "content": "b"}]}),
        ({"x": 1}, {"role": "user", "parts": [text('{"x":1}')]}),
        ("loose", {"role": "user", "parts": [text("loose")]}),
        (5, {"role": "user", "parts": [text("5")]}),
        ([{"role": "assistant", "content": "nested"}], {"role": "assistant", "parts": [text("nested")]}),
    ],
)
def test_one_unknown_element_spoils_no_list(odd: object, message: dict[str, Any]) -> None:
    """Roles, the system prompt and calls of a whole conversation would be lost by one element that is new."""
    system, payload = {"role": "system", "content": "S"}, {"role": "assistant", "content": "ho"}
    conversation = asked([system, odd, None, payload])
    assert conversation.system == [text("S")]
    assert conversation.messages == [message, {"role": "assistant", "parts": [text("ho")]}]


@pytest.mark.parametrize(
    "value",
    [
        [{"type": "phone_call", "to": "x"}, {"type": "visit", "to": "y"}],  # ends like an item of the Responses API
        [{"type": "text", "label": "Name"}, {"type": "select", "label": "Kind"}],  # fields of a form
        [{"name": "w", "parameters": {}}, {"name": "v", "parameters": {}}],  # definitions
        {"agent": {"role": "Researcher", "goal": "g", "reasoning": False}},  # CrewAI's agent
        [{"text": "a"}, {"text": "b"}],  # what a model may well be asked for
        {"result": {"answer": 42}},
    ],
)
def test_data_is_no_conversation(value: object) -> None:
    """Data that only looks a little like messages would be given roles that nobody had."""
    for read in (read_input, read_output):
        conversation = read(json.dumps(value))
        assert conversation is not None
        assert not conversation.recognised


def test_a_list_that_a_model_was_asked_for_stays_its_answer() -> None:
    """An answer that is JSON itself would be taken for blocks of a framework."""
    payload = '[{"text": "a"}]'
    assert answered({"role": "assistant", "content": payload}).messages[0]["parts"] == [text(payload)]
    assert asked([{"role": "tool", "content": payload}]).messages[0]["parts"][0]["response"] == payload


def test_tools_that_only_the_answer_shows() -> None:
    """Definitions that a response repeats would be lost where the request has none."""
    tool = {"type": "function", "name": "w"}
    assert answered(
        {"object": "response", "output": [{"type": "reasoning", "summary": []}], "tools": [tool]}
    ).tools == [tool]
