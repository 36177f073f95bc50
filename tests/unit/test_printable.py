"""What a terminal, a log and JSON are shown of text from outside."""

from __future__ import annotations

import json
import unicodedata

import pytest

from sync_worker.printable import escape, escape_json

#: One of each kind that steers a terminal, ends a line, turns the writing round or cannot be seen.
HOSTILE = (
    "\0\a\b\t\n\v\f\r\x1b\x1f\x7f\x80\x85\x9b\x9d\u00ad\u034f\u061c\u115f\u180e\u200b\u200c\u200d\u200e\u200f"
    "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\u3164\ufe0f\ufeff\ufff9\U000e0001"
    "\U000e0041\U000e007f\U000e0101\ud800\udfff\ue000\uffff"
)


@pytest.mark.parametrize("char", HOSTILE, ids=lambda char: f"{ord(char):x}")
def test_nothing_unseen_gets_through(char: str) -> None:
    """A name could move the cursor, forge a line of the log, or look like another name."""
    shown = escape(f"a{char}b")
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.startswith("a\\")
    text = escape_json(json.dumps(f"a{char}b", ensure_ascii=False))
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == f"a{char}b"


def test_every_control_and_format_of_unicode_is_escaped() -> None:
    """A format character of another plane than the ones thought of would get through."""
    codes = [code for code in range(0x110000) if unicodedata.category(chr(code)) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    assert [hex(code) for code in codes if not escape(chr(code)).isascii()] == []


@pytest.mark.parametrize(
    "text",
    ["", "plain", "é ü ñ", "日本語", "Ελληνικά", "עברית", "हिन्दी", "e\u0301", "→ … — “x”", "👍", "👍🏽", "❤️", "👩‍👩‍👧",
     "🏳️‍🌈", "1️⃣", "🇩🇪", "back\\slash", "\U0001fae9"],
)  # fmt: skip
def test_what_can_be_seen_stays(text: str) -> None:
    """Names in other scripts than Latin could not be read any more."""
    assert escape(text) == text
    assert json.loads(escape_json(json.dumps(text, ensure_ascii=False))) == text


def test_json_keeps_its_own_lines() -> None:
    """JSON over several lines would stop being JSON."""
    value = {"a": ["\u202e", "\x1b\n"], "b": {"\u2066": 1}}
    text = escape_json(json.dumps(value, indent=2, ensure_ascii=False))
    assert json.loads(text) == value
    assert len(text.splitlines()) == 9
