"""What the readers of messages have in common: safe looks into strangers' JSON, and bounds on what is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

from sync_worker.json_text import dump
from sync_worker.spans.span_model import Attributes

#: Keys below `llm.input_messages.` or `llm.output_messages.` with their values.
Pairs: TypeAlias = Iterator[tuple[str, Any]]

#: Flattened keys that one side of a conversation gets. A span sends fewer than that in all.
MAX_KEYS = 512


def flat(prefix: str, pairs: Iterable[tuple[str, Any]]) -> Attributes:
    """Return pairs as attributes; what OpenTelemetry would refuse, objects and nulls, is left out."""
    return {
        f"{prefix}.{key}": value
        for key, value in islice(pairs, MAX_KEYS)
        if isinstance(value, str | bool | int | float) and not (isinstance(value, int) and abs(value) >= 2**63)
    }


def fields(value: Any) -> Mapping[str, Any]:
    """Return the value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """Return the value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def kind_of(value: Any) -> str:
    """Return an object's type, "" where it has none."""
    kind = fields(value).get("type")
    return kind if isinstance(kind, str) else ""


def objects(value: Any) -> list[Mapping[str, Any]]:
    """Return the items of a list; those that are no objects as empty ones, so that the others keep their places."""
    return [fields(item) for item in items(value)]


def json_of(value: Any) -> str:
    """Return JSON as Python's `json` writes it without escaping, which is how these instrumentations do."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return dump(value)


def as_text(value: Any) -> str:
    """Return a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json_of(value)


def call(prefix: str, call_id: Any, name: Any, arguments: Any) -> Pairs:
    """Yield one tool call; what is empty is not written."""
    if call_id:
        yield f"{prefix}.tool_call.id", call_id
    if name:
        yield f"{prefix}.tool_call.function.name", name
    if arguments:
        yield f"{prefix}.tool_call.function.arguments", as_text(arguments)


def content(prefix: str, kind: str, text: Any = None) -> Pairs:
    """Yield a content's type and text."""
    yield f"{prefix}.message_content.type", kind
    if text is not None:
        yield f"{prefix}.message_content.text", text


def image(prefix: str, url: Any) -> Pairs:
    """Yield an image by its address."""
    yield f"{prefix}.message_content.type", "image"
    if isinstance(url, str) and url:
        yield f"{prefix}.message_content.image.image.url", limited(url)


def limited(url: str) -> str:
    """Return an image's address; data of more than 32,000 characters is hidden by default (TraceConfig)."""
    return "__REDACTED__" if len(url) > 32_000 and url.startswith("data:image/") and "base64" in url else url
