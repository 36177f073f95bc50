"""Prompts in the older names: `gen_ai.prompt.N.role`, `gen_ai.completion.N.content` and so on.

OpenLLMetry wrote them until its instrumentations took `gen_ai.provider.name` and `gen_ai.input.messages` up, one by one
(openai in 0.57, openai-agents after 0.60; cohere, mistralai, ollama, together, replicate, watsonx and vertexai have not
in 0.62). Langfuse makes one nested object of each side, an empty one for a side that has no attribute.
"""

from __future__ import annotations

from typing import Any

from sync_worker.json_text import dump, is_compact, parse
from sync_worker.spans.attribute_values import is_scalar_list, scalars
from sync_worker.spans.conventions.convention import Rebuilt
from sync_worker.spans.restore import Originals
from sync_worker.spans.span_model import AttributeValue

PROMPT, COMPLETION = "gen_ai.prompt", "gen_ai.completion"

#: OpenTelemetry's SDKs keep 128 attributes of a span unless stated otherwise, and no instrumentation writes deep names.
#: The bound leaves room for the span's other attributes among those that are sent.
MAX_KEYS, MAX_DEPTH = 160, 12

_INT64 = 2**63

#: Scopes that write each side as one text, by the langsmith package's export to OpenTelemetry.
_WHOLE_TEXT = frozenset({"langsmith"})

#: Beginnings of scopes, and attributes, of those that write the older names.
_SCOPES = ("opentelemetry.instrumentation.", "@traceloop/", "agentops")
_HINTS = ("llm.request.type", "llm.is_streaming", "llm.usage.total_tokens", "traceloop.workflow.name")


def holds(asked: str | None, answered: str | None, originals: Originals) -> bool:
    """Whether input and output are what Langfuse makes of the older names: neither is missing, one at least is full.

    Where both are there, only their instrumentation distinguishes them from span events that Langfuse turned to the
    same shape.
    """
    if asked is None or answered is None:
        return False
    if originals.scope is not None and originals.scope.name in _WHOLE_TEXT:
        return True
    values = [_nested(text) for text in (asked, answered)]
    if None in values or _has_parts(values):
        return False
    if {} in values:
        return any(values)
    return "gen_ai.provider.name" not in originals.attributes and _has_hint(originals)


def flattened(asked: str | None, answered: str | None) -> Rebuilt:
    """Return the attributes that both sides were made of, the answer's first: a long question must not crowd it out."""
    found = Rebuilt()
    for prefix, text in ((COMPLETION, answered), (PROMPT, asked)):
        value = None if text is None else _nested(text)
        if value is not None:
            _flatten(prefix, value, found)
        elif text:
            found.attributes[prefix] = text
    return found


def _nested(text: str) -> dict[str, Any] | list[Any] | None:
    """Return the nested object of one side; None for anything else, such as text that Langfuse did not write."""
    is_json, value = parse(text) if text[:1] in {"{", "["} else (False, None)
    if not is_json or not is_compact(text):
        return None
    if isinstance(value, dict):
        return value
    return value if isinstance(value, list) and any(isinstance(item, dict) for item in value) else None


def _has_parts(values: list[Any]) -> bool:
    sides = [value if isinstance(value, list) else [value] for value in values]
    return any(isinstance(item, dict) and isinstance(item.get("parts"), list) for side in sides for item in side)


def _has_hint(originals: Originals) -> bool:
    name = "" if originals.scope is None else originals.scope.name
    return name.startswith(_SCOPES) or any(key in originals.attributes for key in _HINTS)


def _flatten(prefix: str, value: dict[str, Any] | list[Any], found: Rebuilt) -> None:
    """Put one side's leaves under their names, in their order."""
    stack: list[tuple[str, Any, int]] = [(prefix, value, 0)]
    while stack and len(found.attributes) < MAX_KEYS:
        name, item, depth = stack.pop()
        leaf = _leaf(item)
        if leaf is not None:
            found.attributes[name] = leaf
        elif isinstance(item, dict | list) and depth < MAX_DEPTH:
            entries = item.items() if isinstance(item, dict) else enumerate(item)
            below = [(f"{name}.{key}", entry, depth + 1) for key, entry in entries]
            stack.extend(reversed(below[:MAX_KEYS]))


def _leaf(item: Any) -> AttributeValue | None:
    if isinstance(item, str | bool):
        return item
    if isinstance(item, int | float):
        return item if isinstance(item, float) or -_INT64 <= item < _INT64 else dump(item)
    return scalars(item) if isinstance(item, list) and is_scalar_list(item) else None
