"""Progress of a long run with its remaining time: one line on a terminal, nothing otherwise."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import TextIO

from sync_worker.intervals import Interval
from sync_worker.times import iso_time

_INTERVAL = 0.2  # seconds between two updates


class ProgressLine:
    """Prints `name 42% to 2026-11-01T00:00:00.000Z, 0:03:10 left` and overwrites it on each update."""

    def __init__(self, name: str, *, shown: bool) -> None:
        self._name = name
        self._stream: TextIO | None = sys.stderr
        self._shown = shown
        self._started = time.monotonic()
        self._drawn = 0.0
        self._done = 0

    def __call__(self, done_to_ms: int, interval: Interval) -> None:
        """Show that the interval is completed up to `done_to_ms`; an earlier time than before changes nothing."""
        if not self._shown or interval.length <= 0:
            return
        self._done = max(self._done, done_to_ms)
        now = time.monotonic()
        share = min(1.0, (self._done - interval.start) / interval.length)
        if now - self._drawn < _INTERVAL and share < 1:
            return
        self._drawn = now
        elapsed = now - self._started
        left = timedelta(seconds=round(elapsed / share - elapsed)) if share > 0 else "?"
        self._draw(f"\r\x1b[K{self._name} {share:.0%} to {iso_time(self._done)}, {left} left")

    def close(self) -> None:
        """Clear the line."""
        if self._shown and self._drawn:
            self._draw("\r\x1b[K")

    def _draw(self, text: str) -> None:
        """Write to the terminal; if it is gone (a closed connection), the display ends, not the work."""
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._shown = False
