"""Ctrl-C and SIGTERM while no command has taken them over: before its work begins, and after it has ended."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal came: whatever is open is closed on the way out. `exit_code` is 130 or 143."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def _pass(_: int, __: FrameType | None) -> None:
    """Do nothing. In place of SIG_IGN, which Python complains of for a signal that came in a moment before."""


def _interrupt(number: int, _: FrameType | None) -> None:
    for other in SIGNALS:
        signal.signal(other, _pass)  # what is open is being closed; a second one must not break that off
    raise Interrupted(number)


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Raise Interrupted for a signal that comes inside; after it the exit code stands and signals change nothing."""
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, _pass)


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Give signals back to whoever had them: an event loop leaves Python's own handlers behind."""
    before = [(number, signal.getsignal(number)) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
