"""What a run waits for: set where it waits, shown with its progress.

A wait belongs to whatever has called `collect` above it: tasks inherit that. Elsewhere, saying it costs nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Wait:
    """A wait that has not ended: for what, and from when until when, in monotonic seconds of this machine."""

    reason: str
    since: float
    until: float
    after_error: bool = False


_found: ContextVar[set[Wait] | None] = ContextVar("waits", default=None)


@contextlib.contextmanager
def collect() -> Iterator[set[Wait]]:
    """Collect the waits of all that runs inside; the set holds those that have not ended."""
    waits: set[Wait] = set()
    token = _found.set(waits)
    try:
        yield waits
    finally:
        _found.reset(token)


@contextlib.contextmanager
def waiting(reason: str, seconds: float, *, after_error: bool = False) -> Iterator[None]:
    """Say that what runs inside waits for something, for so many seconds; `after_error`: as a server failed."""
    waits = _found.get()
    if waits is None:
        yield
        return
    now = time.monotonic()
    wait = Wait(reason, now, now + seconds, after_error)
    waits.add(wait)
    try:
        yield
    finally:
        waits.discard(wait)


def show(before: Collection[Wait], after: Collection[Wait]) -> None:
    """Show the waits of another process, instead of those that it had before; its clock is that of this machine."""
    waits = _found.get()
    if waits is not None:
        waits.difference_update(before)
        waits.update(after)
