"""Attributes that held JSON text whatever it said, by who writes them so.

Langfuse's API parses what it stored as text. A JSON object can only have been text, but a JSON list looks like an array
attribute afterwards, JSON in quotes like plain text, and text of a number like a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sync_worker.json_text import parse

#: The Vercel AI SDK (`ai` 3.2 to 6, `@ai-sdk/otel` 1.0) and Genkit (`@genkit-ai/core` 1.42) pass these to
#: JSON.stringify, strings too.
_ALWAYS = frozenset({"ai.value", "ai.embedding", "genkit:input", "genkit:init"})

#: Marks of makers that write no array attribute, only text of lists: MLflow (`mlflow` 3.17, everything it writes),
#: Mastra (`@mastra/otel-exporter` 0.3 and 1.4), Genkit.
_MLFLOW = "mlflow.traceRequestId"
_WITHOUT_ARRAYS = ("mastra.span.type", "genkit:name", "genkit:path")

#: Logfire's description of a span's attributes; pydantic-ai writes it too. What it calls array or object is JSON text.
_SCHEMA = "logfire.json_schema"


class JsonTexts:
    """Says of each attribute of one span whether it held JSON text."""

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self._everything = _MLFLOW in attributes
        self._lists = any(mark in attributes for mark in _WITHOUT_ARRAYS)
        self._described = _described(attributes.get(_SCHEMA))

    def hold(self, key: str, value: Any) -> bool:
        """Whether what came back as `value` was JSON text that looks like something else now."""
        if isinstance(value, dict):
            return False
        if self._everything or key in _ALWAYS:
            return True
        if isinstance(value, str):
            return False
        return key in self._described or (self._lists and isinstance(value, list))


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
