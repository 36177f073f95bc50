"""Versions of the instrumentations of spans, as numbers that can be compared."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeAlias

from sync_worker.spans.span_model import Scope

Version: TypeAlias = tuple[int, ...]

_NUMBER = re.compile(r"(?<![0-9])[0-9]{1,9}(?![0-9])")
MAX_CHARS = 100  # of a version that are looked at, and remembered


def numbers_of(text: str) -> Version:
    """Return a version's numbers, the main one first; none where it shows none."""
    return _numbers_of(text[:MAX_CHARS])


@lru_cache(maxsize=1024)
def _numbers_of(text: str) -> Version:
    return tuple(int(number) for number in _NUMBER.findall(text))


def version_of(scope: Scope | None) -> Version:
    """Return the version of a span's instrumentation; one that names none counts as the first."""
    return () if scope is None else numbers_of(scope.version)
