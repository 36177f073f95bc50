"""Escapes of JSON, Python, URLs and HTML undone in bytes, with the way back to where each byte came from."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

#: Escapes within escapes are undone so often: JSON in JSON text in a URL in JSON text.
MOST_LEVELS = 6

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[\"\\/'bfnrt])"
    rb"|%[0-9a-fA-F]{2}|&#(?:[0-9]{1,7}|[xX][0-9a-fA-F]{1,6});"
)
_SHORT = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_UNKNOWN = "\ufffd"


@dataclass(slots=True)
class Decoded:
    """Decoded bytes and the segments they are made of, each a run as it was or one escape."""

    data: bytes
    _starts: list[int]  # of each segment, in `data`
    _origins: list[int]  # of each segment, in what was decoded
    _ends: list[int]  # of each escape, in what was decoded; -1 for a run as it was

    @property
    def segments(self) -> int:
        """How many segments it is made of."""
        return len(self._starts)

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Return the place, in what was decoded, of the bytes from `start` to `end`."""
        first = bisect_right(self._starts, start) - 1
        last = bisect_right(self._starts, end - 1) - 1
        begin = self._origins[first] + (start - self._starts[first] if self._ends[first] < 0 else 0)
        if self._ends[last] >= 0:
            return begin, self._ends[last]
        return begin, self._origins[last] + end - self._starts[last]


def decode(data: bytes) -> Decoded | None:
    """Return the bytes with one level of escapes undone; None where there is no escape."""
    segments: list[tuple[int, int, int]] = []
    pieces: list[bytes] = []
    at = length = 0
    for escape in _ESCAPE.finditer(data):
        start, end = escape.span()
        if start > at:
            pieces.append(data[at:start])
            segments.append((length, at, -1))
            length += start - at
        plain = _undo(escape[0])
        pieces.append(plain)
        segments.append((length, start, end))
        length += len(plain)
        at = end
    if not pieces:
        return None
    if at < len(data):
        pieces.append(data[at:])
        segments.append((length, at, -1))
    starts, origins, ends = (list(column) for column in zip(*segments, strict=True))
    return Decoded(b"".join(pieces), starts, origins, ends)


def _undo(escape: bytes) -> bytes:
    kind = escape[:2]
    if kind == b"\\u":
        if len(escape) == 12:  # both halves of a pair
            high, low = int(escape[2:6], 16), int(escape[8:12], 16)
            return chr(0x10000 + ((high - 0xD800) << 10) + low - 0xDC00).encode()
        return _character(escape[2:])
    if kind == b"\\x":
        return _character(escape[2:])
    if kind == b"&#":
        digits = escape[2:-1]
        return _character(digits[1:]) if digits[:1] in b"xX" else _character(b"%x" % int(digits))
    if escape[:1] == b"%":
        return bytes([int(escape[1:], 16)])
    return _SHORT.get(escape[1:], escape[1:])


def _character(digits: bytes) -> bytes:
    code = int(digits, 16)
    return (_UNKNOWN if 0xD800 <= code < 0xE000 or code > 0x10FFFF else chr(code)).encode()
