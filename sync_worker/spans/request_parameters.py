"""Langfuse's model parameters as `gen_ai.request.*`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

from sync_worker.json_text import parse
from sync_worker.spans.span_model import Attributes, AttributeValue

_Reader = Callable[[Any], AttributeValue | None]

#: What stands for a parameter that nobody gave: OpenAI's `Omit` and `NOT_GIVEN` come back as an empty object, or as
#: Python writes them (openai-python, src/openai/_types.py).
_NOTHING = frozenset({"", "{}", "[]", "null", "None", "undefined", "NOT_GIVEN", "omit", "Omit"})
_OBJECTS_OF_OPENAI = "<openai."


def is_given(value: Any) -> bool:
    """Whether a parameter was given a value."""
    if isinstance(value, str):
        return value.strip() not in _NOTHING and not value.startswith(_OBJECTS_OF_OPENAI)
    return value is not None and value not in ({}, [])


def _number(value: Any) -> float | None:
    try:
        return float(value) if not isinstance(value, bool) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _integer(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number.is_integer() and abs(number) < 2**63 else None


def _strings(value: Any) -> list[str] | None:
    if isinstance(value, str):
        is_json, parsed = parse(value)
        return _strings(parsed) if is_json and isinstance(parsed, list) else [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value or None
    return None


def _boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value) if isinstance(value, str) else None


#: Parameters, which come back as text where they were not numbers, by GenAI name. Cohere writes `p` and `k`.
_PARAMETERS: tuple[tuple[str, tuple[str, ...], _Reader], ...] = (
    ("gen_ai.request.temperature", ("temperature",), _number),
    ("gen_ai.request.top_p", ("top_p", "topP", "p"), _number),
    ("gen_ai.request.top_k", ("top_k", "topK", "k"), _integer),
    ("gen_ai.request.max_tokens", ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxTokens",
                                   "maxOutputTokens", "maxCompletionTokens", "max_new_tokens", "max_tokens_to_sample",
                                   "num_predict"), _integer),
    ("gen_ai.request.frequency_penalty", ("frequency_penalty", "frequencyPenalty"), _number),
    ("gen_ai.request.presence_penalty", ("presence_penalty", "presencePenalty"), _number),
    ("gen_ai.request.seed", ("seed",), _integer),
    ("gen_ai.request.stop_sequences", ("stop_sequences", "stop", "stopSequences"), _strings),
    ("gen_ai.request.choice.count", ("n", "candidate_count", "candidateCount"), _integer),
    ("gen_ai.request.stream", ("stream",), _boolean),
    ("gen_ai.request.encoding_formats", ("encoding_formats", "encoding_format", "encodingFormat"), _strings),
    ("gen_ai.embeddings.dimension.count", ("dimensions",), _integer),
)  # fmt: skip
_rank = itemgetter(0)
#: By parameter: its rank, the attribute and the reader.
_BY_NAME = {
    name: (rank, key, read)
    for rank, (name, key, read) in enumerate((name, key, read) for key, names, read in _PARAMETERS for name in names)
}


def request_attributes(parameters: Mapping[str, Any]) -> Attributes:
    """Return the parameters that GenAI has a name for, where they were given and can be read."""
    found: Attributes = {}
    known = [(*_BY_NAME[name], value) for name, value in parameters.items() if name in _BY_NAME]
    known.sort(key=_rank)
    for _, key, read, value in known:
        if key not in found and is_given(value):
            stated = read(value)
            if stated is not None:
                found[key] = stated
    return found
