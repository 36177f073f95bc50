"""Pseudonyms: the same value gives the same name, and nobody without the key finds the value behind it."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

#: Letters alone, so that no detector finds a number, a key or an address in a pseudonym.
_LETTERS: Final = bytes.maketrans(b"0123456789abcdef", b"bcdfghjklmnpqrst")
_LENGTH: Final = 24  # letters of four bits each: no two values meet


def pseudonym(key: bytes, kind: str, value: bytes) -> str:
    """Return the pseudonym of a value, as 24 letters that depend on its kind too."""
    digest = hmac.new(key, kind.encode() + b"\0" + value, hashlib.sha256).hexdigest()
    return digest[:_LENGTH].encode().translate(_LETTERS).decode()
