"""GenAI attributes from Langfuse's fields: one language for Kelet, whatever made the span."""

from typing import Any

import pytest

from sync_worker.json_text import dump, parse
from sync_worker.records import Observation
from sync_worker.spans.genai import genai_attributes
from sync_worker.spans.span_model import Attributes, AttributeValue
from tests.spans.made import T0, generation, held

SYSTEM, ASKED, ANSWERED = "gen_ai.system_instructions", "gen_ai.input.messages", "gen_ai.output.messages"
INSTRUCTED_WITH_TOOLS = (
    '{"messages":[{"role":"system","content":"be kind"},{"role":"user","parts":[{"type":"text","content":"hi"}]}],'
    '"tools":[{"name":"f"}]}'
)
TOOLS, REASONS = "gen_ai.tool.definitions", "gen_ai.response.finish_reasons"
GUESSED = "kelet.source.langfuse.guessed"


def derived(row: Observation, agent: str | None = None, **originals: AttributeValue) -> Attributes:
    return genai_attributes(row, {key.replace("__", "."): value for key, value in originals.items()}, agent)


@pytest.mark.parametrize(
    ("type", "operation"),
    [("GENERATION", "chat"), ("EMBEDDING", "embeddings"), ("AGENT", "invoke_agent"), ("TOOL", "execute_tool"),
     ("RETRIEVER", "retrieval"), ("SPAN", None), ("CHAIN", None), ("EVENT", None), ("EVALUATOR", None),
     ("GUARDRAIL", None), ("NEW", None)],
)  # fmt: skip
def test_operation(type: str, operation: str | None) -> None:  # noqa: A002
    """Kelet reads what a span is from its operation; an invented one would put steps among the model calls."""
    assert derived(generation(type=type)).get("gen_ai.operation.name") == operation


def test_generation() -> None:
    """The names behind Kelet's dashboards: one that is missing leaves a chart empty."""
    made = generation(
        model="gpt-4o-2024", input='[{"role":"system","content":"be kind"},{"role":"user","content":"hi"}]',
        usage={"input": 9, "output": 3, "total": 12}, completion_start_ms=T0 + 250,
    )  # fmt: skip
    assert derived(made, "boss") == {
        "gen_ai.operation.name": "chat",
        "gen_ai.agent.name": "boss",
        "gen_ai.provider.name": "openai",
        "gen_ai.system": "openai",
        "gen_ai.request.model": "gpt-4o-2024",
        "gen_ai.response.model": "gpt-4o-2024",
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]',
        "gen_ai.system_instructions": '[{"type":"text","content":"be kind"}]',
        "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"ho"}]}]',
        GUESSED: ["gen_ai.provider.name", "gen_ai.system"],
    }


def test_first_chunk_before_the_start() -> None:
    """Clocks: a negative waiting time would spoil every average."""
    assert derived(generation(completion_start_ms=T0 - 5))["gen_ai.response.time_to_first_chunk"] == 0.0


@pytest.mark.parametrize(
    ("model", "provider"),
    [("gpt-4o", "openai"), ("us.anthropic.claude-x", "aws.bedrock"), ("my-own-model", None), (None, None)],
)
def test_guessed_provider(model: str | None, provider: str | None) -> None:
    """A guess helps the dashboards, and must be known for one."""
    found = derived(generation(model=model))
    assert found.get("gen_ai.provider.name") == found.get("gen_ai.system") == provider
    assert found.get(GUESSED) == (None if provider is None else ["gen_ai.provider.name", "gen_ai.system"])


@pytest.mark.parametrize(
    ("originals", "parameters", "expected"),
    [
        ({"gen_ai__provider__name": "azure.ai.openai"}, {}, {"gen_ai.system": "azure.ai.openai"}),
        ({"gen_ai__system": "az"}, {}, {"gen_ai.provider.name": "az"}),
        ({"gen_ai__system": "az", "gen_ai__provider__name": "b"}, {}, {}),
        ({}, {"system": "groq"}, {"gen_ai.provider.name": "groq", "gen_ai.system": "groq"}),
        ({"gen_ai__system": "az"}, {"system": "groq"}, {"gen_ai.provider.name": "az"}),
        ({"gen_ai__system": "az.ai.openai"}, {}, {"gen_ai.provider.name": "azure.ai.openai"}),
        ({"gen_ai__system": "vertex_ai"}, {}, {"gen_ai.provider.name": "gcp.vertex_ai"}),
        (
            {"llm__provider": "aws", "llm__system": "anthropic"},
            {},
            {"gen_ai.provider.name": "aws.bedrock", "gen_ai.system": "aws.bedrock"},
        ),
        ({"ai__model__provider": "xai.chat"}, {}, {"gen_ai.provider.name": "x_ai", "gen_ai.system": "x_ai"}),
    ],
)
def test_named_provider(originals: dict[str, str], parameters: dict[str, Any], expected: dict[str, str]) -> None:
    """What the row says is no guess, and wins over one; it is told in the conventions' words."""
    found = derived(generation(model_parameters=parameters), None, **originals)
    assert held(found, "gen_ai.provider.name", "gen_ai.system", GUESSED) == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"temperature": "0.2"}, {"temperature": 0.2}),
        ({"temperature": 1}, {"temperature": 1.0}),
        ({"temperature": True}, {}),
        ({"temperature": "hot"}, {}),
        ({"topP": 0.9, "topK": "40"}, {"top_p": 0.9, "top_k": 40}),
        ({"max_tokens": "256"}, {"max_tokens": 256}),
        ({"max_completion_tokens": 99}, {"max_tokens": 99}),
        ({"max_tokens": None, "maxOutputTokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 2.5}, {}),
        ({"max_tokens": 1e300}, {}),
        ({"max_tokens": "inf"}, {}),
        ({"seed": 10**400}, {}),
        ({"frequency_penalty": 0, "presencePenalty": "0.5"}, {"frequency_penalty": 0.0, "presence_penalty": 0.5}),
        ({"seed": 7}, {"seed": 7}),
        ({"stop": '["\\n","END"]'}, {"stop_sequences": ["\n", "END"]}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["a"]}, {"stop_sequences": ["a"]}),
        ({"stop": []}, {}),
        ({"stop": [1]}, {}),
        ({"stop": "7"}, {"stop_sequences": ["7"]}),
        ({"n": 2}, {"choice.count": 2}),
        ({"stream": "true"}, {"stream": True}),
        ({"stream": False}, {"stream": False}),
        ({"stream": "maybe"}, {}),
        ({"top_k": 40.0}, {"top_k": 40}),
        ({"top_k": "2.5"}, {}),
        ({"k": 5, "p": "0.75"}, {"top_p": 0.75, "top_k": 5}),
        ({"max_new_tokens": 9}, {"max_tokens": 9}),
        ({"encoding_format": "base64"}, {"encoding_formats": ["base64"]}),
        ({"temperature": "{}", "max_tokens": "{}", "stop": "{}", "seed": "{}", "stream": "{}", "n": "{}"}, {}),
        ({"temperature": {}, "max_tokens": {}, "stop": {}, "top_p": None}, {}),
        ({"stop": "NOT_GIVEN", "top_k": "null"}, {}),
        ({"stop": "<openai.Omit object at 0x7f2a5c0d>", "encoding_format": "<openai.NotGiven object at 0x1>"}, {}),
        ({"stop": "", "encoding_format": "[]"}, {}),
        ({"max_tokens": "{}", "max_completion_tokens": 7}, {"max_tokens": 7}),
    ],
)
def test_parameters(parameters: dict[str, Any], expected: dict[str, Any]) -> None:
    """Langfuse turns parameters to text: an attribute of the wrong type is refused or not found."""
    found = {
        key.removeprefix("gen_ai.request."): value
        for key, value in derived(generation(model=None, model_parameters=parameters)).items()
        if key.startswith("gen_ai.request.")
    }
    assert found == expected
    assert [type(value) for value in found.values()] == [type(value) for value in expected.values()]


def test_provider_in_metadata() -> None:
    """LangChain's callback and LiteLLM's say who served a model whose id does not."""
    for key, name, expected in (("ls_provider", "amazon_bedrock", "aws.bedrock"), ("custom_llm_provider", "x", "x")):
        found = derived(generation(model="mine", metadata={key: name}))
        assert held(found, "gen_ai.provider.name", GUESSED) == {"gen_ai.provider.name": expected}
    found = derived(generation(model="gpt-4o", model_parameters={"system": "{}"}, metadata={"ls_provider": None}))
    assert found["gen_ai.provider.name"] == "openai"


def test_endlessly_nested_parameter() -> None:
    """A text of a hundred thousand brackets must not take its row with it."""
    found = derived(generation(model_parameters={"stop": "[" * 100_000}))
    assert found["gen_ai.request.stop_sequences"] == ["[" * 100_000]


def test_usage_of_the_instrumentation_stays_alone() -> None:
    """Two sources for one count would be mixed into a sum that neither of them made."""
    found = derived(generation(usage={"input": 9, "output": 3}), None, gen_ai__usage__input_tokens=8)
    assert not [key for key in found if key.startswith("gen_ai.usage.")]


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        ({"input_tokens": 9, "cache_creation.input_tokens": 5}, {"cache_write.input_tokens": 5}),
        ({"input_tokens": 9, "cache_write.input_tokens": 5}, {"cache_creation.input_tokens": 5}),
        ({"input_tokens": 9, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 7},
         {"cache_write.input_tokens": 5, "cache_creation.input_tokens": 5, "cache_read.input_tokens": 7}),
        ({"cost": 0.5, "total_tokens": 1}, {"input_tokens": 1}),
        ({"cache_write.input_tokens": 5}, {"cache_creation.input_tokens": 5, "input_tokens": 1}),
        ({"prompt_tokens": 9, "completion_tokens": 3}, {"input_tokens": 9, "output_tokens": 3}),
        ({"prompt_tokens": 9, "input_tokens": 8}, {}),
        ({"input_tokens": 9, "cache_write.input_tokens": "x"}, {}),
    ],
)  # fmt: skip
def test_usage_of_the_instrumentation_by_its_other_names(
    original: dict[str, AttributeValue], expected: dict[str, int]
) -> None:
    """Who reads the one name of a count does not find it under the other."""
    written = {f"gen_ai.usage.{key}": value for key, value in original.items()}
    found = genai_attributes(generation(usage={"input": 1}), written, None)
    assert {key: value for key, value in found.items() if key.startswith("gen_ai.usage.")} == {
        f"gen_ai.usage.{key}": value for key, value in expected.items()
    }


def test_guessed_usage() -> None:
    """A count that may hold cached tokens or not must be known for a guess."""
    usage = {"input": 100, "cache_read_input_tokens": 60, "output": 20, "total": 180}
    assert derived(generation(model=None, usage=usage))[GUESSED] == ["gen_ai.usage.input_tokens"]


@pytest.mark.parametrize("type", ["AGENT", "SPAN", "CHAIN", "TOOL"])
def test_no_usage_above_the_calls(type: str) -> None:  # noqa: A002
    """A parent's usage holds its children's tokens: they would be counted twice."""
    found = derived(generation(type=type, usage={"input": 9, "output": 3}))
    assert not [key for key in found if key.startswith(("gen_ai.usage.", "gen_ai.request.", "gen_ai.provider"))]


def test_tool() -> None:
    """A tool call is judged by its arguments and result."""
    made = generation(type="TOOL", name="search", input='{"q":1}', output="found", metadata={"tool_call_id": "call_1"})
    assert derived(made) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
        "gen_ai.tool.call.id": "call_1",
        "gen_ai.tool.call.arguments": '{"q":1}',
        "gen_ai.tool.call.result": "found",
    }
    assert derived(generation(type="TOOL", name=None, input=None, output=None, metadata={"tool_call_id": 7})) == {
        "gen_ai.operation.name": "execute_tool"
    }


def test_retriever() -> None:
    """The query is what a retrieval is judged by."""
    found = derived(generation(type="RETRIEVER", input="shoes"))
    assert found == {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.query.text": "shoes"}


def test_prompt() -> None:
    """Answers are compared by the prompt that they were made with; the conventions have its version as text."""
    found = derived(generation(prompt_name="greeting", prompt_version=3))
    assert held(found, "gen_ai.prompt.name", "gen_ai.prompt.version") == {
        "gen_ai.prompt.name": "greeting",
        "gen_ai.prompt.version": "3",
    }
    assert "gen_ai.prompt.version" not in derived(generation(prompt_name="greeting"))
    assert "gen_ai.prompt.name" not in derived(generation(prompt_name="a"), None, gen_ai__prompt__name="b")


def test_dimensions_of_an_embedding() -> None:
    """Embeddings of other sizes cannot be compared."""
    found = derived(generation(type="EMBEDDING", model_parameters={"dimensions": "512"}))
    assert found["gen_ai.embeddings.dimension.count"] == 512


def test_embedding() -> None:
    """Embedded text is no conversation."""
    found = derived(generation(type="EMBEDDING", usage={"input": 9}))
    assert held(found, "gen_ai.usage.input_tokens", ASKED, ANSWERED) == {"gen_ai.usage.input_tokens": 9}


def test_agent_without_messages() -> None:
    """An agent's input may be any object: as a chat message it would be noise."""
    assert not held(derived(generation(type="AGENT", input='{"odd":1}', output='{"odd":2}')), ASKED, ANSWERED)
    assert list(held(derived(generation(type="AGENT", input="hi", output="ho")), ASKED, ANSWERED)) == [ASKED, ANSWERED]


def test_no_prompts() -> None:
    """Langfuse writes an empty object where a span has answers but no prompts: no user said that."""
    found = derived(generation(input="{}", output="ho"))
    assert list(held(found, SYSTEM, ASKED, ANSWERED)) == [ANSWERED]


@pytest.mark.parametrize("text", [
    '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]',
    '[{"role": "system", "parts": [{"type": "text", "content": "be \\u00fc"}]}, {"role": "user", "parts": []}]',
    '[{"role":"assistant","parts":[{"type":"tool_call","id":"1","name":"f","arguments":"{\\"a\\": 1}"}]}]',
    '[{"role":"tool","parts":[{"type":"tool_call_response","id":"1","result":"x"}],"name":"f"}]',
    '[{"role":"user","\\u0070arts":[{"type":"text","content":"hi"}]}]',
])  # fmt: skip
def test_genai_messages_stay_as_written(text: str) -> None:
    """A direct export has this very text: taken apart and written anew, arguments and spaces come out otherwise."""
    found = derived(generation(input=text, output=text))
    assert held(found, SYSTEM, ASKED, ANSWERED) == {ASKED: text, ANSWERED: text}


@pytest.mark.parametrize(
    "text",
    [
        '[{"role":"system","content":"be kind"},{"role":"user","parts":[{"type":"text","content":"hi"}]}]',
        INSTRUCTED_WITH_TOOLS,
    ],
)
def test_what_langfuse_put_beside_genai_messages(text: str) -> None:
    """Langfuse puts instructions before the messages and tools beside them: each goes back to its own attribute."""
    found = derived(generation(input=text))
    assert held(found, SYSTEM, ASKED) == {
        SYSTEM: '[{"type":"text","content":"be kind"}]',
        ASKED: '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]',
    }
    assert found.get("gen_ai.tool.definitions") == ('[{"name":"f"}]' if "tools" in text else None)


@pytest.mark.parametrize(
    "text",
    [
        '[{"role":"user","parts":[{"text":"hi"}]}]',
        '[{"role":"user","parts":[{"type":"text","text":"hi"}]}]',
        '[{"role":"user","parts":[{"type":["text"],"content":"hi"}]}]',
        '[{"role":"user","parts":["hi"]}]',
        '[{"role":"user","content":"hi"}]',
        '[{"role":"user","content":"first"},{"role":"user","parts":[{"type":"text","content":"hi"}]}]',
        '[{"role":"system","content":"hi"}]',
        "[]",
        "[1]",
        "[",
    ],
)
def test_other_parts_are_not_genais(text: str) -> None:
    """Gemini and Vercel have parts too: passed on unread, Kelet would find no text in them."""
    found = derived(generation(input=text, output=text))
    assert found.get(ASKED) != text
    if "first" in text:
        assert "first" in str(found[ASKED])
    assert found.get(ANSWERED) != text


def test_original_messages_win() -> None:
    """What the instrumentation wrote is the truth."""
    body = '{"messages":[{"role":"system","content":"x"},{"role":"user","content":"y"}],"tools":[{"name":"f"}]}'
    reason = '{"choices":[{"finish_reason":"length","message":{"role":"assistant","content":"x"}}]}'
    made = generation(input=body, output=reason)
    assert len(held(derived(made), SYSTEM, ASKED, ANSWERED, TOOLS, REASONS)) == 5
    found = derived(made, None, gen_ai__input__messages="[]", gen_ai__output__messages="[]")
    assert not held(found, SYSTEM, ASKED, ANSWERED, TOOLS, REASONS)


def test_guess_that_is_not_needed() -> None:
    """Keys that are not sent must not be said to be guessed."""
    assert GUESSED not in derived(generation(), None, gen_ai__provider__name="x", gen_ai__system="x")


def test_finish_reasons() -> None:
    """Why an answer ended: cut-off answers are found by it."""
    body = '{"choices":[{"finish_reason":"length","message":{"role":"assistant","content":"x"}}]}'
    assert derived(generation(output=body))["gen_ai.response.finish_reasons"] == ["length"]


def test_tools_of_the_answer() -> None:
    """OpenAI's Responses API repeats the tools in its answer; where the input has none they would be lost."""
    output = '{"output":[{"type":"message","role":"assistant","content":"ho"}],"tools":[{"name":"f"}]}'
    assert held(derived(generation(output=output)), TOOLS, ANSWERED) == {
        TOOLS: '[{"name":"f"}]',
        ANSWERED: '[{"role":"assistant","parts":[{"type":"text","content":"ho"}]}]',
    }
    given = derived(generation(input='{"messages":[{"role":"user","content":"hi"}],"tools":[1]}', output=output))
    assert given[TOOLS] == "[1]"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('{"model":"m","input":"hi","instructions":"be kind"}', ["be kind"]),
        ('{"model":"m","input":"hi"}', ["be kind"]),
        ('[{"role":"system","content":"be short"},{"role":"user","content":"hi"}]', ["be kind", "be short"]),
        (None, ["be kind"]),
    ],
)
def test_instructions_of_the_answer(given: str | None, expected: list[str]) -> None:
    """OpenAI's Responses API repeats its instructions in the answer: the model would seem to have given them."""
    output = '{"instructions":"be kind","output":[{"type":"message","role":"assistant","content":"ho"}]}'
    found = derived(generation(input=given, output=output))
    assert found[ANSWERED] == '[{"role":"assistant","parts":[{"type":"text","content":"ho"}]}]'
    assert [part["content"] for part in parse(str(found[SYSTEM]))[1]] == expected


@pytest.mark.parametrize("reason", [None, 5, {"why": "stop"}])
def test_messages_that_break_the_conventions_are_not_passed_on(reason: object) -> None:
    """A finish reason that is no text is refused by readers that go by the conventions' schema."""
    written = dump([{"role": "assistant", "parts": [{"type": "text", "content": "ho"}], "finish_reason": reason}])
    found = parse(str(derived(generation(output=written))[ANSWERED]))[1]
    assert "finish_reason" not in found[0]
