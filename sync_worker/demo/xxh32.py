"""xxHash32 with seed 0: Langfuse's store sorts rows of the same time by this hash of their trace id."""

from __future__ import annotations

from functools import lru_cache

_MASK = 0xFFFFFFFF
_P1, _P2, _P3, _P4, _P5 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (32 - bits))) & _MASK


def xxh32(data: bytes) -> int:
    """Return the 32-bit xxHash of some bytes, as an unsigned integer."""
    at, end = 0, len(data)
    total = _P5
    if end >= 16:
        lanes = [(_P1 + _P2) & _MASK, _P2, 0, -_P1 & _MASK]
        for at in range(0, end - 15, 16):
            for lane in range(4):
                word = int.from_bytes(data[at + 4 * lane : at + 4 * lane + 4], "little")
                lanes[lane] = _rotate((lanes[lane] + word * _P2) & _MASK, 13) * _P1 & _MASK
        at += 16
        total = _rotate(lanes[0], 1) + _rotate(lanes[1], 7) + _rotate(lanes[2], 12) + _rotate(lanes[3], 18)
    total = (total + end) & _MASK
    while at + 4 <= end:
        total = _rotate((total + int.from_bytes(data[at : at + 4], "little") * _P3) & _MASK, 17) * _P4 & _MASK
        at += 4
    for byte in data[at:]:
        total = _rotate((total + byte * _P5) & _MASK, 11) * _P1 & _MASK
    total = (total ^ (total >> 15)) * _P2 & _MASK
    total = (total ^ (total >> 13)) * _P3 & _MASK
    return total ^ (total >> 16)


@lru_cache(maxsize=65536)
def trace_hash(trace_id: str | None) -> int:
    """Return the hash by which a trace id is sorted; no trace id is sorted as the empty string."""
    return xxh32((trace_id or "").encode())
