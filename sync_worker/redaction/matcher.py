"""All matches of the rules in a text, by google-re2: in time linear in the text, whatever a stranger wrote."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sync_worker.redaction.decoding import MOST_LEVELS, Decoded, decode
from sync_worker.redaction.detectors import ANY_ESCAPE, ESCAPED, READY, Detector, own
from sync_worker.redaction.rules import Rules

#: Letters of an escape behind its first backslash, and one more.
_LONGEST_ESCAPE = 7
_MOST_CANDIDATES = 250_000  # in a text: seconds of work
_MEMORY = 64 * 1024 * 1024  # bytes that RE2 may use for the states of an expression


class NoRe2Error(Exception):
    """google-re2 is not installed."""


class PatternError(Exception):
    """An expression that RE2 refuses; the message is RE2's."""


class TooManyError(Exception):
    """A text has more candidates than can be checked in a bearable time."""


@dataclass(frozen=True, slots=True)
class Match:
    """A place in a text, in bytes of UTF-8; `value` is what stands there, escapes undone."""

    start: int
    end: int
    name: str
    value: bytes


def compile_re2(pattern: str, *, captures: bool = True) -> Any:
    """Return the compiled expression. Raises NoRe2Error or PatternError."""
    re2 = _re2()
    try:
        return re2.compile(pattern, _options(re2, captures=captures))
    except re2.error as error:
        told = error.args[0] if error.args else error
        raise PatternError(told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)) from None


def _re2() -> Any:
    try:
        import re2  # noqa: PLC0415 - only where there are rules
    except ImportError as error:
        raise NoRe2Error(str(error)) from error
    return re2


def is_there() -> bool:
    """Whether google-re2 is installed."""
    try:
        _re2()
    except NoRe2Error:
        return False
    return True


def _options(re2: Any, *, captures: bool) -> Any:
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    options.never_capture = not captures
    return options


def why_not(pattern: str) -> str | None:
    """Return why a pattern cannot be used, None where it can. Raises NoRe2Error."""
    try:
        compiled = compile_re2(pattern)
        compile_re2(own("", pattern).gate)
    except PatternError as error:
        return str(error)
    return "it matches an empty text" if compiled.search(b"") is not None else None


@lru_cache(maxsize=8)
def matcher(detectors: Sequence[str], patterns: Sequence[tuple[str, str]]) -> Matcher:
    """Return the matcher of these rules. Raises NoRe2Error or PatternError."""
    return Matcher(detectors, patterns)


def matcher_of(rules: Rules) -> Matcher:
    """Return the matcher of rules, which sources with the same ones share. Raises NoRe2Error or PatternError."""
    return matcher(rules.detectors, rules.patterns)


class Matcher:
    """Finds what the rules look for."""

    def __init__(self, names: Sequence[str], patterns: Sequence[tuple[str, str]]) -> None:
        chosen = [one for one in READY if one.name in names]
        chosen += [own(name, pattern) for name, pattern in patterns]
        gates = [ANY_ESCAPE if patterns else ESCAPED, *(f"(?:{one.gate})" for one in chosen)]
        self._gate = compile_re2("|".join(gates), captures=False)
        self._detectors: list[tuple[Detector, Any]] = [(one, compile_re2(one.pattern)) for one in chosen]
        re2 = _re2()
        self._which = re2.Set.SearchSet(_options(re2, captures=False))
        for one in chosen:
            self._which.Add(one.pattern)
        self._which.Compile()
        self.finds_keys = "api_key" in names
        self.has_patterns = bool(patterns)

    def may_match(self, data: bytes) -> bool:
        """Whether there may be a match in a text, as it is or escaped."""
        return self._gate.search(data) is not None

    def find(self, data: bytes) -> list[Match]:
        """Return all matches in a text, in order and apart from each other; escapes are undone, level by level."""
        found = self._found(data, ())
        ways: list[Decoded] = []
        view = data
        while len(ways) < MOST_LEVELS and (decoded := decode(view)) is not None:
            ways.append(decoded)
            view = decoded.data
            found += self._found(view, ways)
        return merged(_without_escapes(found, data) if ways else found)

    def _found(self, view: bytes, ways: Sequence[Decoded]) -> list[Match]:
        found: list[Match] = []
        candidates = 0
        for number in self._which.Match(view) or ():
            detector, expression = self._detectors[number]
            for candidate in expression.finditer(view):
                candidates += 1
                if candidates > _MOST_CANDIDATES:
                    raise TooManyError
                for start, end in detector.check(view, *candidate.span()):
                    value = view[start:end]
                    for way in reversed(ways):
                        start, end = way.origin(start, end)  # noqa: PLW2901 - one step further back
                    found.append(Match(start, end, detector.name, value))
        return found


def merged(matches: Iterable[Match]) -> list[Match]:
    """Return matches in order; those that overlap become one, under the name and with the value of the longest.

    What looks like an address of mail behind credentials, `user:password@host`, is a part of these and of a host.
    """
    made: list[Match] = []
    for match in sorted(matches, key=lambda one: (one.start, one.name == "email", -one.end)):
        if not made or match.start >= made[-1].end:
            made.append(match)
            continue
        last = made[-1]
        if last.name == "url_credentials" and match.name == "email":
            continue
        longest = max(last, match, key=lambda one: one.end - one.start)
        made[-1] = Match(last.start, max(last.end, match.end), longest.name, longest.value)
    return made


def _without_escapes(found: list[Match], data: bytes) -> list[Match]:
    r"""Return matches without the letters of an escape that they begin with, as of `\n` in front of an address.

    That is so where the same match was found behind them when escapes were undone.
    """
    begins: dict[int, int] = {}  # the start of each match, and where the longest that starts there ends
    for match in found:
        begins[match.start] = max(match.end, begins.get(match.start, 0))
    made: list[Match] = []
    for match in found:
        is_escape = data[match.start - 1 : match.start] == b"\\"
        behind = range(match.start + 1, match.start + _LONGEST_ESCAPE) if is_escape else ()
        start = next((at for at in behind if begins.get(at, 0) >= match.end), match.start)
        made.append(Match(start, match.end, match.name, match.value[start - match.start :]))
    return made
