"""Usage and cost as they were handed to Langfuse, from what its server made of them.

The server adds a total, turns OpenAI's usage into buckets that do not overlap, and computes the cost where none was
given and it knows the model's prices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sync_worker.json_text import parse
from sync_worker.records import Observation
from sync_worker.spans.langfuse_sdk.sdks import Sdk

#: What the OpenAI drop-in of Python's SDK writes for every chat and response, given or not.
_DROP_IN = frozenset({"temperature", "top_p", "frequency_penalty", "presence_penalty"})
#: Details of the Responses API's usage; a chat's has others too.
_RESPONSES = frozenset({"input_cached_tokens", "input_cache_write_tokens", "output_reasoning_tokens"})
_ROUNDING = 1e-12  # the server keeps twelve decimals


def usage_as_given(observation: Observation, sdk: Sdk) -> tuple[Mapping[str, Any], bool]:
    """Return the usage as the SDK wrote it, and whether that is a guess."""
    usage = observation.usage
    if sdk.is_legacy or not usage:
        return usage, False
    if sdk.language == "python" and _is_of_drop_in(observation):
        return _openai(observation), True
    *others, last = usage
    if last != "total" or not others or sum(usage[key] for key in others) != usage[last]:
        return usage, False
    if len(others) == 1:  # a total of one count states nothing new: hardly anybody gives it
        return {others[0]: usage[others[0]]}, True
    return usage, True


def _is_of_drop_in(observation: Observation) -> bool:
    first, details = list(observation.usage)[:3], list(observation.usage)[3:]
    return (
        observation.type == "GENERATION"
        and observation.model_parameters.keys() >= _DROP_IN
        and first == ["input", "output", "total"]
        and bool(details)
        and all(key.startswith(("input_", "output_")) and key.endswith("_tokens") for key in details)
        and sum(count for key, count in observation.usage.items() if key != "total") == observation.usage["total"]
    )


def _openai(observation: Observation) -> dict[str, Any]:
    """Put the counts together again as OpenAI gave them: a count holds its details."""
    details = list(observation.usage)[3:]
    is_response = _RESPONSES.issuperset(details) and _is_response(observation.output)
    words = ("input", "output") if is_response else ("prompt", "completion")
    found: dict[str, Any] = {"total_tokens": observation.usage["total"]}
    for bucket, word in zip(("input", "output"), words, strict=True):
        parts = {
            key.removeprefix(bucket + "_"): observation.usage[key] for key in details if key.startswith(bucket + "_")
        }
        found[f"{word}_tokens"] = observation.usage[bucket] + sum(parts.values())
        if parts:
            found[f"{word}_tokens_details"] = parts
    return found


def _is_response(output: str | None) -> bool:
    """Whether an output is made of items of the Responses API, which have a type each; a chat's message has none."""
    is_json, value = parse(output) if output and output[:1] in {"[", "{"} else (False, None)
    items = value if isinstance(value, list) else [value]
    return is_json and bool(items) and all(isinstance(item, dict) and "type" in item for item in items)


def is_cost_computed(observation: Observation) -> bool:
    """Whether the server computed the cost from the usage and its prices, so that none was given."""
    if not observation.cost.keys() - {"total"} <= observation.usage.keys():
        return False
    known = [key for key in ("input", "output", "total") if key in observation.prices and observation.usage.get(key)]
    return bool(known) and all(
        key in observation.cost
        and math.isclose(
            observation.cost[key], observation.usage[key] * observation.prices[key], rel_tol=1e-6, abs_tol=_ROUNDING
        )
        for key in known
    )
