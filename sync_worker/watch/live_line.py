"""The last line of a terminal, replaced in place; all other lines are printed above it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TextIO

_ERASE = "\r\x1b[K"
_USUAL = 80  # columns
_current: LiveLine | None = None


class LiveLine:
    """A line on a terminal. If the terminal is gone (a closed connection), the display ends, not the work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        self._text = ""

    def show(self, text: str) -> None:
        """Replace the line, cut at the edge of the terminal: a line that wraps could not be replaced."""
        global _current  # noqa: PLW0603 - a terminal has one last line
        _current = self
        self._text = text[: max(1, self._columns() - 1)]
        self._write(_ERASE + self._text)

    def close(self) -> None:
        """Remove the line."""
        global _current  # noqa: PLW0603 - as above
        if _current is self:
            _current = None
        if self._text:
            self._write(_ERASE)
        self._text = ""

    def _columns(self) -> int:
        """Return how wide the terminal is now; 80 where that is not known."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or _USUAL if self._stream else _USUAL
        except (OSError, ValueError):
            return _USUAL

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None


@contextlib.contextmanager
def above() -> Iterator[None]:
    """Write lines above the last line of the terminal, if there is one."""
    line = _current
    if line is not None:
        line._write(_ERASE)  # noqa: SLF001 - the same idea
    try:
        yield
    finally:
        if line is not None and line is _current:
            line._write(line._text)  # noqa: SLF001
