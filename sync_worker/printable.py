"""Escapes control and invisible characters in untrusted text before it is printed.

Ids, names, reasons, responses, settings and file names come from outside. A terminal interprets ESC, a line break ends
a log entry, and bidirectional or zero-width characters make a text look like another one (Unicode Technical Report 36,
"Unicode Security Considerations"). Visible characters stay as they are, in every script.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import TextIO

# Controls; formats, among them bidi controls, zero-width characters and tags; halves of surrogate pairs; private use;
# separators of lines and paragraphs.
_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_JOINER = "\u200d"  # joins several emoji into one
_STYLES = "\ufe0e\ufe0f"  # whether the preceding character is shown as text or as an emoji


def escape(text: str) -> str:
    r"""Return a text with escapes (`\n`, `\x1b`, `\u202e`) for control and invisible characters."""
    return text if text.isascii() and text.isprintable() else "".join(_python_escape(char) for char in _mark(text))


def escape_json(text: str) -> str:
    r"""Return JSON with escapes (`\u202e`) for control and invisible characters; its own line breaks stay.

    `json.dumps` escapes everything below a space, so remaining line breaks are between tokens.
    """
    return text if text.isascii() and "\x7f" not in text else "".join(_json_escape(char) for char in _mark(text))


def supports_unicode(stream: TextIO | None) -> bool:
    """Whether a stream can encode every character; others would write escapes that are not JSON's."""
    return stream is not None and (stream.encoding or "").lower().replace("-", "").startswith("utf")


def is_printable(text: str) -> bool:
    """Whether `escape` leaves a text unchanged."""
    return escape(text) == text


def _mark(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each character, and whether it is to be escaped."""
    for at, char in enumerate(text):
        before, after = text[at - 1 : at] if at else "", text[at + 1 : at + 2]
        yield char, _is_invisible(char, before, after)


def _is_invisible(char: str, before: str, after: str) -> bool:
    code = ord(char)
    if code < 0x7F:
        return code < 0x20
    if char == _JOINER:
        return not (_is_one_of(before, {"So", "Sk"}) and _is_one_of(after, {"So", "Sk"}))
    if char in _STYLES:
        return not (_is_one_of(before, {"So", "Sk", "Sm", "Po", "Pd"}) or before in {*"0123456789#*"})
    category = unicodedata.category(char)
    if category == "Cn":  # not assigned: emoji of a newer Unicode than this Python's are visible, these are not
        return not 0x1F000 <= code <= 0x1FBFF and (code >= 0xE0000 or code & 0xFFF0 == 0xFFF0 or code == 0x2065)
    return category in _CATEGORIES or _is_default_ignorable(code)


def _is_one_of(char: str, categories: set[str]) -> bool:
    """Whether a character may be a part of an emoji; a style before a joiner is one."""
    if not char or char.isascii():
        return False
    return char in _STYLES or unicodedata.category(char) in categories or 0x1F000 <= ord(char) <= 0x1FBFF


def _is_default_ignorable(code: int) -> bool:
    """Whether a letter or mark is invisible: Unicode's Default_Ignorable_Code_Point outside the categories above."""
    return (
        code in {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0}
        or 0x180B <= code <= 0x180F
        or 0xFE00 <= code <= 0xFE0F
        or 0xE0100 <= code <= 0xE01EF
    )


def _python_escape(marked: tuple[str, bool]) -> str:
    char, invisible = marked
    return char.encode("unicode_escape").decode("ascii") if invisible else char


def _json_escape(marked: tuple[str, bool]) -> str:
    char, invisible = marked
    if not invisible or char == "\n":
        return char
    code = ord(char)
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
