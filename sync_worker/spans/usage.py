"""Token counts: Langfuse's free-form `usageDetails` as GenAI counts, each token once.

GenAI's `input_tokens` includes cached tokens and its `output_tokens` includes reasoning. Langfuse's own ingestion
splits them (`input` + `input_cached_tokens`); SDK users write whatever their provider returned.
"""

from __future__ import annotations

from collections.abc import Mapping

_CACHE_READ = ("input_cached_tokens", "input_cache_read", "input_cache_read_tokens", "cache_read_input_tokens",
               "cached_tokens", "prompt_tokens_details.cached_tokens",
               "input_tokens_details.cached_tokens")  # fmt: skip
_CACHE_CREATION = ("cache_creation_input_tokens", "cache_write_input_tokens")
_REASONING = ("output_reasoning_tokens", "output_reasoning", "reasoning_tokens",
              "completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens")  # fmt: skip
_PLAIN_INPUT = ("input", "prompt_tokens", "input_tokens", "promptTokens", "prompt")
_PLAIN_OUTPUT = ("output", "completion_tokens", "output_tokens", "completionTokens", "completion")
_TOTAL = ("total", "total_tokens", "totalTokens")
_INT64 = 2**63


def token_counts(usage: Mapping[str, float]) -> dict[str, int]:
    """Return `gen_ai.usage.*` counts; keys that the usage says nothing about are absent."""
    counts: dict[str, int] = {}
    read = _first(usage, _CACHE_READ)
    creation = _sum(usage, "input_cache_creation")
    if creation is None:
        creation = _first(usage, _CACHE_CREATION)
    reasoning = _first(usage, _REASONING)
    plain_in, plain_out = _first(usage, _PLAIN_INPUT), _first(usage, _PLAIN_OUTPUT)
    total = _first(usage, _TOTAL)
    all_in = _containing(usage, "input", plain_in)
    all_out = _containing(usage, "output", plain_out)
    if total is not None and plain_in is not None and plain_out is not None and plain_in + plain_out == total:
        all_in, all_out = plain_in, plain_out  # the plain counts already include the details
    for key, value in (
        ("gen_ai.usage.input_tokens", all_in),
        ("gen_ai.usage.output_tokens", all_out),
        ("gen_ai.usage.cache_read.input_tokens", read),
        ("gen_ai.usage.cache_creation.input_tokens", creation),
        ("gen_ai.usage.reasoning.output_tokens", reasoning),
    ):
        if value is not None and abs(value) < _INT64:  # not for infinity either
            counts[key] = int(value)
    return counts


def _first(usage: Mapping[str, float], names: tuple[str, ...]) -> float | None:
    return next((usage[name] for name in names if name in usage), None)


def _sum(usage: Mapping[str, float], prefix: str) -> float | None:
    values = [value for key, value in usage.items() if key.startswith(prefix)]
    return sum(values) if values else None


def _containing(usage: Mapping[str, float], word: str, plain: float | None) -> float | None:
    """Sum as Langfuse does, all keys that contain the word; a count under a name of its own stands for itself.

    Details of a count, as OpenAI nests them, are in it already.
    """
    if plain is not None and word not in usage and f"{word}_tokens" not in usage:
        return plain
    values = [value for key, value in usage.items() if word in key and "_details." not in key]
    return sum(values) if values else None
