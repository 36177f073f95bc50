"""Values that Python wrote as text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sync_worker.spans.python_text import Record, read

PLAIN = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False, allow_infinity=False) | some.text(),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.slow
@given(some.dictionaries(some.text(), PLAIN, max_size=4) | some.lists(PLAIN, max_size=4))
def test_what_python_writes_is_read(value: Any) -> None:
    """Arguments that a framework wrote with str() would come out changed."""
    assert read(str(value)) == (True, value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'a': (1, 2), 'b': {3}, 'c': ()}", {"a": [1, 2], "b": [3], "c": []}),
        ("{1: 'x', True: 'y', None: 'z'}", {"1": "x", "True": "y", "None": "z"}),
        ("{'a': date(1, 2), 'b': b'\\x00', 'c': <Node at 0x7f>}", {"a": "date(1, 2)", "b": "b'\\x00'",
                                                                     "c": "<Node at 0x7f>"}),
        ("{'when': datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)}",
         {"when": "datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)"}),
        ("Message(role=<Role.USER: 'user'>, content='hi')", {"role": "user", "content": "hi"}),
        ("content='a b=c' name=None", {"content": "a b=c", "name": None}),
        ("[Part(text=\"it's\\n\", n=-1.5e3)]", [{"text": "it's\n", "n": -1500.0}]),
        ("{'a': 'x', }", {"a": "x"}),
        ("{'id': UUID('1-2'), 'at': AnyUrl('https://a/b')}", {"id": "1-2", "at": "https://a/b"}),
    ],
)  # fmt: skip
def test_objects(text: str, value: Any) -> None:
    """Messages of frameworks that show their objects instead of writing JSON would stay one lump of text."""
    assert read(text) == (True, value)


def test_an_object_has_the_name_of_its_class() -> None:
    """Who spoke shows in LangChain's objects in no other way."""
    found = read("[pkg.HumanMessage(content='hi')]")[1][0]
    assert isinstance(found, Record)
    assert found.kind == "HumanMessage"


@pytest.mark.parametrize(
    "text",
    ["", "'x'", "7", "True", "hello", "hello (world)", "f(1)", "{", "{'a'}x", "{'a': }", "{'a': 'b' 'c'}", "[1 2]",
     "{'a': b}", "a=1 b", "{'a': 1, 2}", "{1, 'a': 2}", "'unclosed", "{'a': 'unclosed}", "content='x' (cut"],
)  # fmt: skip
def test_other_text(text: str) -> None:
    """Plain text would be taken for an object."""
    assert read(text)[0] is False


@pytest.mark.parametrize("opened", ["[", "{'a': ", "A(a=", "<A: ", "A(", "{'\\", "[<A.B: '"])
def test_hostile_text_ends(opened: str) -> None:
    """A row made to be slow, or to nest deeper than Python follows, would stop the worker."""
    assert read(opened * 20_000)[0] is False
    assert read("[" + opened * 20_000)[0] is False
