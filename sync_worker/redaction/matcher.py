"""All matches of the rules in a text, by google-re2: in time linear in the text, whatever a stranger wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sync_worker.expressions import PatternError, compile_re2, import_re2, options
from sync_worker.redaction.decoding import MOST_LEVELS, Decoded, decode
from sync_worker.redaction.detectors import ANY_ESCAPE, ESCAPED, READY, Detector, own
from sync_worker.redaction.redaction_rules import RedactionRules

#: Letters of an escape behind its first backslash, and one more.
_LONGEST_ESCAPE = 7
#: Work on one text: candidates, and texts in it, each at every level of escapes; some 10 µs each.
MOST_WORK = 125_000
#: Detectors whose candidates are as long as there are digits, and are checked group by group.
_OF_GROUPS = frozenset({"card", "phone"})
_BYTES_OF_WORK = 16
_ESCAPES_OF_WORK = 32


class TooManyError(Exception):
    """A text has more candidates than can be checked in a bearable time."""


@dataclass(slots=True)
class Effort:
    """What is left of the work on one text, whatever is nested in it."""

    left: int


@dataclass(frozen=True, slots=True)
class Match:
    """A place in a text, in bytes of UTF-8; `value` is what stands there, escapes undone."""

    start: int
    end: int
    name: str
    value: bytes


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


def matcher_of(rules: RedactionRules) -> Matcher:
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
        self._which = import_re2().Set.SearchSet(options(captures=False))
        for one in chosen:
            self._which.Add(one.pattern)
        self._which.Compile()
        self.finds_keys = "api_key" in names
        self.has_patterns = bool(patterns)

    def may_match(self, data: bytes) -> bool:
        """Whether there may be a match in a text, as it is or escaped."""
        return self._gate.search(data) is not None

    def find(self, data: bytes, effort: Effort) -> list[Match]:
        """Return all matches in a text, in order and apart from each other; escapes are undone, level by level.

        Raises TooManyError where no work is left.
        """
        found = self._found(data, (), effort)
        ways: list[Decoded] = []
        view = data
        while len(ways) < MOST_LEVELS and (decoded := decode(view)) is not None:
            ways.append(decoded)
            view = decoded.data
            effort.left -= decoded.segments // _ESCAPES_OF_WORK
            found += self._found(view, ways, effort)
        return merged(_without_escapes(found, data) if ways else found)

    def _found(self, view: bytes, ways: Sequence[Decoded], effort: Effort) -> list[Match]:
        found: list[Match] = []
        left = effort.left - 1
        for number in self._which.Match(view) or ():
            detector, expression = self._detectors[number]
            for candidate in expression.finditer(view):
                begin, stop = candidate.span()
                left -= 1 + ((stop - begin) // _BYTES_OF_WORK if detector.name in _OF_GROUPS else 0)
                if left < 0:
                    raise TooManyError
                for start, end in detector.check(view, begin, stop):
                    value = view[start:end]
                    for way in reversed(ways):
                        start, end = way.origin(start, end)  # noqa: PLW2901 - one step further back
                    found.append(Match(start, end, detector.name, value))
        effort.left = left
        return found


def merged(matches: list[Match]) -> list[Match]:
    """Return matches in order; those that overlap become one, under the name and with the value of the longest.

    What looks like an address of mail behind credentials, `user:password@host`, is a part of these and of a host.
    """
    if len(matches) < 2:
        return matches
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
