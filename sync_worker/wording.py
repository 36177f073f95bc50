"""Numbers as people write them, `1 trace`, `2 traces`, `2h 5m`, and the word that they meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number of things: `1 trace`, `2,000 traces`; `plural` where an s at the end does not make it."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def in_words(seconds: float) -> str:
    """Return a duration in its two largest units, rounded to seconds: `38s`, `5m 10s`, `2h 5m`, `3d 4h`, `0s`."""
    left = max(0, round(seconds))
    largest = next((number for number, (_, size) in enumerate(_UNITS) if left >= size), len(_UNITS) - 1)
    parts = []
    for unit, size in _UNITS[largest : largest + 2]:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0s"


def nearest(typed: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the one of `known` that was probably meant, in any case; an empty text where none is near enough."""
    from difflib import get_close_matches  # noqa: PLC0415 - only after a mistake

    by_folded = {name.lower(): name for name in known}
    found = get_close_matches(typed.lower(), by_folded, 1, cutoff)
    return by_folded[found[0]] if found else ""
