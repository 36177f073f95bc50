"""Token counts: each token once, whoever counted."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_worker.spans.usage import count_tokens, usage_attributes

IN, OUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
READ, REASONED = "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.reasoning.output_tokens"
CREATED, WRITTEN = "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens"


def counts(usage: Mapping[str, float]) -> dict[str, int]:
    """Return the counts of a usage, modalities aside, and cache writes, which go out under two names, once."""
    found = dict(count_tokens(usage).attributes)
    assert found.pop(WRITTEN, None) == found.get(CREATED)
    return {key: value for key, value in found.items() if key in {IN, OUT, READ, CREATED, REASONED}}


OPENAI = {"prompt_tokens": 120, "completion_tokens": 34, "prompt_tokens_details.cached_tokens": 64,
          "completion_tokens_details.reasoning_tokens": 16}  # fmt: skip
OPENAI_COUNTS = {IN: 120, OUT: 34, READ: 64, REASONED: 16}
ANTHROPIC = {"input_tokens": 10, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 100, "output_tokens": 20}
ANTHROPIC_COUNTS = {IN: 115, OUT: 20, READ: 100, CREATED: 5}
BEDROCK = {"inputTokens": 10, "outputTokens": 5, "cacheReadInputTokens": 1000, "cacheWriteInputTokens": 200}
BEDROCK_COUNTS = {IN: 1210, OUT: 5, READ: 1000, CREATED: 200}
GEMINI = {"promptTokenCount": 1000, "candidatesTokenCount": 50, "thoughtsTokenCount": 200,
          "cachedContentTokenCount": 800}  # fmt: skip
GEMINI_COUNTS = {IN: 1000, OUT: 250, READ: 800, REASONED: 200}
VERCEL_5 = {"inputTokens": 100, "outputTokens": 30, "totalTokens": 130, "reasoningTokens": 10, "cachedInputTokens": 60}
VERCEL_5_COUNTS = {IN: 100, OUT: 30, READ: 60, REASONED: 10}
VERCEL_6 = VERCEL_5 | {"inputTokenDetails.noCacheTokens": 38, "inputTokenDetails.cacheReadTokens": 60,
                       "inputTokenDetails.cacheWriteTokens": 2, "outputTokenDetails.textTokens": 20,
                       "outputTokenDetails.reasoningTokens": 10}  # fmt: skip


CASES: dict[str, tuple[Mapping[str, float], dict[str, int]]] = {
    "nothing": ({}, {}),
    # Langfuse
    "Langfuse's ingestion splits them": (
        {"input": 56, "input_cached_tokens": 64, "output": 18, "output_reasoning_tokens": 16, "total": 154},
        {IN: 120, OUT: 34, READ: 64, REASONED: 16}),
    "Langfuse's ingestion, all cached": (
        {"input": 0, "input_cached_tokens": 64, "output": 18, "total": 82}, {IN: 64, OUT: 18, READ: 64}),
    "Langfuse's ingestion, nothing but cached": (
        {"input_cached_tokens": 64, "output": 18}, {IN: 64, OUT: 18, READ: 64}),
    "Langfuse's ingestion of Anthropic": (
        {"input": 10, "input_cache_creation_5m": 4, "input_cache_creation_1h": 6, "input_cache_read": 100, "output": 5},
        {IN: 120, OUT: 5, READ: 100, CREATED: 10}),
    "Langfuse's callback for LangChain, Anthropic": (
        {"input": 40, "input_cache_read": 60, "input_cache_creation": 0, "input_ephemeral_5m_input_tokens": 7,
         "output": 5, "total": 112},
        {IN: 107, OUT: 5, READ: 60, CREATED: 7}),
    "Langfuse's callback for LangChain, Vertex": (
        {"input": 0, "input_modality_TEXT": 120, "output": 0, "output_modality_TEXT": 30, "total": 150},
        {IN: 120, OUT: 30}),
    "Langfuse's ingestion of audio": (
        {"input": 50, "input_audio_tokens": 70, "output": 10, "output_audio_tokens": 5, "total": 135},
        {IN: 120, OUT: 15}),
    "a detail of another unit": ({"input": 50, "input_pages_read": 70, "output": 10, "total": 60}, {IN: 50, OUT: 10}),
    "a detail of a new name": ({"input": 50, "input_new_tokens": 70, "output": 10}, {IN: 120, OUT: 10}),
    # OpenAI
    "OpenAI chat": (OPENAI | {"total_tokens": 154}, OPENAI_COUNTS),
    "OpenAI chat, no total": (OPENAI, OPENAI_COUNTS),
    "OpenAI chat, the server's total": (OPENAI | {"total": 234}, OPENAI_COUNTS),
    "OpenAI chat, predictions and audio": (
        OPENAI | {"total_tokens": 154, "completion_tokens_details.accepted_prediction_tokens": 7,
                  "completion_tokens_details.audio_tokens": 3, "prompt_tokens_details.audio_tokens": 9},
        OPENAI_COUNTS),
    "OpenAI responses": (
        {"input_tokens": 120, "output_tokens": 34, "total_tokens": 154, "input_tokens_details.cached_tokens": 64,
         "output_tokens_details.reasoning_tokens": 16},
        OPENAI_COUNTS),
    "OpenAI responses, no total": (
        {"input_tokens": 120, "output_tokens": 34, "input_tokens_details.cached_tokens": 64},
        {IN: 120, OUT: 34, READ: 64}),
    "OpenAI realtime": (
        {"input_tokens": 100, "input_token_details.text_tokens": 60, "input_token_details.audio_tokens": 40,
         "input_token_details.cached_tokens": 30, "input_token_details.cached_tokens_details.text_tokens": 30,
         "output_tokens": 20, "total_tokens": 120},
        {IN: 100, OUT: 20, READ: 30}),
    "OpenAI's agents": ({"input_tokens": 566, "output_tokens": 451, "cached_input_tokens": 100},
                        {IN: 566, OUT: 451, READ: 100}),
    "DeepSeek": (
        {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "prompt_cache_hit_tokens": 60,
         "prompt_cache_miss_tokens": 40},
        {IN: 100, OUT: 20, READ: 60}),
    "xAI: reasoning beside, whatever the name says": (
        {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135,
         "completion_tokens_details.reasoning_tokens": 94},
        {IN: 32, OUT: 103, REASONED: 94}),
    "Groq": (
        {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "queue_time": 0.1, "prompt_time": 0.2,
         "completion_time": 0.3, "total_time": 0.5},
        {IN: 9, OUT: 3}),
    # Anthropic
    "Anthropic": (ANTHROPIC, ANTHROPIC_COUNTS),
    "Anthropic, the server's total": (ANTHROPIC | {"total": 135}, ANTHROPIC_COUNTS),
    "Anthropic, by how long it is kept": (
        ANTHROPIC | {"cache_creation.ephemeral_5m_input_tokens": 5, "cache_creation.ephemeral_1h_input_tokens": 0,
                     "server_tool_use.web_search_requests": 2},
        ANTHROPIC_COUNTS),
    "Anthropic, nothing cached": (
        {"input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 20},
        {IN: 10, OUT: 20, READ: 0, CREATED: 0}),
    "Anthropic, a total that leaves the cache out": (
        {"input_tokens": 10, "cache_read_input_tokens": 100, "output_tokens": 20, "total_tokens": 30},
        {IN: 110, OUT: 20, READ: 100}),
    # Bedrock
    "Bedrock": (BEDROCK | {"totalTokens": 1215}, BEDROCK_COUNTS),
    "Bedrock, both totals": (BEDROCK | {"totalTokens": 1215, "total": 2430}, BEDROCK_COUNTS),
    "Bedrock, no total": (BEDROCK, BEDROCK_COUNTS),
    "Bedrock's headers": ({"inputTokenCount": 5, "outputTokenCount": 7, "invocationLatency": 700}, {IN: 5, OUT: 7}),
    # Gemini
    "Gemini": (GEMINI | {"totalTokenCount": 1250}, GEMINI_COUNTS),
    "Gemini, no total": (GEMINI, GEMINI_COUNTS),
    "Gemini, the server's total": (GEMINI | {"total": 2050}, GEMINI_COUNTS),
    "Gemini with a tool's results": (
        {"promptTokenCount": 10, "candidatesTokenCount": 5, "thoughtsTokenCount": 7, "toolUsePromptTokenCount": 3,
         "totalTokenCount": 25, "total": 50},
        {IN: 13, OUT: 12, REASONED: 7}),
    "Gemini in Python": (
        {"prompt_token_count": 10, "candidates_token_count": 5, "thoughts_token_count": 7,
         "tool_use_prompt_token_count": 3, "cached_content_token_count": 2, "total_token_count": 25},
        {IN: 13, OUT: 12, READ: 2, REASONED: 7}),
    "Gemini, nothing but thoughts": (
        {"promptTokenCount": 10, "thoughtsTokenCount": 7, "totalTokenCount": 17}, {IN: 10, OUT: 7, REASONED: 7}),
    # Vercel
    "Vercel 3": ({"promptTokens": 9, "completionTokens": 3, "totalTokens": 12}, {IN: 9, OUT: 3}),
    "Vercel 5": (VERCEL_5, VERCEL_5_COUNTS),
    "Vercel 5, both totals": (VERCEL_5 | {"total": 330}, VERCEL_5_COUNTS),
    "Vercel 5, Anthropic": (
        {"inputTokens": 10, "outputTokens": 30, "totalTokens": 40, "cachedInputTokens": 1000},
        {IN: 1010, OUT: 30, READ: 1000}),
    "Vercel 5, Gemini": (
        {"inputTokens": 100, "outputTokens": 30, "totalTokens": 140, "reasoningTokens": 10},
        {IN: 100, OUT: 40, REASONED: 10}),
    "Vercel 6": (VERCEL_6, VERCEL_5_COUNTS | {CREATED: 2}),
    "Vercel 6, both totals": (VERCEL_6 | {"total": sum(VERCEL_6.values())}, VERCEL_5_COUNTS | {CREATED: 2}),
    "Vercel 7, as its providers tell": (
        {"inputTokens.total": 100, "inputTokens.noCache": 40, "inputTokens.cacheRead": 60, "inputTokens.cacheWrite": 0,
         "outputTokens.total": 30, "outputTokens.text": 20, "outputTokens.reasoning": 10, "total": 260},
        {IN: 100, OUT: 30, READ: 60, CREATED: 0, REASONED: 10}),
    # LiteLLM
    "LiteLLM": (
        {"prompt_tokens": 120, "completion_tokens": 34, "total_tokens": 154, "cache_read_input_tokens": 64,
         "cache_creation_input_tokens": 8},
        {IN: 120, OUT: 34, READ: 64, CREATED: 8}),
    "LiteLLM, no total": (
        {"prompt_tokens": 120, "completion_tokens": 34, "cache_read_input_tokens": 64}, {IN: 120, OUT: 34, READ: 64}),
    "LiteLLM, the server's total": (
        {"prompt_tokens": 120, "completion_tokens": 34, "cache_read_input_tokens": 64, "total": 218},
        {IN: 120, OUT: 34, READ: 64}),
    "LiteLLM's callback, writes in and reads out": (
        {"input": 8010, "output": 50, "cache_creation_input_tokens": 8000, "cache_read_input_tokens": 1000,
         "total": 9060},
        {IN: 9010, OUT: 50, READ: 1000, CREATED: 8000}),
    "LiteLLM's callback, reads out": (
        {"input": 86, "output": 50, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 17817,
         "total": 17953},
        {IN: 17903, OUT: 50, READ: 17817, CREATED: 0}),
    "a part of a detail inside": (
        {"input": 100, "output": 50, "cache_read_input_tokens": 90, "total": 190}, {IN: 140, OUT: 50, READ: 90}),
    "reasoning in part inside": (
        {"input": 100, "output": 50, "reasoning_tokens": 40, "total": 170}, {IN: 100, OUT: 70, REASONED: 40}),
    # others
    "Cohere, two copies": (
        {"billed_units.input_tokens": 10, "billed_units.output_tokens": 5, "billed_units.search_units": 1,
         "tokens.input_tokens": 80, "tokens.output_tokens": 6},
        {IN: 10, OUT: 5}),
    "Cohere in JavaScript": (
        {"billedUnits.inputTokens": 10, "billedUnits.outputTokens": 5, "tokens.inputTokens": 80,
         "tokens.outputTokens": 6, "total": 101},
        {IN: 10, OUT: 5}),
    "Cohere, as used alone": ({"tokens.input_tokens": 80, "tokens.output_tokens": 6}, {IN: 80, OUT: 6}),
    "Ollama": (
        {"prompt_eval_count": 26, "eval_count": 298, "total_duration": 5e9, "eval_duration": 4e9}, {IN: 26, OUT: 298}),
    "llama.cpp": ({"tokens_evaluated": 9, "tokens_predicted": 3}, {IN: 9, OUT: 3}),
    "watsonx": ({"input_token_count": 9, "generated_token_count": 3}, {IN: 9, OUT: 3}),
    "totals of a run": ({"total_input_tokens": 9, "total_output_tokens": 3}, {IN: 9, OUT: 3}),
    "LangChain": (
        {"input_tokens": 26, "output_tokens": 5, "input_token_details.cache_read": 20,
         "output_token_details.reasoning": 2, "total_tokens": 31},
        {IN: 26, OUT: 5, READ: 20, REASONED: 2}),
    "pydantic-ai": (
        {"requests": 1, "input_tokens": 9, "output_tokens": 3, "cache_read_tokens": 4, "cache_write_tokens": 2},
        {IN: 9, OUT: 3, READ: 4, CREATED: 2}),
    "a modality's count is in the whole": (
        {"input_tokens": 100, "output_tokens": 20, "text.input_tokens": 60, "audio.input_tokens": 40,
         "text.output_tokens": 20},
        {IN: 100, OUT: 20}),
    "modalities of Langfuse's names that are all there is": (
        {"input": 100, "output": 20, "input_text_tokens": 60, "input_image_tokens": 40, "total": 220},
        {IN: 100, OUT: 20}),
    "modalities of Langfuse's names, as the total shows": (
        {"input": 100, "output": 20, "input_audio_tokens": 40, "total": 120}, {IN: 100, OUT: 20}),
    "the conventions' names": (
        {"input_tokens": 100, "output_tokens": 20, "cache_read.input_tokens": 40, "cache_write.input_tokens": 5,
         "reasoning.output_tokens": 7},
        {IN: 100, OUT: 20, READ: 40, CREATED: 5, REASONED: 7}),
    "Gemini, live": ({"promptTokenCount": 9, "responseTokenCount": 3, "totalTokenCount": 12}, {IN: 9, OUT: 3}),
    "OpenRouter": (
        {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "cost": 0.01,
         "cost_details.upstream_inference_prompt_cost": 0.1, "prompt_tokens_details.cached_tokens": 4},
        {IN: 9, OUT: 3, READ: 4}),
    "Dify": ({"prompt_tokens": 9, "completion_tokens": 3, "prompt_unit_price": 1, "total_price": 5, "latency": 2.5},
             {IN: 9, OUT: 3}),
    "LlamaIndex": ({"prompt_llm_token_count": 9, "completion_llm_token_count": 3}, {IN: 9, OUT: 3}),
    "Bedrock's headers with a cache": (
        {"inputTokenCount": 5, "outputTokenCount": 7, "cacheReadInputTokenCount": 10}, {IN: 15, OUT: 7, READ: 10}),
    "OpenAI, an image made": (
        {"input_tokens": 50, "input_tokens_details.image_tokens": 40, "input_tokens_details.text_tokens": 10,
         "output_tokens": 500, "total_tokens": 550},
        {IN: 50, OUT: 500}),
    "modalities alone": ({"text.input_tokens": 60, "audio.input_tokens": 40}, {IN: 100}),
    # odd ones
    "only a total": ({"total": 12}, {}),
    "embedding": ({"input": 9, "total": 9}, {IN: 9}),
    "SDK user: input includes cache, as the total shows": (
        {"input": 100, "cache_read_input_tokens": 60, "output": 20, "total": 120}, {IN: 100, OUT: 20, READ: 60}),
    "SDK user: input without cache, as the total shows": (
        {"input": 40, "cache_read_input_tokens": 60, "output": 20, "total": 120}, {IN: 100, OUT: 20, READ: 60}),
    "SDK user: output includes reasoning, as the total shows": (
        {"input": 100, "output": 20, "output_reasoning_tokens": 10, "total": 120}, {IN: 100, OUT: 20, REASONED: 10}),
    "floats": ({"input": 1.0, "output": 2.9}, {IN: 1, OUT: 2}),
    "no counts at all": ({"input": float("inf"), "output": 1e300}, {}),
    "not a number": ({"input": 3, "output": float("nan")}, {IN: 3}),
    "other units": ({"seconds": 3.5, "images": 2, "input_cost": 0.5, "total_cost": 1.5, "characters": 9}, {}),
    "a negative count": ({"input": 10, "output": -1}, {IN: 10}),
    "a negative detail": ({"input": 10, "cache_read_input_tokens": -5, "output": 3}, {IN: 10, OUT: 3}),
    "more taken out than was in": (
        {"input": -50, "cache_read_input_tokens": 150, "output": 20, "total": 120}, {IN: 100, OUT: 20, READ: 150}),
    "copies": ({"input": 10, "prompt_tokens": 10, "promptTokens": 10, "output": 3, "completion_tokens": 3},
               {IN: 10, OUT: 3}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_counts(name: str) -> None:
    """Kelet's cost and token charts are built on these: cached tokens counted twice are money that nobody spent."""
    usage, expected = CASES[name]
    assert counts(usage) == expected
    assert all(type(count) is int for count in count_tokens(usage).attributes.values())


@pytest.mark.parametrize(
    ("usage", "guessed"),
    [
        ({"input": 9, "output": 3, "total": 12}, []),
        (ANTHROPIC | {"total": 135}, []),
        (OPENAI | {"total": 234}, []),
        ({"input": 100, "cache_read_input_tokens": 60, "output": 20, "total": 180}, [IN]),
        ({"input": 100, "cache_read_input_tokens": 60, "output": 20, "total": 120}, []),
        ({"input": 40, "cache_read_input_tokens": 60, "output": 20, "total": 120}, []),
        ({"input_tokens": 566, "output_tokens": 451, "cached_input_tokens": 100}, [IN]),
        ({"input": 9, "output": 20, "reasoning_tokens": 10}, [OUT]),
        ({"input": -50, "cache_read_input_tokens": 150, "output": 20, "total": 120}, [IN]),
    ],
)
def test_guessed(usage: dict[str, float], guessed: list[str]) -> None:
    """Whether details are in a count may not be told: what is taken for it must be known for a guess."""
    assert count_tokens(usage).guessed == guessed


def test_modalities() -> None:
    """The conventions have counts of text, images, audio and video apart."""
    usage = {"promptTokens": 100, "prompt_tokens_details.audio_tokens": 40, "prompt_tokens_details.image_tokens": 60,
             "completion_tokens": 20, "completion_tokens_details.audio_tokens": 5,
             "input_document_tokens": 3}  # fmt: skip
    assert count_tokens(usage).attributes == {
        IN: 100,
        OUT: 20,
        "gen_ai.usage.audio.input_tokens": 40,
        "gen_ai.usage.image.input_tokens": 60,
        "gen_ai.usage.audio.output_tokens": 5,
    }


@pytest.mark.parametrize(
    ("usage", "own", "details"),
    [
        pytest.param(
            {"reasoning_tokens": 16, "input": 62, "output": 34, "total": 160, "input_cached_tokens": 64},
            {IN: 126, OUT: 34, READ: 64, "gen_ai.usage.reasoning_tokens": 16},
            {READ: 64, REASONED: 16}, id="OpenLLMetry",
        ),
        pytest.param(
            {"input": 61, "output": 34, "input_cached_tokens": 64, "total": 159},
            {"gen_ai.usage.prompt_tokens": 125, "gen_ai.usage.completion_tokens": 34,
             "gen_ai.usage.cache_read_input_tokens": 64, "llm.usage.reasoning_tokens": 16},
            {IN: 125, OUT: 34, READ: 64, REASONED: 16}, id="OpenLLMetry up to 0.47",
        ),
        pytest.param(
            {"input": 88, "output": 29, "input_cached_tokens": 40, "input_cache_creation": 12, "total": 169},
            {IN: 140, OUT: 29, "gen_ai.usage.details.cache_write_tokens": 12,
             "gen_ai.usage.details.cache_creation_input_tokens": 12, "gen_ai.usage.details.cache_read_tokens": 40},
            {READ: 40, CREATED: 12, WRITTEN: 12}, id="Pydantic AI",
        ),
        pytest.param(
            {"input": 88, "output": 18, "input_cached_tokens": 40, "input_cache_creation": 0,
             "input_cache_creation_5m": 12, "output_reasoning_tokens": 11, "total": 169},
            {IN: 140, OUT: 29}, {READ: 40, CREATED: 12, WRITTEN: 12, REASONED: 11}, id="only Langfuse tells details",
        ),
        pytest.param(
            {}, {IN: 140, "ai.usage.inputTokenDetails.cacheReadTokens": 40, "ai.usage.reasoningTokens": 9,
                 "ai.usage.inputTokenDetails.noCacheTokens": 100, "ai.usage.cachedInputTokens": 40},
            {READ: 40, REASONED: 9}, id="Vercel AI SDK",
        ),
        pytest.param({"input": 9, "output": 3, "total": 12}, {"llm.usage.reasoning_tokens": 2},
                     {IN: 9, OUT: 3, REASONED: 2}, id="nothing but a detail"),
        pytest.param({"input": 9, "output": 3}, {IN: 9, OUT: 3, "gen_ai.usage.cost": 1, "gen_ai.usage.search": "x"}, {},
                     id="no tokens"),
    ],
)  # fmt: skip
def test_details_beside_counts_of_the_instrumentation(
    usage: dict[str, float], own: dict[str, Any], details: dict[str, int]
) -> None:
    """Whoever counts input and output itself has details in words of its own: cached tokens would cost the full price.

    The usage, in which they are taken out of the counts again, must not change what was counted.
    """
    found = usage_attributes(usage, own).attributes
    assert own | found == own | details


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"input": 0, "output": 0, "total": 18}, 18),
        ({"total": 18}, 18),
        ({"total_tokens": 18, "total": 18}, 18),
        ({"input": 9, "total": 9}, 9),
        ({"prompt_tokens": 9, "total_tokens": 9, "total": 18}, 9),
        ({}, None),
    ],
)
def test_embeddings(usage: dict[str, float], counted: int | None) -> None:
    """A vector is no token: an embedding of which only the total is told would be for nothing."""
    assert usage_attributes(usage, {}, is_embedding=True).attributes.get(IN) == counted
    if "prompt_tokens" not in usage and usage.get("input") != 9:
        assert not usage_attributes(usage, {}).attributes.get(IN)


KEYS = sorted({key for usage, _ in CASES.values() for key in usage})


@given(st.dictionaries(st.sampled_from(KEYS), st.integers(-5, 500) | st.floats(0, 9), max_size=12))
def test_whatever_is_counted(usage: dict[str, Any]) -> None:
    """A count is never negative, holds its details, and the same however its keys stand."""
    found = count_tokens(usage)
    assert all(value >= 0 for value in found.attributes.values())
    assert {*found.guessed} <= {IN, OUT} & found.attributes.keys()
    for whole, details in ((IN, (READ, CREATED)), (OUT, (REASONED,))):
        if whole in found.attributes and found.attributes[whole] and all(value >= 0 for value in usage.values()):
            assert found.attributes[whole] >= max(found.attributes.get(detail, 0) for detail in details) - 1


def test_many_keys() -> None:
    """A record of thousands of numbers is none of tokens, and must not take seconds."""
    assert count_tokens({"input": 5} | {f"input_{number}_tokens": 1 for number in range(100_000)}).attributes[IN] >= 5
