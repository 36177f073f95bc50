"""Reads the pages: which there are, their code, their links, their headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.docs.tables import ROOT

PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "deploy/README.md")),
        *(ROOT / "docs").rglob("*.md"),
    ]
)
FILES_WITH_COMMANDS = sorted(
    [
        ROOT / "compose.yaml",
        *(path for path in (ROOT / "deploy").rglob("*") if path.is_file() and path.suffix != ".md"),
    ]
)

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
#: A line that may start the program is taken apart as a shell does; others need be no shell at all.
_MAY_START = re.compile(r"scripts/sync\b|\bsync_worker\b|\bsync-worker\b|\bdocker compose run\b")
_IMAGE = re.compile(r"sync-worker:\d[\w.]*")
_PUNCTUATION = frozenset("();<>|&")
_SHELLS = ("sh", "")


def code_lines(text: str) -> Iterator[str]:
    """Yield the lines of all code blocks for a shell, those that go on after a backslash as one."""
    for language, block in _BLOCK.findall(text):
        if language in _SHELLS:
            yield from block.replace("\\\n", " ").splitlines()


def inline_code(text: str) -> Iterator[str]:
    """Yield code within the text, outside of blocks."""
    for _, code in _INLINE.findall(_BLOCK.sub("", text)):
        yield " ".join(code.split())


def started(line: str) -> Iterator[list[str]]:
    """Yield the arguments of each start of the program on a line of shell."""
    if not _MAY_START.search(line):
        return
    for words in _commands(line):
        for number, word in enumerate(words):
            if words[number - 1] == "-c":
                yield from started(word)
            elif _is_program(words, number) and len(words) > number + 1:
                yield words[number + 1 :]
                break


def links(text: str) -> Iterator[str]:
    """Yield where links lead that are not on the web."""
    for target in _LINK.findall(_INLINE.sub("", _BLOCK.sub("", text))):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(path: Path) -> set[str]:
    """Return the names by which a page's headings can be reached, as GitHub makes them."""
    text = _BLOCK.sub("", path.read_text(encoding="utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).replace(" ", "-")
        for heading in _HEADING.findall(text)
    }


def _is_program(words: list[str], number: int) -> bool:
    word = words[number]
    return (
        word.endswith("scripts/sync")
        or (words[:2] == ["docker", "run"] and _IMAGE.fullmatch(word) is not None)
        or (words[:3] == ["docker", "compose", "run"] and word == "worker")
        or (word == "sync-worker" and number == 0)
        or (word == "sync_worker" and words[number - 1] == "-m")
    )


def _commands(line: str) -> Iterator[list[str]]:
    """Yield the words of each command on a line, without what follows a redirection."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    redirected = False
    for word in lexer:
        if set(word) <= _PUNCTUATION:
            redirected = word[0] in "<>"
            if redirected and words and words[-1].isdigit():
                words.pop()  # as in 2>&1
            if not redirected:
                yield words
                words = []
        elif not redirected:
            words.append(word)
    yield words
