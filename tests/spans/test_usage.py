"""Token counts: each token once, whoever counted."""

import pytest

from sync_worker.spans.usage import token_counts

IN, OUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
READ, CREATED = "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_creation.input_tokens"
REASONED = "gen_ai.usage.reasoning.output_tokens"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param(
            {"input": 56, "input_cached_tokens": 64, "output": 18, "output_reasoning_tokens": 16, "total": 154},
            {IN: 120, OUT: 34, READ: 64, REASONED: 16},
            id="Langfuse ingestion splits them",
        ),
        pytest.param(
            {"input": 0, "input_cached_tokens": 64, "output": 18, "total": 82},
            {IN: 64, OUT: 18, READ: 64},
            id="Langfuse ingestion, all cached",
        ),
        pytest.param(
            {"input": 10, "input_cache_creation_5m": 4, "input_cache_creation_1h": 6, "input_cache_read": 100,
             "output": 5},
            {IN: 120, OUT: 5, READ: 100, CREATED: 10},
            id="Langfuse ingestion of Anthropic",
        ),
        pytest.param(
            {"input_tokens": 10, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 100, "output_tokens": 20},
            {IN: 115, OUT: 20, READ: 100, CREATED: 5},
            id="Anthropic raw: input without cache",
        ),
        pytest.param(
            {"input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 20},
            {IN: 10, OUT: 20, READ: 0, CREATED: 0},
            id="Anthropic raw, nothing cached",
        ),
        pytest.param(
            {"prompt_tokens": 120, "completion_tokens": 34, "total_tokens": 154,
             "prompt_tokens_details.cached_tokens": 64, "completion_tokens_details.reasoning_tokens": 16},
            {IN: 120, OUT: 34, READ: 64, REASONED: 16},
            id="OpenAI chat raw: prompt includes cache",
        ),
        pytest.param(
            {"input_tokens": 120, "output_tokens": 34, "total_tokens": 154, "input_tokens_details.cached_tokens": 64,
             "output_tokens_details.reasoning_tokens": 16},
            {IN: 120, OUT: 34, READ: 64, REASONED: 16},
            id="OpenAI responses raw",
        ),
        pytest.param(
            {"input_tokens": 120, "output_tokens": 34, "input_tokens_details.cached_tokens": 64},
            {IN: 120, OUT: 34, READ: 64},
            id="OpenAI responses raw, no total",
        ),
        pytest.param(
            {"prompt_tokens": 120, "completion_tokens": 34, "total_tokens": 154, "cache_read_input_tokens": 64,
             "cache_creation_input_tokens": 8},
            {IN: 120, OUT: 34, READ: 64, CREATED: 8},
            id="LiteLLM",
        ),
        pytest.param(
            {"prompt_tokens": 120, "completion_tokens": 34, "cache_read_input_tokens": 64},
            {IN: 120, OUT: 34, READ: 64},
            id="LiteLLM, no total",
        ),
        pytest.param({"promptTokens": 9, "completionTokens": 3, "totalTokens": 12}, {IN: 9, OUT: 3}, id="Vercel"),
        pytest.param({"total": 12}, {}, id="only a total"),
        pytest.param({"input": 9, "total": 9}, {IN: 9}, id="embedding"),
        pytest.param(
            {"input": 100, "cache_read_input_tokens": 60, "output": 20, "total": 120},
            {IN: 100, OUT: 20, READ: 60},
            id="SDK user: input includes cache, as the total shows",
        ),
        pytest.param(
            {"input": 40, "cache_read_input_tokens": 60, "output": 20, "total": 120},
            {IN: 100, OUT: 20, READ: 60},
            id="SDK user: input without cache, as the total shows",
        ),
        pytest.param({"input": 1.0, "output": 2.9}, {IN: 1, OUT: 2}, id="floats"),
        pytest.param({"input": float("inf"), "output": 1e300}, {}, id="no counts at all"),
        pytest.param({"input": 3, "output": float("nan")}, {IN: 3}, id="not a number"),
        pytest.param({"seconds": 3.5, "images": 2}, {}, id="other units"),
    ],
)  # fmt: skip
def test_counts(usage: dict[str, float], expected: dict[str, int]) -> None:
    """Kelet's cost and token charts are built on these: cached tokens counted twice are money that nobody spent."""
    counts = token_counts(usage)
    assert counts == expected
    assert all(type(count) is int for count in counts.values())
