"""SIGINT and SIGTERM while no command handles them: before its work starts, and after it has ended."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal was received: what is open is closed while it propagates. `exit_code` is 130 or 143."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def _ignore(_: int, __: FrameType | None) -> None:
    """Do nothing. Not SIG_IGN, with which Python complains of a signal that was received just before."""


def _raise_interrupted(number: int, _: FrameType | None) -> None:
    for other in SIGNALS:
        signal.signal(other, _ignore)  # what is open is being closed; a second signal must not interrupt that
    raise Interrupted(number)


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """Raise Interrupted on a signal inside the block; after it signals are ignored, as the exit code is final."""
    for number in SIGNALS:
        signal.signal(number, _raise_interrupted)
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, _ignore)


@contextlib.contextmanager
def restore_handlers() -> Iterator[None]:
    """Restore the signal handlers after the block: an event loop leaves Python's own handlers behind."""
    before = [(number, signal.getsignal(number)) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
