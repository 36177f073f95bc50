"""Limits of size: what is cut, where, and what is said of it."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_worker.json_text import utf8
from sync_worker.spans import sizes
from sync_worker.spans.sizes import cut_text, cut_value, mark, within
from sync_worker.spans.span_model import Attributes

TOKEN = "@@@langfuseMedia:type=image/jpeg|id=abcdefghijklmnopqrstuv|source=base64_data_uri@@@"
MESSAGE_KEYS = ["gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"]
LIMIT = 256  # the least that the settings allow
TEXT = st.text(st.characters(), max_size=400)


def size(text: str) -> int:
    return len(utf8(text).encode())


def messages(*texts: str) -> str:
    return json.dumps([{"role": "user", "parts": [{"type": "text", "content": text}]} for text in texts])


def test_mark() -> None:
    """A reader must see that a value was cut, by whom, and how much there was."""
    assert cut_text("x" * 300, 256) == "x" * 210 + " …[cut by the sync worker: 300 bytes in all]"


@pytest.mark.parametrize("text", ["", "x" * 256, "é" * 128, "東" * 85, "🐸" * 64])
def test_what_fits_stays(text: str) -> None:
    """The limit is what is allowed."""
    assert cut_text(text, 256) == text


@pytest.mark.parametrize(("letter", "width"), [("é", 2), ("東", 3), ("🐸", 4)])
def test_cut_on_a_character(letter: str, width: int) -> None:
    """Half a character is no UTF-8: the receiver would refuse the request for it."""
    cut = cut_text(letter * 300, 256)
    head, _, rest = cut.partition(" …")
    assert head == letter * ((256 - size(mark(300 * width))) // width)
    assert rest == f"[cut by the sync worker: {300 * width} bytes in all]"


@given(TEXT, st.integers(LIMIT, 600))
def test_never_over_the_limit(text: str, limit: int) -> None:
    """A value over the limit is refused with all that travels with it."""
    for cut in (cut_text(text, limit), *(cut_value(key, text, limit) for key in (*MESSAGE_KEYS, "other"))):
        assert isinstance(cut, str)
        assert size(cut) <= limit
        if size(text) <= limit:
            assert utf8(cut) == utf8(text)


@given(st.lists(TEXT, max_size=40), st.integers(LIMIT, 600))
def test_lists_never_over_the_limit(texts: list[str], limit: int) -> None:
    """A list of many short texts is as large as one long text."""
    cut = cut_value("tags", texts, limit)
    assert isinstance(cut, list)
    assert sum(size(str(item)) for item in cut) <= limit
    if sum(map(size, texts)) <= limit:
        assert cut == texts
    else:
        assert re.search(r"…\[cut by the sync worker: \d+ bytes in all\]\Z", str(cut[-1]))


def test_list_keeps_its_beginning() -> None:
    """What is kept of a list is in order, and its last item says that there was more."""
    cut = cut_value("tags", ["a" * 100, "b" * 200, "c"], 256)
    assert cut == ["a" * 100, "b" * 110 + " …[cut by the sync worker: 301 bytes in all]"]


@pytest.mark.parametrize("value", [True, 7, 1.5, [1, 2], [True], []])
def test_other_values_pass(value: Any) -> None:
    """Numbers have no text to cut."""
    assert cut_value("k", value, 1) is value


@pytest.mark.parametrize("at", range(130, 260, 3))
def test_media_token_is_whole_or_gone(at: int) -> None:
    """Half a reference leads to no media, and looks like text that the user wrote."""
    text = "x" * at + TOKEN + "y" * 300
    cut = cut_text(text, 256)
    rest = cut.replace(TOKEN, "")
    assert "@" not in rest
    assert "langfuseMedia" not in rest
    assert size(cut) <= 256


def test_media_token_that_just_fits() -> None:
    """A whole reference before the cut leads to its media: it stays."""
    head = "x" * (256 - size(mark(627)) - len(TOKEN))
    cut = cut_text(head + TOKEN + "y" * (627 - len(head) - len(TOKEN)), 256)
    assert cut == head + TOKEN + " …[cut by the sync worker: 627 bytes in all]"


@pytest.mark.parametrize("text", ["x" * 209 + "@@@ and more" + "y" * 300, "@" * 500, "@@@langfuseMedia:" * 40])
def test_other_signs_are_text(text: str) -> None:
    """Signs that belong to no reference are what the user wrote."""
    cut = cut_text(text, 256)
    assert text.startswith(cut.partition(" …[")[0])
    assert 250 <= size(cut) <= 256


def test_many_media_tokens() -> None:
    """References side by side: the cut falls between two of them."""
    cut = cut_text(TOKEN * 10, 256)
    assert cut == TOKEN * 2 + f" …[cut by the sync worker: {len(TOKEN) * 10} bytes in all]"


@pytest.mark.parametrize("key", MESSAGE_KEYS)
def test_messages_stay_json(key: str) -> None:
    """Kelet parses messages: cut like plain text, the whole conversation would be lost, not its end."""
    cut = cut_value(key, messages("a" * 5000, "short", "ü" * 5000), 1000)
    assert isinstance(cut, str)
    assert size(cut) <= 1000
    texts = [message["parts"][0]["content"] for message in json.loads(cut)]
    assert texts[1] == "short"
    assert re.fullmatch(r"a+ …\[cut by the sync worker: 5000 bytes in all\]", texts[0])
    assert re.fullmatch(r"ü+ …\[cut by the sync worker: 10000 bytes in all\]", texts[2])


def test_many_messages_stay_json() -> None:
    """A conversation of thousands of short messages keeps its last ones: they are what the answer is about."""
    text = messages(*(f"number {i}" for i in range(2000)))
    cut = cut_value("gen_ai.input.messages", text, 1000)
    assert isinstance(cut, str)
    assert size(cut) <= 1000
    found = json.loads(cut)
    assert found[0] == {
        "role": "system",
        "parts": [{"type": "text", "content": f"…[cut by the sync worker: {len(text)} bytes in all]"}],
    }
    assert [message["parts"][0]["content"] for message in found[-2:]] == ["number 1998", "number 1999"]
    assert len(found) > 10


def test_many_messages_are_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut to each size in turn, twenty thousand messages took seconds, though no size could have made them fit."""
    cut: list[object] = []
    cut_leaves = sizes._cut_leaves

    def counting(value: Any, limit: int) -> Any:
        cut.append(value)
        return cut_leaves(value, limit)

    monkeypatch.setattr(sizes, "_cut_leaves", counting)
    text = messages(*["number"] * 20_000)
    assert size(str(cut_value("gen_ai.input.messages", text, 100_000))) <= 100_000
    assert len(cut) < 20_000  # of the messages that are kept, each with what it holds


def test_many_instructions_stay_json() -> None:
    """System instructions are a list of parts, not of messages."""
    text = json.dumps([{"type": "text", "content": f"rule {i}"} for i in range(2000)])
    found = json.loads(str(cut_value("gen_ai.system_instructions", text, 1000)))
    assert found[0] == {"type": "text", "content": f"…[cut by the sync worker: {len(text)} bytes in all]"}
    assert found[-1] == {"type": "text", "content": "rule 1999"}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([{"role": "user", "parts": [{"type": "text", "content": "x"}] * 500}]),
        json.dumps([{"role": "user", "parts": [{"k" * 5000: 1}]}]),
        '[{"role":"user","parts":[' + "[" * 900 + "]" * 900 + "]}]",
        json.dumps(["x" * 5000] * 30),
    ],
    ids=["many parts", "long key", "deep", "strings"],
)
def test_messages_of_odd_shapes_stay_json(text: str) -> None:
    """Whatever cannot be cut inside its texts is replaced by the mark, which is JSON as well."""
    cut = cut_value("gen_ai.input.messages", text, LIMIT)
    assert isinstance(cut, str)
    assert size(cut) <= LIMIT
    assert "cut by the sync worker" in cut
    assert isinstance(json.loads(cut), list)


def test_messages_that_are_no_json() -> None:
    """An original under this key may be anything."""
    assert cut_value("gen_ai.input.messages", "x" * 300, 256) == cut_text("x" * 300, 256)


@pytest.mark.slow
@given(st.lists(st.lists(TEXT, max_size=4), max_size=30))
def test_any_messages_stay_json(texts: list[list[str]]) -> None:
    """Every size of conversation, every size of text."""
    whole = [
        {"role": "user", "parts": [{"type": "text", "content": utf8(text)} for text in payload]} for payload in texts
    ]
    cut = cut_value("gen_ai.input.messages", json.dumps(whole, ensure_ascii=False), LIMIT)
    assert isinstance(cut, str)
    assert size(cut) <= LIMIT
    assert all(item["role"] in {"user", "system"} for item in json.loads(cut))


def test_other_json_is_cut_as_text() -> None:
    """Langfuse's raw input is text to everyone."""
    text = messages("a" * 300)
    assert cut_value("langfuse.observation.input", text, 256) == cut_text(text, 256)


def test_within() -> None:
    """The first attributes are the most wanted; what is dropped is counted."""
    many: Attributes = {f"k{i}": "x" * 300 for i in range(5)}
    kept, dropped = within(many, max_value_bytes=256, max_attributes=3)
    assert list(kept) == ["k0", "k1", "k2"]
    assert all(size(str(value)) == 256 for value in kept.values())
    assert dropped == 2
    assert within({"a": 1}, max_value_bytes=256, max_attributes=3) == ({"a": 1}, 0)
