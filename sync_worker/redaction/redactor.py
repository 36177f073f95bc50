"""Replaces what the rules find: in texts, in JSON in texts, in values at any depth, in ids."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, Final

import msgspec

from sync_worker.redaction.matcher import MOST_WORK, Effort, Match, Matcher, TooManyError, matcher_of
from sync_worker.redaction.protection import RedactionFailed
from sync_worker.redaction.pseudonyms import pseudonym
from sync_worker.redaction.redaction_rules import RedactionRules

#: Bytes of one text; what is larger cannot be checked in a bearable time.
MAX_TEXT: Final = 16 * 1024 * 1024
#: JSON in JSON text is read so deep; each level needs twice the backslashes of the one above.
_MOST_NESTED: Final = 24

#: Strings, with what makes a key of one, and numbers of JSON text.
_TOKEN = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")([ \t\n\r]*:)?|-?[0-9][0-9.eE+\-]*', re.DOTALL)
_HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_SHORTEST = 6  # characters of a text that can hold something, its quotes not counted
_CARD_DIGITS = range(13, 20)
#: Keys whose values name a session or a user: two of them must never become one.
_NAMES_SOMEBODY = re.compile(r"(?:session|user|conversation|thread|enduser)[._\-]?(?:id)?\Z", re.IGNORECASE)
_NAMES_A_SECRET = re.compile(r"secret[._\- ]?(?:access)?[._\- ]?key\Z", re.IGNORECASE)
_SECRET_OF_AWS = re.compile(r"[A-Za-z0-9/+]{40}")
#: Behind a number of JSON in a text that is no JSON as a whole.
_BEHIND_A_VALUE = frozenset({b",", b"}", b"]", b" ", b"\n", b"\r", b""})
_MOST_SPACE = 40  # bytes between a key and its number

_READ = json.JSONDecoder(strict=False).decode
_WRITE, _WRITE_ASCII = json.JSONEncoder(ensure_ascii=False).encode, json.JSONEncoder(ensure_ascii=True).encode


class Redactor:
    """Replaces by one set of rules. Every method raises RedactionFailed for what it cannot check."""

    def __init__(
        self, rules: RedactionRules, key: bytes, replaced: Counter[str] | None = None, most_work: int = MOST_WORK
    ) -> None:
        """`key` makes pseudonyms, `replaced` counts matches by detector, `most_work` limits the work on one text.

        Raises NoRe2Error or PatternError.
        """
        self._count: Counter[str] = Counter() if replaced is None else replaced
        self._matcher: Matcher = matcher_of(rules)
        self._key = key
        self._most_work = most_work
        self._is_label = rules.replacement == "label"
        self.may_match = self._matcher.may_match

    def text(self, text: str, key: str = "") -> str:
        """Return a text with everything replaced, also in JSON that it is; unchanged where there is nothing.

        `key` is the key that it is the value of, if any.
        """
        return self._text(text, key, 0, Effort(self._most_work))

    def identifier(self, text: str) -> str:
        """Return an id with a pseudonym for each match, so that two ids never become one."""
        data = _encoded(text)
        if not self._matcher.may_match(data):
            return text
        return self._replaced(data, self._find(data, Effort(self._most_work)), as_pseudonym=True)

    def value(self, value: Any, key: str = "") -> Any:
        """Return a JSON value with everything replaced, keys and numbers too; the same object where there is nothing.

        Of two keys that become one, the second gets a number: nothing is dropped.
        """
        if isinstance(value, str):
            return self.text(value, key)
        if isinstance(value, dict):
            return self._object(value)
        if isinstance(value, list | tuple):
            items = [self.value(item, key) for item in value]
            return value if all(new is old for new, old in zip(items, value, strict=True)) else items
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._number(value, repr(value), Effort(self._most_work))
        return value

    def _object(self, value: dict[Any, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        counts: Counter[str] = Counter()
        is_changed = False
        for key, item in value.items():
            new_key = self.text(key) if isinstance(key, str) else key
            new = self.value(item, key if isinstance(key, str) else "")
            is_changed = is_changed or new is not item or new_key is not key
            if new_key is not key:
                plain = new_key
                while new_key in made or new_key in value:
                    counts[plain] += 1
                    new_key = f"{plain}#{counts[plain] + 1}"
            made[new_key] = new
        return made if is_changed else value

    def _number(self, value: float, text: str, effort: Effort) -> Any:
        """Return a number, or what stands for it."""
        digits = ""
        if isinstance(value, int) or (abs(value) < 1e19 and value.is_integer()):
            digits = str(abs(int(value))) if abs(value) < 10**40 else ""
        if len(digits) not in _CARD_DIGITS and not self._matcher.has_patterns:
            return value
        data = (digits or text).encode()
        found = self._find(data, effort)
        if not found and self._matcher.has_patterns and digits and digits != text:
            data = text.encode()
            found = self._find(data, effort)
        return self._replaced(data, found) if found else value

    def _text(self, text: str, key: str, depth: int, effort: Effort, *, passed: bool = False) -> str:
        """Return a text with everything replaced; `passed` if it is known to have passed the gate."""
        data = _encoded(text)
        if key and _NAMES_A_SECRET.search(key) and _SECRET_OF_AWS.fullmatch(text):
            return self._replaced(data, [Match(0, len(data), "api_key", data)]) if self._matcher.finds_keys else text
        if not passed and not self.may_match(data):
            return text
        if key and _NAMES_SOMEBODY.search(key):
            return self._replaced(data, self._find(data, effort), as_pseudonym=True)
        if data.lstrip()[:1] in {b"{", b"[", b'"'} and depth < _MOST_NESTED and _is_json(data):
            return self._json(text, depth, effort)
        found = self._find(data, effort)
        return self._replaced(data, found) if found else text

    def _json(self, text: str, depth: int, effort: Effort) -> str:
        """Return JSON text with replacements inside of its strings and for its numbers; all else stays as it is."""
        pieces: list[str] = []
        keys: Counter[str] = Counter()
        at, key = 0, ""
        for token in _TOKEN.finditer(text):
            string, colon = token.group(1, 2)
            if string is None:
                new = self._number_token(token[0], effort)
                old = token[0]
            else:
                old, new = string, self._string_token(string, key, depth, effort)
                if colon:
                    key = string[1:-1]
                    if new != old:
                        keys[new] += 1
                        new = new if keys[new] == 1 else f'{new[:-1]}#{keys[new]}"'
            if not colon:
                key = ""
            if new != old:
                pieces += [text[at : token.start()], new]
                at = token.start() + len(old)
        return "".join([*pieces, text[at:]]) if pieces else text

    def _string_token(self, token: str, key: str, depth: int, effort: Effort) -> str:
        if len(token) < _SHORTEST + 2 and not self._matcher.has_patterns:
            return token
        if "\\" in token:
            plain = _READ(token)
            new = self._text(plain, key, depth + 1, effort)
        else:
            plain = token[1:-1]
            passed = self.may_match(plain.encode())
            if not passed and not (key and _NAMES_A_SECRET.search(key)):
                return token
            new = self._text(plain, key, depth + 1, effort, passed=passed)
        return token if new == plain else (_WRITE_ASCII if token.isascii() else _WRITE)(new)

    def _number_token(self, token: str, effort: Effort) -> str:
        if len(token) < _CARD_DIGITS[0] and not self._matcher.has_patterns:
            return token
        if len(token) > _MOST_SPACE:
            new: Any = self._text(token, "", _MOST_NESTED, effort)
            return token if new == token else json.dumps(new)
        value = json.loads(token)
        new = self._number(value, token, effort)
        return token if new is value else json.dumps(new)

    def _find(self, data: bytes, effort: Effort) -> list[Match]:
        try:
            return self._matcher.find(data, effort)
        except TooManyError:
            raise RedactionFailed("a text holds more candidates than can be checked") from None

    def _replaced(self, data: bytes, found: list[Match], *, as_pseudonym: bool = False) -> str:
        """Return a text with its matches replaced; in ids, values count as they are written, escapes and all."""
        pieces: list[bytes] = []
        at = 0
        for match in found:
            value = data[match.start : match.end] if as_pseudonym else match.value
            new = f"[redacted:{match.name}]"
            if as_pseudonym or not self._is_label:
                new = f"[redacted:{match.name}:{pseudonym(self._key, match.name, value)}]"
            quote = b"" if as_pseudonym else _quote_of(data, match)
            self._count[match.name] += 1
            pieces += [data[at : match.start], quote, new.encode(), quote]
            at = match.end
        pieces.append(data[at:])
        return b"".join(pieces).decode()


def _encoded(text: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise RedactionFailed("it holds half a surrogate pair") from None
    if len(data) > MAX_TEXT:
        raise RedactionFailed(f"a text of {len(data):,} bytes is too large to be checked")
    return data


def _is_json(data: bytes) -> bool:
    """Whether a text is JSON as a whole. Half surrogate pairs, where msgspec stops, are found when a string is read."""
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except (ValueError, RecursionError):
        if _HALF_A_PAIR.search(data) is None:
            return False
        try:
            _READ(data.decode())
        except (ValueError, RecursionError):
            return False
    return True


def _quote_of(data: bytes, match: Match) -> bytes:
    """Return the quote that a number needs where JSON is a part of a text: without, the JSON would be none."""
    if not match.value.isdigit():
        return b""
    before = data[max(0, match.start - _MOST_SPACE) : match.start].rstrip(b" \t")
    key = before.removesuffix(b":").rstrip(b" \t")
    if not before.endswith(b":") or not key.endswith(b'"') or data[match.end : match.end + 1] not in _BEHIND_A_VALUE:
        return b""
    return key[len(key[:-1].rstrip(b"\\")) :]
