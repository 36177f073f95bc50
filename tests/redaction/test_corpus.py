"""What must be found is found wherever it stands; what must not be is left as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from sync_worker.redaction.redaction_rules import DETECTORS
from tests.redaction.corpus import LOOK_ALIKES, PLANTED, look_alikes, planted
from tests.redaction.made import in_context, observation, protection, redactor

R = redactor()
FOUND = planted()
ALIKE = look_alikes()


def escaped(text: str) -> str:
    """Return a text as JSON that escapes everything but letters of words."""
    return "".join(
        f"\\u{ord(character):04x}" if character in "@+.-:/ 0123456789\n" else character for character in text
    )


def nested(text: str) -> str:
    """Return a text in JSON in JSON text."""
    return json.dumps({"role": "tool", "content": json.dumps({"rows": [{"cell": f"\n{text}\t"}]})})


#: Where a value may stand. `{}` in a sentence is its place.
WAYS: dict[str, Callable[[str], str]] = {
    "alone": lambda text: text,
    "sentence": lambda text: f"It is {text}, as you know.",
    "lines": lambda text: f"first\n{text}\nlast",
    "brackets": lambda text: f"({text})",
    "quoted": lambda text: f'"{text}"',
    "json": lambda text: json.dumps({"messages": [{"role": "user", "content": f"Mine: {text}"}]}),
    "json without ascii": lambda text: json.dumps({"a": [f"ü {text} ü"]}, ensure_ascii=False),
    "json in json": nested,
    "json key": lambda text: json.dumps({text: 1, "b": {text: text}}),
    "cut json": lambda text: json.dumps({"a": f"x\n{text}\ny", "b": [1, 2]})[:-3],
    "cut json in json": lambda text: nested(text)[:-4],
    "python": lambda text: repr({"a": [text, 1, None], "b": True}),
    "code": lambda text: f"```json\n{json.dumps({'value': text})}\n```",
    "stream": lambda text: f"data: {json.dumps({'delta': text})}\n\ndata: [DONE]\n",
    "csv": lambda text: f"1;{text};2\n3;4;5\n",
    "html": lambda text: f"<p>{text}</p>",
    "deep": lambda text: "[" * 300 + json.dumps(text) + "]" * 300,
}  # fmt: skip
#: Ways in which the value itself is written otherwise: how, and between what.
ESCAPED: dict[str, tuple[Callable[[str], str], str, str]] = {
    "unicode escapes": (escaped, '{"a": "', '"}'),
    "unicode escapes, cut": (escaped, '{"a": "', " and mo"),
    "percent": (lambda text: quote(text, safe=""), "q=", "&x=1"),
    "percent in json": (lambda text: quote(text, safe=""), '{"url": "https://example.com/?q=', '"}'),
    "percent twice": (lambda text: quote(quote(text, safe=""), safe=""), "", ""),
    "html entities": (lambda text: "".join(f"&#{ord(c)};" if c in "@+" else c for c in text), "<p>", "</p>"),
}


def written(way: str, value: str) -> str:
    """Return a value in one of all ways."""
    if way in WAYS:
        return WAYS[way](value)
    encode, before, behind = ESCAPED[way]
    return before + encode(value) + behind


def test_the_corpus_is_as_large_as_promised() -> None:
    """Fewer values would be checked than the page says."""
    assert (len(FOUND), len(set(FOUND)), len(ALIKE), len(set(ALIKE))) == (PLANTED, PLANTED, LOOK_ALIKES, LOOK_ALIKES)
    assert {name for name, _ in FOUND} == set(DETECTORS)


@pytest.mark.parametrize("way", WAYS)
def test_each_planted_value_is_found(way: str) -> None:
    """Personal data would leave from a place like this."""
    for name, value in FOUND:
        text = WAYS[way](in_context(name, value))
        shown = R.text(text)
        assert value not in shown, text
        assert "[redacted:" in shown, text
        if value.isascii() and "\n" not in value:
            assert value.rpartition("@")[0] not in shown or name != "email", text


@pytest.mark.parametrize("way", ESCAPED)
def test_each_planted_value_is_found_where_it_is_escaped(way: str) -> None:
    """Personal data would leave that a reader's program decodes."""
    for name, value in FOUND:
        text = written(way, in_context(name, value))
        shown = R.text(text)
        assert "[redacted:" in shown, text
        core = ESCAPED[way][0](value)
        assert core[len(core) // 3 : 2 * len(core) // 3] not in shown, text


@pytest.mark.parametrize("way", [*WAYS, *(way for way in ESCAPED if "percent" not in way)])
def test_each_look_alike_stays_as_it_is(way: str) -> None:
    """An order number, a version or a hash would arrive changed."""
    changed = [text for value in ALIKE if R.text(text := written(way, value)) != text]
    assert changed == []


@pytest.mark.parametrize("way", ["json", "json in json", "json key", "json without ascii"])
def test_json_stays_json_and_all_else_in_it_stays(way: str) -> None:
    """A receiver could not read what was redacted, or would find other values changed."""
    for name, value in FOUND:
        text = WAYS[way](in_context(name, value))
        shown = json.loads(R.text(text))
        assert json.dumps(shown).count("[redacted:") >= 1
        assert type(shown) is type(json.loads(text))


def test_look_alikes_beside_planted_values_stay() -> None:
    """One value in a text would change its neighbours."""
    for (name, value), alike in zip(FOUND, ALIKE, strict=True):
        shown = R.text(json.dumps({"a": alike, "b": in_context(name, value), "c": [alike, {"d": alike}], "e": 1.50}))
        assert shown.count(json.dumps(alike)) == 3
        assert value not in json.loads(shown)["b"]
        assert shown.endswith('"e": 1.5}')


def _values(value: str, alike: str) -> dict[str, Any]:
    return {"x": [{"y": ({"z": value, "n": [alike, 1, 2.5, None, True]})}], "w": json.dumps([{"deep": value}])}


def test_metadata_at_every_depth() -> None:
    """A value would leave from an object within a list within an object."""
    for (name, value), alike in zip(FOUND, ALIKE, strict=True):
        before = _values(in_context(name, value), alike)
        shown = R.value(before)
        assert value not in json.dumps(shown, ensure_ascii=False).replace("\\n", "\n")
        assert shown["x"][0]["y"]["n"] == [alike, 1, 2.5, None, True]


def test_numbers() -> None:
    """A card would leave as a number; another number would become text."""
    numbers = {"card": 4111111111111111, "float": 4111111111111111.0, "other": 4111111111111112, "ms": 1761234567890}
    assert R.value(numbers) == numbers | {"card": "[redacted:card]", "float": "[redacted:card]"}
    text = '{"a":4111111111111111,"b":[4111111111111111, 17],"c":1.0e5,"d":12345678901234567890123456789}'
    assert R.text(text) == text.replace("4111111111111111", '"[redacted:card]"')
    cut = '{"a": {"b": 4111111111111111, "c": "unfinis'
    assert R.text(cut) == cut.replace("4111111111111111", '"[redacted:card]"')
    assert R.value(10**400) == 10**400


def test_keys_that_become_one_stay_two() -> None:
    """What stands under the second key would be lost."""
    assert R.value({"a@example.com": 1, "b@example.com": 2}) == {"[redacted:email]": 1, "[redacted:email]#2": 2}
    shown = R.text('{"a@example.com":1,"b@example.com":2}')
    assert json.loads(shown) == {"[redacted:email]": 1, "[redacted:email]#2": 2}


def test_each_field_of_an_observation() -> None:
    """A field would be forgotten: each text of an observation may hold a value."""
    kept = {"id", "trace_id", "parent_id", "project_id", "api"}
    value = "alice@example.com"
    fields = observation().__dataclass_fields__
    texts = {
        name: value
        for name in fields
        if name not in kept and "str" in fields[name].type and "dict" not in fields[name].type
    }
    texts["tags"] = (value, "plain")  # type: ignore[assignment]
    values = {
        "metadata": {"a": value, value: 1},
        "model_parameters": {"stop": [value]},
        "usage": {value: 1.0},
        "cost": {value: 2.0},
    }
    shown = protection().observation(observation(**texts, **values))
    for name in (*texts, *values):
        assert value not in str(getattr(shown, name)), name
        assert "[redacted:email" in str(getattr(shown, name)), name
    assert shown.tags[1] == "plain"
    assert (shown.id, shown.trace_id) == ("1" * 16, "2" * 32)


def test_a_version_is_no_address() -> None:
    """A release named 10.20.30.40 would not arrive."""
    shown = protection().observation(observation(release="10.20.30.40", version="203.0.113.7", name="203.0.113.7"))
    assert (shown.release, shown.version, shown.name) == ("10.20.30.40", "203.0.113.7", "[redacted:ip]")
