r"""The ready detectors: what a candidate looks like, and by what sign a text may hold one.

A *gate* is an expression that every text with such a value matches, also where it stands in escaped JSON: in front of
a value, `\n` is a letter to a pattern and a line break to a reader. All gates together are one alternation, which a
text passes in one walk over it. Only texts that match are decoded and searched by the *patterns*, whose candidates
`validation` then checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from sync_worker.redaction import validation
from sync_worker.redaction.countries import IBAN_LENGTHS
from sync_worker.redaction.validation import Place

_SPACES = r"\x{a0}\x{2007}\x{2009}\x{202f}"
_DASHES = r"\x{2010}-\x{2015}"
_BETWEEN = rf"[ \-{_SPACES}{_DASHES}]"  # the digits of a card
_IN_PHONE = rf"[ \-./(){_SPACES}{_DASHES}]"
_DASH = rf"[\-{_DASHES}]"
#: Escapes that may stand where a text begins or breaks.
_ESCAPES = r"\\[abfnrtv]|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|%[0-9A-Fa-f]{2}"
_BEFORE_NUMBER = rf"(?:^\.?|[^0-9.]|[^0-9]\.|{_ESCAPES})"
_BEFORE_WORD = rf"(?:^|[^0-9A-Za-z]|{_ESCAPES})"
_COUNTRIES = f"(?i:{'|'.join(sorted(IBAN_LENGTHS))})"
_IN_QUERY = (
    r"[?&;](?i:api[_\-]?key|access[_\-]?key|access[_\-]?token|auth[_\-]?token|refresh[_\-]?token|id[_\-]?token|token|"
    r"client[_\-]?secret|secret|password|passwd|pwd|signature|sig|x-amz-signature|x-amz-security-token|"
    r"x-goog-signature)="
)
_SECRET_KEY_OF_AWS = r"(?i:secret)[_\-. ]?(?i:access)?[_\-. ]?(?i:key)[\"'\\ ]*[=:]+>?[\"'\\ ]*[A-Za-z0-9/+]{40}"  # noqa: S105

#: Escapes behind which any value may hide; a text with one is decoded before it is searched.
ESCAPED: Final = (
    r"\\u00[2-7aA][0-9a-fA-F]|\\u20[0-2][0-9a-fA-F]|\\u[dD][89a-fA-F]|\\x[2-7][0-9a-fA-F]|\\/|"
    r"%[2-7][0-9a-fA-F]|&#[0-9xX]"
)
#: The same for patterns of which nothing is known.
ANY_ESCAPE: Final = r"\\|%[0-9a-fA-F]{2}|&#[0-9xX]"


@dataclass(frozen=True, slots=True)
class Detector:
    """One kind of value. `check` yields the places to replace in a candidate."""

    name: str
    gate: str
    pattern: str
    check: Callable[[bytes, int, int], Iterator[Place]]


READY: Final = (
    Detector(
        "private_key",
        "PRIVATE KEY",
        r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?"
        r"(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)",
        validation.private_key,
    ),
    Detector(
        "url_credentials",
        rf"://[^\s/?#\"'<>@]+@|{_IN_QUERY}",
        rf"[A-Za-z][A-Za-z0-9+.\-]*://[^\s/?#\"'<>]+@|{_IN_QUERY}[^&\s\"'#<>\\]{{4,}}",
        validation.url_credentials,
    ),
    Detector(
        "jwt", r"eyJ[A-Za-z0-9_\-]+\.", r"eyJ[A-Za-z0-9_\-]{5,}(?:\.[A-Za-z0-9_\-]*){1,4}", validation.jwt,
    ),
    Detector(
        "api_key",
        r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{8}|gh[pousr]_[A-Za-z0-9]{8}|github_pat_|"
        r"sk-(?:ant|proj|svcacct|admin|None|or-v1)-|sk-[A-Za-z0-9]{20}|AIza[A-Za-z0-9_\-]{8}|ya29\.|GOCSPX-|"
        r"xox[a-z]-|xapp-|hooks\.slack|[srp]k_(?:live|test)_[A-Za-z0-9]{8}|whsec_|[sp]k-lf-[A-Za-z0-9\-]{8}|"
        rf"[sp]k[_\-]kelet[_\-]|kelet_[sp]k_|{_SECRET_KEY_OF_AWS}",
        r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,}|"
        r"sk-(?:ant|proj|svcacct|admin|None|or-v1)-[A-Za-z0-9_\-]{16,}|sk-[A-Za-z0-9]{32,}|AIza[A-Za-z0-9_\-]{35}|"
        r"ya29\.[A-Za-z0-9_\-]{20,}|GOCSPX-[A-Za-z0-9_\-]{20,}|xox[a-z]-[A-Za-z0-9\-]{10,}|xapp-[A-Za-z0-9\-]{10,}|"
        r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_\-]{10,}|"
        r"[srp]k_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{16,}|[sp]k-lf-[A-Za-z0-9\-]{8,}|"
        rf"(?:[sp]k[_\-]kelet[_\-]|kelet_[sp]k_)[A-Za-z0-9_\-]{{8,}}|{_SECRET_KEY_OF_AWS}",
        validation.api_key,
    ),
    Detector(
        "email",
        r"[^\s@\"]@[^\s@\"]*\.",
        r"[\pL\pN\pM._%+'\-]+@(?:[\pL\pN\pM_\-]+\.)+(?:xn--[A-Za-z0-9\-]+|[\pL\pM]{2,})",
        validation.email,
    ),
    Detector(
        "iban",
        rf"{_BEFORE_WORD}{_COUNTRIES}[0-9]{{2}}(?:[ \-]?[0-9A-Za-z]){{11}}",
        rf"{_COUNTRIES}[0-9]{{2}}",
        validation.iban,
    ),
    Detector(
        "card",
        rf"{_BEFORE_NUMBER}(?:[3-6][0-9]|2[2-7])(?:{_BETWEEN}?[0-9]){{11}}",
        rf"[0-9](?:{_BETWEEN}?[0-9]){{12,}}",
        validation.card,
    ),
    Detector(
        "phone",
        rf"\+{_IN_PHONE}{{0,2}}[1-9](?:{_IN_PHONE}{{0,3}}[0-9]){{8}}|"
        rf"{_BEFORE_WORD}00{_IN_PHONE}{{0,2}}[1-9][0-9]{{0,3}}{_IN_PHONE}",
        rf"(?:\+|00){_IN_PHONE}{{0,2}}[1-9](?:{_IN_PHONE}{{0,3}}[0-9]){{8,}}",
        validation.phone,
    ),
    Detector(
        "ssn",
        rf"[0-9]{{3}}{_DASH}[0-9]{{2}}{_DASH}[0-9]{{4}}",
        rf"[0-9]{{3}}{_DASH}[0-9]{{2}}{_DASH}[0-9]{{4}}",
        validation.ssn,
    ),
    Detector(
        "ip",
        r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|::[0-9A-Fa-f]|[0-9A-Fa-f]::|(?:[0-9A-Fa-f]{1,4}:){7}",
        r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,}(?:\.[0-9]{1,3}){0,3}|[0-9]{1,3}(?:\.[0-9]{1,3}){3}",
        validation.ip,
    ),
)  # fmt: skip


def any_match(data: bytes, start: int, end: int) -> Iterator[Place]:
    """Take what an operator's own pattern matches."""
    del data
    if end > start:
        yield start, end


def own(name: str, pattern: str) -> Detector:
    """Return the detector of an operator's pattern. Its gate is the pattern without conditions on its surroundings."""
    return Detector(name, without_assertions(pattern), pattern, any_match)


def without_assertions(pattern: str) -> str:
    """Return a pattern of RE2 that matches wherever the given one does, and does not ask what stands around it."""
    made: list[str] = []
    at, in_class = 0, False
    while at < len(pattern):
        piece = pattern[at]
        if piece == "\\":
            piece = pattern[at : at + 2]
            if piece == r"\Q" and not in_class:
                end = pattern.find(r"\E", at)
                piece = pattern[at:] if end < 0 else pattern[at : end + 2]
            elif not in_class and piece in {r"\b", r"\B", r"\A", r"\z"}:
                made.append("(?:)")
                at += 2
                continue
        elif in_class:
            if pattern.startswith("[:", at) and (end := pattern.find(":]", at)) > 0:
                piece = pattern[at : end + 2]
            in_class = piece != "]"
        elif piece == "[":
            in_class = True
            opened = 2 if pattern[at + 1 : at + 2] == "^" else 1
            if pattern[at + opened : at + opened + 1] == "]":  # the first of a class is itself
                opened += 1
            piece = pattern[at : at + opened]
        elif piece in "^$":
            piece = "(?:)"
        made.append(piece)
        at += len(piece) if piece != "(?:)" else 1
    return "".join(made)
