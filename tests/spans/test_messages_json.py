"""JSON text in and out, at the edges where two libraries disagree."""

import json
import math

import pytest

from sync_worker.json_text import dump, parse
from sync_worker.spans.messages import read_output


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("5", 5), ("null", None), ('"a"', "a"), ("[1.5]", [1.5]), ('"\\ud800"', "\ud800"), ("Infinity", math.inf)),
        *(("123456789012345678901234567890", 123456789012345678901234567890), ("[1e30]", [1e30])),
        ('{"n": -9223372036854775809}', {"n": -9223372036854775809}),
    ],
)
def test_parse_reads(text: str, value: object) -> None:
    """Big integers would be rounded, and text with a lone surrogate would not be JSON at all."""
    assert parse(text) == (True, value)


@pytest.mark.parametrize("text", ["", "hello", "[1", "{'a': 1}", "[" * 100_000, "9" * 5000])
def test_parse_says_no(text: str) -> None:
    """Text that is no JSON, or more than Python reads, would raise."""
    assert parse(text) == (False, None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"ü": "🐸", "a": [1, None, True]}, '{"ü":"🐸","a":[1,null,true]}'),
        ("a\ud800b", '"a\ufffdb"'),
        ("\udfff", '"\ufffd"'),
        ({"\ud800": 1, "b": [], "c": {}}, '{"\ufffd":1,"b":[],"c":{}}'),
        (math.nan, "null"),
        ([math.inf, 2**70], "[null,1180591620717411303424]"),
        ({2: "a", None: "b", True: "c", 1.5: "d"}, '{"2":"a","null":"b","true":"c","1.5":"d"}'),
        ((1, "x\ud800"), '[1,"x\ufffd"]'),
    ],
)
def test_dump(value: object, text: str) -> None:
    """A value that came in would not go out, or go out as something that is no JSON."""
    assert dump(value) == text


@pytest.mark.slow
def test_dump_of_what_json_has_no_word_for() -> None:
    """Objects, endless integers, deep nesting and cycles would raise while a batch is written."""
    deep: list[object] = []
    for _ in range(50_000):
        deep = [deep]
    assert dump(deep).startswith("[[[[")
    cycle: list[object] = [2**70]
    cycle.append(cycle)
    assert json.loads(dump(cycle))[0] == 2**70
    assert json.loads(dump([10**5000])) == [hex(10**5000)]
    assert json.loads(dump({"o": object()}))["o"].startswith("<object")


def test_deep_arguments_are_kept() -> None:
    """Nesting that one library reads and another refuses to write would lose the message."""
    depth = 600
    raw = '[{"role": "user", "content": {"deep": ' + "[" * depth + '"bottom"' + "]" * depth + "}}]"
    conversation = read_output(raw)
    assert conversation is not None
    assert "bottom" in dump(conversation.messages)
