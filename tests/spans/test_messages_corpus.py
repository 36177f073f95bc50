"""Every input shape that the tests and recordings have, bent in many ways: nothing raises, and no text gets lost.

Judged on `gen_ai.*` alone, as a span has them with SYNC_ATTRIBUTES=genai, where Langfuse's own text is not sent beside.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sync_worker.json_text import dump, parse
from sync_worker.langfuse.observation_parser import parse_v2_observation
from sync_worker.spans.messages import beside, read_input, read_output
from tests.fidelity.pairs import NAMES, load
from tests.spans.made import attributes, generation

DATA = Path(__file__).resolve().parent.parent / "data"
ASKED, ANSWERED = "gen_ai.input.messages", "gen_ai.output.messages"
SYSTEM = "gen_ai.system_instructions"
#: Longer inputs say nothing new about a shape.
MOST_CHARACTERS = 6_000

#: Labels, counts and settings, of which `beside` says why they are no part of a message; what tells roles and types.
NOT_STATED = (
    beside._LABELS
    | beside._COUNTS
    | beside._SETTINGS
    | {"role", "type", "_role", "Role", "from", "part_kind", "block_type", "$type", "lc", "source", "additional_kwargs"}
    | {"source_type", "config", "context", "raw", "inner_content", "event", "sequence_number", "item_id"}
    | {"output_index", "content_index", "summary_index", "contentBlockIndex"}
)


def written_inputs() -> Iterator[str]:
    for line in (DATA / "message_shapes.jsonl").read_text(encoding="utf-8").splitlines():
        value = json.loads(line)["value"]
        yield value if isinstance(value, str) else json.dumps(value)
    for path in sorted((DATA / "reported").glob("*/rows.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            yield from (row[key] for key in ("input", "output") if row[key])


def recorded_inputs() -> Iterator[str]:
    rows = [row for name in NAMES for row in load(name).v2]
    rows += map(json.loads, gzip.decompress((DATA / "v4.16.0-rows.jsonl.gz").read_bytes()).splitlines())
    for row in map(parse_v2_observation, rows):
        if row.type in {"GENERATION", "AGENT"}:
            yield from (text for text in (row.input, row.output) if text)


def shape_of(value: object) -> object:
    """Return what two inputs of one shape have in common: keys and kinds, not texts."""
    if isinstance(value, dict):
        return tuple(sorted((key, shape_of(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("list", *dict.fromkeys(map(shape_of, value)))
    return type(value).__name__


@cache
def corpus() -> tuple[Any, ...]:
    """Return one input of each shape."""
    found: dict[str, Any] = {}
    for text in (*written_inputs(), *recorded_inputs()):
        is_json, value = parse(text)
        if is_json and isinstance(value, dict | list) and len(text) <= MOST_CHARACTERS:
            found.setdefault(repr(shape_of(value)), value)
    return tuple(found.values())


@cache
def is_valid(name: str) -> Draft202012Validator:
    """Return the conventions' own schema; a finish reason is not required, since Langfuse often has none to tell."""
    schema = json.loads((DATA / "conventions" / f"gen-ai-{name}-messages.json").read_text(encoding="utf-8"))
    for definition in schema["$defs"].values():
        if "finish_reason" in definition.get("required", ()):
            definition["required"].remove("finish_reason")
    return Draft202012Validator(schema)


def leaves(value: object, key: str = "") -> Iterator[str]:
    """Return the texts of a value that somebody said; text that is JSON is what it stands for."""
    if key in NOT_STATED:
        return
    if isinstance(value, str):
        is_json, inner = parse(value) if value[:1] in {"{", "[", '"'} else (False, None)
        if is_json:
            yield from leaves(inner)
        elif value:
            yield value.partition(";base64,")[2] if value.startswith("data:") and ";base64," in value else value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, name)
    elif isinstance(value, list):
        is_pair = len(value) == 2 and value[0] in ("user", "human", "ai", "assistant", "system", "tool")  # LangChain's
        for item in value[1:] if is_pair else value:
            yield from leaves(item, key)


def every_text(value: object) -> Iterator[str]:
    """Return all texts of an output, of JSON in texts too."""
    if isinstance(value, str):
        yield value
        is_json, inner = parse(value) if value[:1] in {"{", "[", '"'} else (False, None)
        if is_json:
            yield from every_text(inner)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from every_text(item)
    elif isinstance(value, list):
        for item in value:
            yield from every_text(item)


def letters(text: str) -> str:
    """Return a text without what JSON puts around and between texts: pieces of streamed arguments are cut anywhere."""
    return re.sub(r"[\s{}\[\]\":,\\]", "", text)


def check(value: object) -> None:
    """Hold what each input promises."""
    text = json.dumps(value)
    found = attributes(generation(input=text, output=text), attributes="genai")
    for key, name in ((ASKED, "input"), (ANSWERED, "output")):
        messages = json.loads(str(found.get(key, "[]")))
        assert list(is_valid(name).iter_errors(messages)) == []
        given = [messages, found.get(SYSTEM, ""), found.get("gen_ai.tool.definitions", "")]
        given.append(found.get("gen_ai.response.finish_reasons", ""))
        payload = list(every_text(given))
        whole, joined = set(payload), "\0".join(payload)
        squeezed: str | None = None
        for leaf in leaves(value):
            if leaf not in whole and leaf not in joined:
                squeezed = letters(joined + dump(given)) if squeezed is None else squeezed
                assert letters(leaf) in squeezed, (name, leaf)


def test_the_corpus_has_every_shape() -> None:
    """A corpus that found no files would hold whatever is asked of it."""
    assert len(corpus()) > 150


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 400, 50))
def test_nothing_is_lost(start: int) -> None:
    """Words of a conversation would be missing at Kelet, and nobody would notice."""
    for value in corpus()[start : start + 50]:
        check(value)


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Return the path to each value inside a value."""
    yield path
    if isinstance(value, dict | list):
        entries: Any = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in entries:
            yield from places(item, (*path, key))


def changed(value: Any, path: tuple[str | int, ...], change: Callable[[Any], Any]) -> Any:
    """Return a value with the change made at one place of it."""
    if not path:
        return change(value)
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(copy[path[0]], path[1:], change)
    return copy


def duplicated(value: Any) -> Any:
    if isinstance(value, list):
        return [*value, *value[:1]]
    return {**value, "copy_of_it": value} if isinstance(value, dict) else [value, value]


def truncated(value: Any) -> Any:
    if isinstance(value, dict):
        return dict(list(value.items())[: len(value) // 2])
    return value[: len(value) // 2] if isinstance(value, str | list) else None


CHANGES: tuple[Callable[[Any], Any], ...] = (
    lambda value: [value],
    lambda value: {"wrapped": value},
    lambda value: {"messages": value},
    lambda value: {"response": value},
    json.dumps,
    duplicated,
    truncated,
    lambda value: 7,
    lambda value: None,
    lambda value: "something else",
    lambda value: ["one thing", {"another": "thing"}],
    lambda value: {"text": "some words"},
    lambda value: {"type": "brand_new", "words": "new words"},
)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**32))
def test_nothing_is_lost_of_what_comes_next(seed: int) -> None:
    """The next version of a framework, or the next program, would lose what the shapes of today do not have."""
    chance = random.Random(seed)
    value = chance.choice(corpus())
    for _ in range(chance.randint(1, 3)):
        value = changed(value, chance.choice(list(places(value))), chance.choice(CHANGES))
    check(value)


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions a piece of work calls, which no other load on the machine changes."""
    count = 0

    def counted(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def at(value: Any, path: tuple[Any, ...]) -> Any:
    return at(value[path[0]], path[1:]) if path else value


def grown(value: Any, times: int) -> Any:
    """Return a value whose longest list is repeated."""
    lists = [path for path in places(value) if isinstance(at(value, path), list)]
    path = max(lists, key=lambda path: len(json.dumps(at(value, path))), default=None)
    return None if path is None else changed(value, path, lambda items: items * times)


def cost_of(value: Any) -> int:
    text = json.dumps(value)
    return calls_of(lambda: (read_input(text), read_output(text)))


@pytest.mark.slow
def test_time_grows_with_the_input() -> None:
    """A long conversation would hold up all others: twice as much of it may cost twice as much, not four times."""
    for value in corpus():
        short, long = grown(value, 8), grown(value, 32)
        if short is not None:
            assert cost_of(long) < 8 * cost_of(short) + 2_000, json.dumps(value)[:300]


@pytest.mark.parametrize("wrap", CHANGES[:5])
def test_time_does_not_explode_with_depth(wrap: Callable[[Any], Any]) -> None:
    """A value that is looked into twice at each level would take a lifetime at a hundred of them."""

    def cost(depth: int) -> int:
        value: Any = {"lc": 1, "type": "constructor", "kwargs": {"messages": [{"role": "user", "content": "hi"}]}}
        for _ in range(depth):
            value = wrap(value)
        return cost_of(value)

    depth = 5 if wrap is json.dumps else 40  # each layer of JSON text doubles its backslashes
    assert cost(2 * depth) < 8 * cost(depth) + 5_000
