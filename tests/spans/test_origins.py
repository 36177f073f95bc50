"""Resource and scope are taken apart once for spans that share them: memory is bounded, and nothing is mixed up."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_worker.spans import origins, restore
from sync_worker.spans.encode import serialize
from sync_worker.spans.restore import take_apart
from sync_worker.spans.span_model import Attributes, Scope, Span, shared

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.text(max_size=3) | st.just(2**70)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=2), SCALARS, max_size=2)
KEY_TEXT = """
    scope.name scope.version scope.attributes.a scope.attributes.public_key scope.other scope scope.attributes.
    resourceAttributes.service.version resourceAttributes.a resourceAttributes.b resourceAttributes. resourceAttributes
    attributes.a attributes.b attributes. attributes own
"""
KEYS = st.sampled_from(KEY_TEXT.split())


def plainly(metadata: dict[str, Any], version: str | None, monkeypatch: pytest.MonkeyPatch) -> restore.Originals:
    """Take it apart with nothing remembered."""
    with monkeypatch.context() as patch:
        patch.setattr(restore, "LAYOUTS", {tuple(metadata): None})
        patch.setattr(restore, "origin_of", origins._read_origin)
        return take_apart(metadata, version)


@given(st.dictionaries(KEYS, VALUES, max_size=8), st.sampled_from([None, "1", "1.0", "x"]))
def test_same_as_without_memory(metadata: dict[str, Any], version: str | None) -> None:
    """What is remembered must not show, whatever stands in the metadata."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        expected = repr(plainly(metadata, version, monkeypatch))
    assert repr(take_apart(metadata, version)) == expected
    assert repr(take_apart(metadata, version)) == expected


def test_equal_values_of_other_types_are_distinguished() -> None:
    """1, 1.0 and true are equal to Python, and so are 0.0 and -0.0; to OTLP they are not."""
    for values in ((1, 1.0, True), (0, 0.0, -0.0, False), ("1", 1), ([1], [1.0], [True], ["1"]), (None, "null", "")):
        stated = [take_apart({"resourceAttributes.n": value}).resource["n"] for value in values]
        again = [take_apart({"resourceAttributes.n": value}).resource["n"] for value in values]
        alone = [origins._read_origin(("resourceAttributes.n",), [value], None).resource["n"] for value in values]
        assert list(map(repr, stated)) == list(map(repr, again)) == list(map(repr, alone))


def test_shared_once() -> None:
    """That spans have one resource in common shows in its identity: it is then serialised once."""
    metadata = {"scope.name": "s", "resourceAttributes.n": 1, "resourceAttributes.l": ["a"], "own": 1}
    one, other = take_apart(metadata), take_apart(metadata | {"own": 2})
    assert one.resource is other.resource
    assert one.scope is other.scope


def test_nobody_can_change_what_is_shared() -> None:
    """A change would be in the spans of all traces that follow."""
    found = take_apart({"scope.name": "s", "scope.attributes.l": ["a"], "resourceAttributes.l": ["a"]})
    assert found.scope is not None
    for attributes in (found.resource, found.scope.attributes):
        assert attributes["l"] == ("a",)
        with pytest.raises(TypeError):
            attributes["l"] = "b"  # type: ignore[index]
    with pytest.raises(AttributeError):
        found.scope.name = "b"  # type: ignore[misc]


def test_what_may_change_is_serialised_again() -> None:
    """Only what cannot change is known by its identity."""
    resource: Attributes = {"a": "1"}
    span = Span("0" * 31 + "1", "0" * 15 + "1", "", "n", 1, 1, 2, {}, resource, Scope("s"))
    before = serialize(span)[0]
    resource["a"] = "2"
    assert serialize(span)[0] != before
    kept = Span("0" * 31 + "1", "0" * 15 + "1", "", "n", 1, 1, 2, {}, shared(resource), Scope("s"))
    assert serialize(kept)[0] == serialize(span)[0]


#: Metadata that differs at each number, by what is strange about it; and how much of it takes 6 MiB, if all is kept.
STRANGE: dict[str, tuple[int, Callable[[str, int], dict[str, Any]]]] = {
    "keys": (300, lambda text, _: {f"resourceAttributes.{text}{n}": "x" for n in range(5)}),
    "values": (
        1_350,
        lambda text, _: {"scope.name": "s", "resourceAttributes.a": text, "resourceAttributes.b": text + "b"},
    ),
    "long values": (160, lambda text, _: {"scope.name": "s", "resourceAttributes.a": text * 20}),
    "lists": (
        240,
        lambda text, _: {"scope.name": "s", "resourceAttributes.a": [f"{text[-9:]}{n}" for n in range(200)]},
    ),
    "user keys": (600, lambda text, _: {f"{text}{n}": 1 for n in range(5)}),
    "numbers": (620, lambda _, number: {f"resourceAttributes.{n}": number * 1000 + n for n in range(60)}),
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", STRANGE)
def test_memory_stays_level(shape: str) -> None:
    """Metadata is what strangers write: what is remembered of it is bounded by bytes."""
    count, metadata = STRANGE[shape]
    tracemalloc.start()
    try:
        peaks: list[int] = []
        for number in range(count):
            take_apart(metadata(f"{number:0>2000}", number))
            peaks.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(peaks) < 3 * 1024 * 1024
