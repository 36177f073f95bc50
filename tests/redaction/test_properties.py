"""What holds for every text, whatever a stranger wrote."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_worker.expressions import compile_re2
from sync_worker.langfuse.observation_parser import parse_all, parse_v2_observation
from sync_worker.redaction.decoding import decode
from sync_worker.redaction.detectors import without_assertions
from sync_worker.redaction.matcher import MOST_WORK, why_not
from sync_worker.redaction.protection import RedactionFailed
from sync_worker.redaction.redactor import MAX_TEXT
from tests.redaction.corpus import look_alikes, planted
from tests.redaction.made import in_context, observation, protection, redactor
from tests.support.rows import row

R = redactor()
#: Gives up after a tenth of the work, so a tenth of the text shows the same.
LIMITED = redactor(most_work=MOST_WORK // 10)
VALUES = [(in_context(name, value), value) for name, value in planted()]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
#: Texts of what the patterns are made of.
NOISE = st.text("@.+-:/%\\\"'{}[],0145abnuv \n", max_size=60)


def json_of(text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Return JSON values with such texts."""
    return st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=12,
    )


JSON = json_of(TEXT)
#: Without what each detector needs one of: Hypothesis draws texts of loaded modules too, and some are addresses.
CLEAN = json_of(st.text(st.characters(exclude_categories=["Cs", "Nd"], exclude_characters="@-."), max_size=40))


def place(value: Any, path: list[int], leaf: str) -> Any:
    """Return a value with a leaf put somewhere into it, along a path."""
    if path and isinstance(value, list):
        at = path[0] % (len(value) + 1)
        return [*value[:at], place(value[at], path[1:], leaf) if at < len(value) else leaf, *value[at + 1 :]]
    if path and isinstance(value, dict):
        keys = [*value, "new"]
        key = keys[path[0] % len(keys)]
        return value | {key: place(value.get(key), path[1:], leaf)}
    return leaf


@settings(max_examples=300, deadline=None)
@given(JSON, st.lists(st.integers(0, 5), max_size=4), st.sampled_from(VALUES), TEXT, TEXT, st.integers(0, 3))
def test_a_value_is_found_wherever_it_is_put(
    tree: Any, path: list[int], pair: tuple[str, str], before: str, behind: str, levels: int
) -> None:
    """Personal data would leave from some depth, some neighbourhood, some JSON in JSON."""
    text, value = pair
    made = place(tree, path, f"{before} {text} {behind}")
    for _ in range(levels):
        made = {"content": json.dumps(made, ensure_ascii=levels % 2 == 0)}
    shown = R.value(made)
    assert value not in _all_text(shown)
    assert value not in _all_text(json.loads(R.text(json.dumps(made))))


def _all_text(value: Any) -> str:
    """Return all texts of a value, JSON in texts read."""
    if isinstance(value, str):
        try:
            inner = json.loads(value)
        except ValueError:
            return value
        return value if isinstance(inner, int | float) else f"{value}\0{_all_text(inner)}"
    if isinstance(value, dict):
        return "\0".join(f"{key}\0{_all_text(item)}" for key, item in value.items())
    return "\0".join(map(_all_text, value)) if isinstance(value, list) else ""


@settings(max_examples=300, deadline=None)
@given(JSON, st.lists(st.integers(0, 5), max_size=4), st.sampled_from(look_alikes()))
def test_a_look_alike_stays_wherever_it_is_put(tree: Any, path: list[int], alike: str) -> None:
    """A hash or a version would arrive changed at some depth."""
    made = place(tree, path, alike)
    if R.value(tree) is tree:
        assert R.value(made) is made


@settings(max_examples=500, deadline=None)
@given(NOISE | TEXT)
def test_whatever_is_not_found_stays_byte_for_byte(text: str) -> None:
    """A text without anything would arrive written in another way; or what was replaced would be replaced again."""
    shown = R.text(text)
    if "[redacted:" not in shown:
        assert shown == text
    assert R.text(shown) == shown


@settings(max_examples=300, deadline=None)
@given(CLEAN)
def test_json_that_is_clean_is_the_same_object(value: Any) -> None:
    """Every row would be built anew, or numbers and white space would change."""
    shown = R.value(value)
    assert shown == value
    assert R.text(json.dumps(value, indent=1)) == json.dumps(value, indent=1)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(VALUES), st.sampled_from(VALUES), TEXT, TEXT)
def test_two_ids_never_become_one(one: tuple[str, str], other: tuple[str, str], before: str, behind: str) -> None:
    """Two sessions would be one in Kelet; or one session would be two."""
    first, second = f"{before}{one[0]}{behind}", f"{before}{other[0]}{behind}"
    assert (R.identifier(first) == R.identifier(second)) == (first == second)


def test_ids_that_differ_in_escapes_stay_apart() -> None:
    """`a%40b.example` and `a@b.example` are two sessions."""
    ids = ["a@b.example", "a%40b.example", "a\\u0040b.example", "A@b.example", "a@b.example "]
    assert len({R.identifier(one) for one in ids}) == len(ids)
    assert all("b.example" not in R.identifier(one) for one in ids)


def test_pseudonyms_are_the_same_for_the_same_value() -> None:
    """A user could not be followed from a session to a text; or the value could be read from the pseudonym."""
    by_name = redactor(replacement="pseudonym")
    (shown,) = {
        by_name.text(text).removesuffix(" said").strip('"')
        for text in ("a@b.example said", '"a@b.example"', "a%40b.example", "a\\u0040b.example")
    }
    assert shown == by_name.identifier("a@b.example") == R.identifier("a@b.example")
    assert by_name.text("c@b.example") != shown
    assert R.text("a@b.example") == "[redacted:email]"


@settings(max_examples=300, deadline=None)
@given(NOISE, st.integers(0, 60), st.integers(1, 60))
def test_decoding_knows_the_way_back(text: str, start: int, length: int) -> None:
    """The wrong part of a text would be replaced."""
    data = text.encode()
    decoded = decode(data)
    if decoded is None or start >= len(decoded.data):
        return
    end = min(start + length, len(decoded.data))
    begin, stop = decoded.origin(start, end)
    assert 0 <= begin < stop <= len(data)
    again = decode(data[begin:stop])
    assert decoded.data[start:end] in (data[begin:stop] if again is None else again.data)


LARGE = 1 << 16
HOSTILE = (
    "a", "a@", "a@b.", "a@b.co ", "4", "4 4444 ", "4111 1111 1111 1111 ", "+1 ", "+49 170 12345 ", " 1", "00 1 ",
    "de12", "DE12 ", "1.1.1.1.", "::", "1:", "2001:db8::1 ", "-----BEGIN PRIVATE KEY-----", "eyJ", "eyJhbGciOjF9.a ",
    "://", "a://b:c@", "?token=", "&sig=aaaaa", "sk-", "\\", "\\\\na@b.co", "%2525", "%41", "a\\u0040b.co", "[",
    '{"a":', '"', "123-45-6789-", "AKIA", "secret key=", "&#64;", "ü@é.", "\\u", "\\ud83d", "\0", "\u2028",
)  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_anything_takes_linear_time(piece: str) -> None:
    """A stranger's text would stop the worker for minutes: four times the text must not take sixteen times as long."""
    took: list[list[float]] = [[], []]
    for _ in range(3):
        for size, times in zip((LARGE // 4, LARGE), took, strict=True):
            text = (piece * (size // len(piece.encode()) + 1))[:size]
            gc.disable()  # a collection takes as long as what all tests hold, and a large text causes one each time
            began = time.process_time()
            try:
                R.text(text)
            except RedactionFailed:
                return  # too many candidates: nothing of it is sent
            finally:
                times.append(time.process_time() - began)
                gc.enable()
        small, large = min(took[0]), min(took[1])
        if large < 0.2 or large < 10 * small:
            return
    pytest.fail(f"{small:.3f} s of CPU became {large:.3f} s with four times the text")


def test_a_million_bytes() -> None:
    """A text of a million bytes would be refused, or its values sent."""
    for text in ("x" * (1 << 20), "a@b.example " * (1 << 16), "\\n" * (1 << 19), "[" * (1 << 20)):
        assert "@" not in R.text(text)


@pytest.mark.parametrize("opener", ["[", '{"a":', '[{"a":'])
def test_deep_nesting_is_no_end(opener: str) -> None:
    """A text that nests a hundred thousand deep would end the program; or hide a value."""
    text = opener * 100_000 + '"alice@example.com"'
    assert "alice" not in R.text(text)
    value: Any = "alice@example.com"
    for level in range(100):
        value = {"a": value} if level % 2 else [value]
    shown = R.value(value)
    assert "alice" not in str(shown)
    assert "[redacted:email]" in str(shown)


def test_json_in_json_as_deep_as_it_goes() -> None:
    """A value would leave that was written as JSON text many times over."""
    text = "my mail\nalice@example.com"
    for _ in range(10):
        text = json.dumps({"t": text})
    assert "alice" not in R.text(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "half \ud83d of a pair"},
        {"input": '{"a": "half \\ud83d of a pair"}'},
        {"metadata": {"a": ["\udc00"]}},
        {"name": "\ud800"},
        {"session_id": "\ud800"},
        {"tags": ("\ud800",)},
        {"had_surrogates": True},
        {"output": "x" * (MAX_TEXT + 1)},
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_what_cannot_be_checked_is_refused_without_its_content(fields: dict[str, Any]) -> None:
    """It would be sent unchecked; or the reason would repeat it."""
    with pytest.raises(RedactionFailed) as failure:
        protection().observation(observation(**fields))
    assert len(str(failure.value)) < 100
    assert "half \ud83d" not in str(failure.value)


def test_half_a_pair_that_parsing_replaced_is_still_known() -> None:
    """An observation with half a surrogate pair would pass, since parsing makes U+FFFD of it."""
    for changes in (
        {"input": "a \ud83d"},
        {"metadata": {"a": [{"b": "\ud83d"}]}},
        {"tags": ["\ud83d"]},
        {"name": "\ud83d"},
    ):
        (parsed, clean), _ = parse_all([row(**changes), row(input="\ufffd 😀")], parse_v2_observation)
        with pytest.raises(RedactionFailed, match="half a surrogate pair"):
            protection().observation(parsed)
        assert protection().observation(clean) is clean


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"\bEMP-\d{6}\b", "EMP-123456"),
        ("^EMP-[0-9]{6}$", "EMP-123456"),
        (r"(?i)(kdnr\.?)\s*\d{5}", "Kdnr. 12345"),
        (r"[\^$\]b]x\$", "^x$"),
        (r"[]a]{3}", "]a]"),
        (r"[^]a]{3}é", "bcdé"),
        (r"\Q^$\E[[:digit:]]+", "^$12"),
        ("(?m)^Name: .*$", "Name: Alice"),
        ("Zürich", "Zürich"),
        ("a\nb", "a\nb"),
    ],
)
def test_patterns_of_ones_own_are_found_in_all_the_same_places(pattern: str, text: str) -> None:
    """An operator's pattern would find nothing behind an escaped line break: the gate would close before it."""
    assert why_not(pattern) is None
    assert compile_re2(without_assertions(pattern)).search(f"x{text}y".encode()) is not None
    own = redactor("email", patterns=(("staff", pattern),))
    for made in (
        text,
        json.dumps({"a": text}),
        json.dumps({"a": json.dumps([text])}),
        json.dumps([text], ensure_ascii=False),
    ):
        assert "[redacted:staff]" in own.text(made), made
    shown = protection("none", patterns=(("staff", pattern),)).observation(
        observation(metadata={"a": [text]}, name=text)
    )
    assert shown.name == "[redacted:staff]"
    assert shown.metadata == {"a": ["[redacted:staff]"]}


@pytest.mark.parametrize("pattern", ["(", "a**", "(?=a)", r"\1", "[z-a]", "", "a*", "x?", "^"])
def test_patterns_that_cannot_be_used_are_named(pattern: str) -> None:
    """A pattern would be taken that never matches, or that matches everywhere."""
    assert why_not(pattern)


def test_numbers_and_patterns_of_ones_own() -> None:
    """A staff number would leave because it is a JSON number."""
    own = redactor("email", patterns=(("staff", r"^77\d{4}$"),))
    assert own.value({"a": 771234, "b": 7712345}) == {"a": "[redacted:staff]", "b": 7712345}
    assert own.text('{"a":771234,"b":7712345}') == '{"a":"[redacted:staff]","b":7712345}'


def test_keys_of_one_object_take_linear_time() -> None:
    """Metadata with many addresses as keys would stop the worker for minutes, all the more where they become one."""
    took = []
    for count in (1_000, 8_000):
        began = time.process_time()
        shown = R.value({f"a{number}@b.example": number for number in range(count)})
        took.append(time.process_time() - began)
        assert sorted(shown.values()) == list(range(count))
    assert took[1] < 24 * took[0]


@pytest.mark.parametrize("wrap", [str, lambda text: json.dumps([text, "%2541"]), lambda text: json.dumps({"a": text})])
@pytest.mark.parametrize("piece", ["::1 ", "10.0.0.1 ", "a@b.co ", "4111 1111 1111 1112 "])
def test_escapes_within_escapes_do_not_multiply_the_work(piece: str, wrap: Callable[[str], str]) -> None:
    """One escape of an escape had each candidate of a large text checked at every level: a quarter of a minute."""
    with pytest.raises(RedactionFailed):
        LIMITED.text(wrap(piece * (100_000 // len(piece)) + "%25252525252541"))


def test_many_strings_are_as_much_work_as_one_text() -> None:
    """Each string of a JSON text had a limit of its own, so there was none."""
    dense = json.dumps(["a@b.co%252541"] * (MOST_WORK // 10 // 4))
    with pytest.raises(RedactionFailed):
        LIMITED.text(dense)
    usual = json.dumps([f"someone.{number}@mail.example.com" for number in range(30_000)])  # a megabyte of addresses
    assert "mail.example" not in R.text(usual)
