"""gzip in and out, by the fastest library that is installed.

ISA-L compresses OTLP of chat traces some eight times as fast as zlib at its usual level, to some 15 % more bytes, and
decompresses pages in less than half the time (`docs/benchmark.md`). It is there on the usual machines; elsewhere zlib
does the same.
"""

from __future__ import annotations

import zlib
from typing import Protocol, cast

try:
    from isal import igzip as _gzip
    from isal import isal_zlib as _zlib

    _LEVEL = 2  # of 0 to 3; 3 takes twice the time for 6 % fewer bytes
except ImportError:
    import gzip as _gzip  # type: ignore[no-redef]

    _zlib = zlib  # type: ignore[misc]
    _LEVEL = 5  # of 0 to 9; 6 takes two thirds longer for 1 % fewer bytes

#: Raised for bytes that are not the gzip that they should be.
NotGzip = cast("type[Exception]", _zlib.error)


class Unpacker(Protocol):
    """Decompresses one gzip member piece by piece, as `zlib.decompressobj` does. Raises NotGzip."""

    eof: bool
    unconsumed_tail: bytes

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes:
        """Return what the next bytes unfold to, up to a length; what was not looked at is in `unconsumed_tail`."""


def compress(plain: bytes) -> bytes:
    """Return the bytes as one gzip member, the same for the same bytes on the same machine."""
    return _gzip.compress(plain, _LEVEL, mtime=0)


def unpacker() -> Unpacker:
    """Return what decompresses one gzip member."""
    return cast("Unpacker", _zlib.decompressobj(zlib.MAX_WBITS | 16))
