"""Types that attributes had, by who writes them so.

Langfuse's API parses what it stored as text. A JSON object can only have been text, but a JSON list looks like an array
attribute afterwards, JSON in quotes like plain text, text of a number like a number, and a whole double like an
integer. Where an instrumentation writes a key in one way only, that shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from sync_worker.json_text import dump, parse
from sync_worker.spans.span_model import AttributeValue

_INT64 = 2**63

#: JSON text whatever it states: the Vercel AI SDK (`ai` 3.2 to 6, `@ai-sdk/otel` 1.0) and Genkit (`@genkit-ai/core`
#: 1.42) pass these to JSON.stringify, strings too.
_ALWAYS = frozenset({"ai.value", "ai.embedding", "genkit:input", "genkit:init"})

#: Markers of instrumentations that write no array attribute, only text of lists: MLflow (`mlflow` 3.17, everything it
#: writes), Mastra (`@mastra/otel-exporter` 0.3 and 1.4), Genkit.
_MLFLOW = "mlflow.traceRequestId"
_WITHOUT_ARRAYS = ("mastra.span.type", "genkit:name", "genkit:path")

#: Logfire's description of a span's attributes; pydantic-ai writes it too. What it calls array or object is JSON text.
_SCHEMA = "logfire.json_schema"


class _Rule(NamedTuple):
    """Scopes that begin so write values of one shape under these keys in one way."""

    scope: str
    keys: re.Pattern[str]
    shape: type
    write: Callable[[Any], AttributeValue]


#: What BeeAI's objects are taken apart under.
_BEEAI = re.compile(r"metadata\.\w+\..")


def _doubles(value: list[Any]) -> AttributeValue:
    """Return a vector, whose whole numbers came back as integers; anything else as text."""
    if all(isinstance(item, int | float) and not isinstance(item, bool) for item in value):
        return [float(item) for item in value]
    return dump(value)


#: LiteLLM turns all but scalars to text (1.106.2), as Strands does its list of tools (1.62.0); Google's configuration
#: holds a double (google-genai); versions of prompts and entities are numbers to Traceloop's SDK, while ids of requests
#: are text to OpenLLMetry's mcp (both 0.62.4). OpenInference's embeddings are doubles; its BeeAI takes objects apart
#: into texts (openinference-instrumentation-beeai 0.1.14, `_unpack_object`).
_RULES = (
    _Rule("litellm", re.compile(""), list, dump),
    _Rule("litellm", re.compile(r"error\.code\Z"), int, dump),
    _Rule("litellm", re.compile(r".*_(?:spend|budget)\Z", re.DOTALL), int, float),
    _Rule("strands.telemetry", re.compile(r"gen_ai\.agent\.tools\Z"), list, dump),
    _Rule("opentelemetry.instrumentation.google_genai", re.compile(r"gen_ai\.request\.top_k\Z"), int, float),
    _Rule("opentelemetry.instrumentation.mcp", re.compile(r"mcp\.request\.id\Z"), int, dump),
    _Rule("openinference.instrumentation.beeai", _BEEAI, int, dump),
    _Rule("openinference.instrumentation.beeai", _BEEAI, float, dump),
    _Rule("", re.compile(r"embedding\.embeddings\.\d+\.embedding\.vector\Z"), list, _doubles),
    _Rule("", re.compile(r"traceloop\.(?:entity|prompt)\.version\Z"), int, int),
)


class WrittenTypes:
    """Knows the types of one span's attributes by its scope's name and by what marks stand among them."""

    def __init__(self, scope_name: str, attributes: Mapping[str, Any]) -> None:
        self._everything = _MLFLOW in attributes
        self._lists = not attributes.keys().isdisjoint(_WITHOUT_ARRAYS)
        self._described = _described(attributes.get(_SCHEMA))
        self._rules = _rules_of(scope_name)

    def give_back(self, key: str, value: Any) -> AttributeValue | None:
        """Return what was written, for a value that came back; None where the instrumentation's way is unknown."""
        if isinstance(value, dict):
            return None
        if self._everything or key in _ALWAYS:
            return dump(value)
        if isinstance(value, str):
            return None
        if key in self._described or (self._lists and isinstance(value, list)):
            return dump(value)
        for rule in self._rules:
            if isinstance(value, rule.shape) and rule.keys.match(key) and _is_plain(value):
                return rule.write(value)
        return None


@lru_cache(maxsize=256)
def _rules_of(scope_name: str) -> tuple[_Rule, ...]:
    return tuple(rule for rule in _RULES if scope_name.startswith(rule.scope))


def _is_plain(value: Any) -> bool:
    """Whether a value is a list or an integer that OTLP can hold; `bool` counts as one to Python."""
    return isinstance(value, list) or (not isinstance(value, bool) and -_INT64 <= value < _INT64)


def _described(schema: Any) -> frozenset[str]:
    if isinstance(schema, str):
        _, schema = parse(schema)
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return frozenset()
    return frozenset(key for key, value in properties.items() if _is_container(value))


def _is_container(described: Any) -> bool:
    kind = described.get("type") if isinstance(described, dict) else None
    return any(one in ("array", "object") for one in (kind if isinstance(kind, list) else [kind]))
