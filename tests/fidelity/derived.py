"""What a person expects to see of each span, beside what the worker derives: agent, messages, tools, tokens and so on.

The expectations stand in `tests/data/fidelity/expected`, a line a span, written after the direct exports; the code that
they measure had no part in them. What a line does not name is not expected. A message is its role and its parts, each
in one text: `text Hello`, `reasoning …`, `call <name> <id> <arguments>`, `answer <id> <response>`, or its type alone.
What stands nowhere in the rows is named under `lost`, with the reason, and is not counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sync_worker.spans.span_model import AttributeValue
from tests.fidelity.pairs import DATA, GENERATIONS, Pair, SpanKey, spans_of

#: The table's columns, and how each is counted: the whole value, each message, or each count of tokens.
COLUMNS = ("agent", "input messages", "output messages", "arguments", "result", "call id", "tokens", "provider",
           "session", "user")  # fmt: skip

_PLAIN = {
    "agent": "gen_ai.agent.name",
    "call id": "gen_ai.tool.call.id",
    "provider": "gen_ai.provider.name",
    "session": "session.id",
    "user": "user.id",
}
_TOKENS = {
    "input": ("gen_ai.usage.input_tokens",),
    "output": ("gen_ai.usage.output_tokens",),
    "cache_read": ("gen_ai.usage.cache_read.input_tokens",),
    "cache_creation": ("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens"),
    "reasoning": ("gen_ai.usage.reasoning.output_tokens",),
}

Message = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Miss:
    """Something expected that is not so."""

    span: str
    column: str
    expected: Any
    found: Any


@dataclass(slots=True)
class Derived:
    """Of one pair, by column: how much was expected, and how much of it is so."""

    expected: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    misses: list[Miss] = field(default_factory=list)


@cache
def expectations(name: str) -> dict[SpanKey, dict[str, Any]]:
    """Return what is expected of each span of a pair."""
    lines = (DATA / "expected" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return {(reported["trace"], reported["id"]): reported for reported in map(json.loads, lines)}


def derived(pair: Pair, generation: str) -> Derived:
    """Compare what is derived of a pair's rows with what is expected; spans that were not exported are left out."""
    made = spans_of(GENERATIONS[generation](pair))
    found = Derived()
    for key, reported in expectations(pair.name).items():
        if key not in made:
            continue
        for column, expected, there in _compared(reported, made[key].attributes):
            found.expected[column] += 1
            if expected == there:
                found.right[column] += 1
            else:
                found.misses.append(Miss(reported["span"], column, expected, there))
    return found


def _compared(reported: dict[str, Any], attributes: Mapping[str, AttributeValue]) -> Iterator[tuple[str, Any, Any]]:
    """Yield each thing that is expected of a span: its column, the value, and what there is."""
    for column, key in _PLAIN.items():
        expected = reported.get(column.replace(" ", "_"))
        if expected is not None:
            yield column, expected, attributes.get(key)
    for name in ("arguments", "result"):
        if name in reported:
            yield name, reported[name], _value(attributes.get(f"gen_ai.tool.call.{name}"))
    for count, expected in reported.get("tokens", {}).items():
        yield "tokens", expected, next((attributes[key] for key in _TOKENS[count] if key in attributes), None)
    for side in ("input", "output"):
        if side in reported and side not in reported.get("lost", {}):
            expected = [(role, tuple(map(_canonical_text, parts))) for role, parts in reported[side]]
            there = messages(attributes, side)
            for at in range(max(len(expected), len(there))):
                yield f"{side} messages", _at(expected, at), _at(there, at)


def _at(messages: list[Message], at: int) -> Message | None:
    return messages[at] if at < len(messages) else None


def messages(attributes: Mapping[str, AttributeValue], side: str) -> list[Message]:
    """Return the messages of one side as the expectations write them, system instructions first.

    Empty texts are left out, and what holds answers of tools alone is the tool's, whatever role a provider gives it.
    """
    found: list[Message] = []
    system = _value(attributes.get("gen_ai.system_instructions")) if side == "input" else None
    if isinstance(system, str):
        found.append(("system", (f"text {system}",)))
    elif isinstance(system, list):
        found.append(("system", tuple(map(_part, system))))
    reported = _value(attributes.get(f"gen_ai.{side}.messages"))
    for message in reported if isinstance(reported, list) else []:
        parts = tuple(part for part in map(_part, message.get("parts", [])) if part != "text ")
        answers = parts and all(part.startswith("answer ") for part in parts)
        found.append(("tool" if answers else message.get("role", ""), parts))
    return found


def _part(part: dict[str, Any]) -> str:
    kind = str(part.get("type"))
    if kind == "text":
        return f"text {_canonical(part.get('content'))}"  # v1 keeps no white space of JSON
    if kind in {"reasoning", "thinking"}:
        return f"reasoning {part.get('content')}"
    if kind == "tool_call":
        return f"call {part.get('name')} {part.get('id')} {_canonical(part.get('arguments'))}"
    if kind == "tool_call_response":
        return f"answer {part.get('id')} {_canonical(part.get('response', part.get('result')))}"
    return kind


def _canonical_text(part: str) -> str:
    kind, space, content = part.partition(" ")
    return f"text {_canonical(content)}" if kind == "text" and space else part


def _canonical(value: Any) -> str:
    """Return a text as it is, anything else, and JSON text of an object or list, as JSON with sorted keys."""
    value = _value(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _value(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, dict | list) else text
