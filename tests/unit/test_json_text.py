"""JSON of strangers: whatever it is, it is read, or it is said that it is none."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_worker.json_text import MAX_DEPTH, is_deep, is_deep_text, parse, parse_answer
from sync_worker.records import langfuse_id, storable_id

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def wrapped(text: str, levels: int) -> bytes:
    """Return JSON text in so many arrays and objects."""
    return ('{"a" :[ ' * (levels // 2) + text + "]\n}" * (levels // 2)).encode("utf-8", "surrogatepass")


@pytest.mark.slow
@given(VALUES, st.sampled_from([0, 2, 2_000]), st.sampled_from([None, 1]))
def test_answers_are_read_as_the_library_reads_them(value: Any, levels: int, indent: int | None) -> None:
    """The reader for what libraries do not follow reads something else than they do."""
    is_json, found = parse_answer(wrapped(json.dumps(value, indent=indent), levels))
    assert is_json
    for _ in range(levels // 2):
        (found,) = found["a"]
    assert found == value


@pytest.mark.parametrize("levels", [0, 2_000])
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9" * 5_000, "9" * 5_000), ('"a\tb"', "a\tb"), ("[]", []), ("{}", {}),
        ('[1,{"b":[]},"]"]', [1, {"b": []}, "]"]),
        ("-0.5e3", -500.0), ("-Infinity", -math.inf), ("true", True), ("null", None), ('"\\ud800"', "\ud800"),
    ],
)  # fmt: skip
def test_oddities_are_read_at_any_depth(text: str, value: Any, levels: int) -> None:
    """A page is lost for one number that is too long, or one character that should not be there."""
    is_json, found = parse_answer(wrapped(text, levels))
    assert is_json
    for _ in range(levels // 2):
        (found,) = found["a"]
    assert found == value


@pytest.mark.parametrize("levels", [0, 2_000, 30_000])
@pytest.mark.parametrize("text", ["", "[1,", "{1:2}", '{"a" 1}', "[1 2]", "tru", "[1]]", '"', "{]", "[1,]", '{"a":1,}'])
def test_what_is_no_json_is_none(text: str, levels: int) -> None:
    """Half an answer passes for a whole one."""
    assert parse_answer(wrapped(text, levels)[: -levels or None]) == (False, None)


def test_bytes_that_are_no_text() -> None:
    """One byte of another encoding costs a whole page."""
    assert parse_answer(b'["\xff\xc3\xbc"]') == (True, ["\udcff\u00fc"])


def test_what_nests_without_end_stays_text() -> None:
    """Each bracket of an answer that is nothing else takes a hundred times its size."""
    is_json, found = parse_answer(b"[" * 100_000 + b'"]"' + b"]" * 100_000)
    depth = 0
    while isinstance(found, list):
        (found,) = found
        depth += 1
    assert (is_json, depth) == (True, 10_000)
    assert found == "[" * 90_000 + '"]"' + "]" * 90_000


@pytest.mark.parametrize(("levels", "deep"), [(1, False), (MAX_DEPTH, False), (MAX_DEPTH + 1, True), (5_000, True)])
def test_depth_has_a_limit(levels: int, deep: bool) -> None:
    """Whether a text counts as JSON depends on how deep the stack stands when it is read."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value, 1]
    assert is_deep(value) is deep
    text = "[" * levels + "]" * levels
    assert parse(text)[0] is not deep
    assert parse(f'["{"[" * 500}"]')[0]


@pytest.mark.parametrize("seed", range(6))
def test_depth_of_a_text_is_that_of_its_value(seed: int) -> None:
    """Brackets, quotes and backslashes in strings are taken for those of JSON: a text counts as deep that is not."""
    rng = random.Random(seed)
    depths = set[bool]()
    for _ in range(100):
        value: Any = "".join(rng.choices('[]{}"\\a:,ü\ud800', k=rng.randrange(8)))
        for _ in range(rng.randrange(2 * MAX_DEPTH)):
            text = "".join(rng.choices('[]{}"\\', k=rng.randrange(4)))
            value = rng.choice([[value, text], [text, value, 1], {text: value, "b": []}, {"a": {}, text: value}])
        for written in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
            assert is_deep_text(written) == is_deep_text(written.encode("utf-8", "surrogatepass")) == is_deep(value)
        depths.add(is_deep(value))
    assert depths == {True, False}


@given(st.text(st.characters()), st.text(st.characters()))
def test_ids_stay_apart_and_come_back(one: str, other: str) -> None:
    """Two ids become one, or an id cannot be asked for again."""
    storable_id(one).encode()
    assert langfuse_id(storable_id(one)) == one
    assert (storable_id(one) == storable_id(other)) is (one == other)
