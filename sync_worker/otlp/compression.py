"""gzip by the fastest library that is installed.

ISA-L compresses OTLP of chat traces some eight times as fast as zlib at its usual level, to some 15 % more bytes
(`docs/benchmark.md`). It is there on the usual machines; elsewhere zlib does the same.
"""

from __future__ import annotations

try:
    from isal import igzip as _gzip

    _LEVEL = 2  # of 0 to 3; 3 takes twice the time for 6 % fewer bytes
except ImportError:
    import gzip as _gzip  # type: ignore[no-redef]

    _LEVEL = 5  # of 0 to 9; 6 takes two thirds longer for 1 % fewer bytes


def compress(plain: bytes) -> bytes:
    """Return the bytes as one gzip member, the same for the same bytes on the same machine."""
    return _gzip.compress(plain, _LEVEL, mtime=0)
