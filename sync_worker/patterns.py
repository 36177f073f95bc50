"""Patterns of filters and routes: shell wildcards, or after `re:` a regular expression of RE2, in linear time."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from sync_worker.expressions import NoRe2Error, PatternError, compile_re2

EXPRESSION = "re:"
_WILDCARDS = frozenset("*?[")
_MEMORY = 8 * 1024 * 1024  # bytes that RE2 may use for one expression


def matches(pattern: str, value: str) -> bool:
    """Whether a value matches: with case; a wildcard pattern the whole of it, an expression any part of it."""
    if pattern.startswith(EXPRESSION):
        # RE2 takes UTF-8, which has no half surrogate pairs.
        text = value if value.isascii() else value.encode("utf-8", "replace").decode()
        return _compile(pattern.removeprefix(EXPRESSION)).search(text) is not None
    return fnmatchcase(value, pattern)


def is_exact(pattern: str) -> bool:
    """Whether a pattern matches itself alone."""
    return not pattern.startswith(EXPRESSION) and _WILDCARDS.isdisjoint(pattern)


def why_unusable(pattern: str) -> str | None:
    """Return why a pattern cannot be used; None if it can."""
    if not pattern.startswith(EXPRESSION):
        return None
    try:
        _compile(pattern.removeprefix(EXPRESSION))
    except NoRe2Error:
        return "regular expressions need the package google-re2, which is not installed"
    except PatternError as error:
        return f"not a regular expression of RE2: {error}"
    return None


@lru_cache(maxsize=1024)
def _compile(expression: str) -> Any:
    """Return the compiled expression. Raises NoRe2Error or PatternError."""
    return compile_re2(expression, memory=_MEMORY)
