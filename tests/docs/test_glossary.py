"""One concept has one term, that of docs/glossary.md: the pages use it, and no longer the word that it replaced."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import FILES_WITH_COMMANDS, PAGES, inline_code
from tests.docs.tables import ROOT

GLOSSARY = ROOT / "docs" / "glossary.md"

#: By terms of the glossary, those that they replaced: regular expressions of whole words.
RETIRED: dict[tuple[str, ...], tuple[str, ...]] = {
    ("observation",): ("rows?",),
    ("interval",): ("stretch(es)?", "windows?", "pieces? of time"),
    ("completed interval", "synced"): ("cover(s|ed|age|ing)?", "uncovered", "(brings?|brought|bringing) over"),
    ("checkpoint",): ("(goes|go|went|going) on (where|with|from)", "anew"),
    ("watermark", "sync start"): ("edges?",),
    ("lookback scan", "lookback window"): (
        "horizons?",
        "look-backs?",
        "looks? (again|back)",
        "looked at again",
        "late (scans?|looks?)",
        "a look",
    ),
    ("late-arriving observation", "arrival delay"): ("late data", "lateness"),
    ("pending trace",): ("park(s|ed|ing)?", "withheld", "(held|holds?|holding) back"),
    ("quiet period",): ("settl(e|es|ed|ing)",),
    ("ready", "flushed"): ("released", "may (not )?go"),
    ("dead letter", "dead-lettered"): ("(set|sets|setting) aside", "a letter"),
    ("rejected",): ("refus(e|es|ed|al|als|ing)",),
    ("hourly counts",): ("tall(y|ies)",),
    ("heartbeat", "lease owner"): ("beats?", "signs? of life", "holders?"),
    ("rate limiter", "quota"): ("budgets?", "allowances?", "news", "book"),
    ("concurrency limit", "circuit", "max elapsed time"): ("pace", "patience"),
    ("metadata-only",): ("light(er)?",),
    ("truncated field",): ("cuts?", "cutting"),
    ("retry",): ("faults?", "mend(s|ed|ing)?", "tr(y|ies|ied) again", "by itself, after"),
    ("instrumentation", "convention"): ("makers?", "vocabular(y|ies)", "speaks?", "habits?"),
    ("propagated",): ("handed down",),
    ("effective root", "synthetic root"): ("heirs?", "hidden roots?"),
    ("source",): ("keys (that )?open(s|ed)?",),
    ("offline",): ("asks? nobody",),
    ("state file", "state key"): ("st(ands|and|ood) in", "facts?"),
    ("certain time",): ("steady clocks?", "meanwhile"),
    ("live sync",): ("workers? that stays?",),
    ("acknowledgement",): ("said", "told", "tells?", "telling", "hears?", "heard", "talks?"),
}

#: Retired in the code too, in names as in comments. Others of the above mean something else there, as `window` in HTTP.
RETIRED_IN_CODE = re.compile(
    r"(?<![a-z])(told|tells|telling|hears?|heard|talks?|said|mend(s|ed|ing)?|faults?|settle[sd]|beats?|makers?"
    r"|vocabular(y|ies)|speaks?|habits|heirs?|lateness|tall(y|ies)|park(s|ed|ing)|withheld|allowances?|anew|meanwhile"
    r"|(un)?covered|learnt|handed down|set aside|steady clocks?)(?![a-z])",
    re.IGNORECASE,
)

#: Where one of these words is right, since it means something else.
ALLOWED = (
    "lookback windows?",
    "rate-limit windows?",
    "in any window",  # of the rate limiter
    "in a row",
    "connection refused",
    "rows? of (a|the) table",
    "branch coverage",
    "under coverage",
)

#: What is no prose: code and the targets of links.
_NO_PROSE = (
    re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL),
    re.compile(r"`[^`]*`"),
    re.compile(r"(?<=\])\([^)\s]+\)"),
)
_COMMENT = re.compile(r"^\s*# ?(.*)$", re.MULTILINE)


def prose(text: str) -> str:
    """Return the prose of a page, in one line."""
    for pattern in _NO_PROSE:
        text = pattern.sub(" ", text)
    text = " ".join(text.split())
    return re.sub("|".join(rf"\b({phrase})\b" for phrase in ALLOWED), " ", text, flags=re.IGNORECASE)


def retired(text: str) -> Iterator[str]:
    """Yield each retired term in a page, with the words around it and the terms to use."""
    text = prose(text)
    for terms, patterns in RETIRED.items():
        for found in re.finditer("|".join(rf"\b(?:{pattern})\b" for pattern in patterns), text, re.IGNORECASE):
            around = text[max(0, found.start() - 40) : found.end() + 40]
            yield f"{found[0]!r} in “…{around}…”: {' or '.join(terms)}"


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_pages_use_the_terms_of_the_glossary(path: Path) -> None:
    """A reader would meet two words for one concept, and look for a difference that does not exist."""
    assert list(retired(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", FILES_WITH_COMMANDS, ids=_name)
def test_comments_for_deployment_use_them_too(path: Path) -> None:
    """An operator would read other words in a manifest than in the documentation."""
    assert list(retired("\n".join(_COMMENT.findall(path.read_text(encoding="utf-8"))))) == []


def test_code_uses_them_too() -> None:
    """Who goes from a page to the code, or back, would look for a name that is not there."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word[0]}"
        for path in sorted((ROOT / "sync_worker").rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for word in RETIRED_IN_CODE.finditer(line)
    ]
    assert found == []


def test_every_term_is_in_the_glossary() -> None:
    """A page would be corrected to a term that is explained nowhere."""
    explained = set(re.findall(r"\*\*([\w -]+)\*\*", GLOSSARY.read_text(encoding="utf-8")))
    assert {term for terms in RETIRED for term in terms} - explained == set()


def test_fields_named_in_the_glossary_exist() -> None:
    """The glossary would send a reader to a field or table that has another name now."""
    named = {
        name for name in inline_code(GLOSSARY.read_text(encoding="utf-8")) if re.fullmatch(r"[a-z]+(_[a-z]+)+", name)
    }
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "sync_worker").rglob("*.py"))
    assert named - set(re.findall(r"\w+", code)) == set()


def test_retired_terms_are_found() -> None:
    """The patterns would match nothing, and let every retired term pass."""
    found = list(retired("A window is covered,\nand its ROWS stand in the file."))
    assert [one.split("'")[1] for one in found] == ["ROWS", "window", "covered", "stand in"]
    assert list(retired("`rows_read`, a lookback window, [kept](windows.md#rows), instead, recovered")) == []
