"""Whether a stream is a terminal, and whether it gets colours."""

from __future__ import annotations

import os
from typing import Final, TextIO

BOLD: Final = "1"
RED: Final = "31"
GREEN: Final = "32"

_forbidden = False


def forbid_colors(*, forbidden: bool) -> None:
    """Use no colours in this process, as `--no-color` asks for."""
    global _forbidden  # noqa: PLW0603 - one command line a process
    _forbidden = forbidden


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody may be reading along."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed by other code in this process
        return False


def moves_cursor(stream: TextIO | None) -> bool:
    """Whether a line on this stream can be replaced."""
    return is_terminal(stream) and os.environ.get("TERM", "") != "dumb"


def has_colors(stream: TextIO | None) -> bool:
    """Whether text on this stream is coloured: on a terminal, by --no-color, NO_COLOR and FORCE_COLOR in this order.

    Both variables count unless they are empty (https://no-color.org, https://force-color.org).
    """
    if _forbidden or os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or moves_cursor(stream)


def styled(text: str, style: str, stream: TextIO | None) -> str:
    """Return a text in a style, where the stream has colours."""
    return f"\x1b[{style}m{text}\x1b[0m" if text and has_colors(stream) else text
