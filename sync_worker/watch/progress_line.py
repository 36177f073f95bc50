"""Progress of a long run: one line on a terminal that moves, says what it waits for, and how long it will take."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from typing import TextIO

from sync_worker.runs.progress import Counts
from sync_worker.waits import Wait
from sync_worker.watch.live_line import LiveLine
from sync_worker.wording import counted, in_words

_EVERY = 0.5  # seconds between two updates
#: Seconds over which rates are measured: a rate limit of few requests a minute makes long pauses.
_MEASURED = 180.0
#: Seconds before which no rate is shown, and waits that are not worth a word.
_SOON = 2.0


class Rates:
    """How fast a run is, from what it did lately."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Counts]] = deque()

    def add(self, now: float, counts: Counts) -> None:
        """Take the counts of a moment, in monotonic seconds. Where less is done than before, measuring starts again."""
        if self._samples and counts.done_ms < self._samples[-1][1].done_ms:
            self._samples.clear()
        self._samples.append((now, counts))
        while len(self._samples) > 2 and now - self._samples[1][0] > _MEASURED:
            self._samples.popleft()

    @property
    def observations(self) -> float | None:
        """Observations a second; None before it is known."""
        if not self._is_known:
            return None
        (began, first), (now, last) = self._samples[0], self._samples[-1]
        return (last.observations - first.observations) / (now - began)

    @property
    def left(self) -> float | None:
        """Seconds until all is done at this speed; None before it is known."""
        if not self._is_known:
            return None
        (began, first), (now, last) = self._samples[0], self._samples[-1]
        done = last.done_ms - first.done_ms
        return None if done <= 0 else (last.due_ms - last.done_ms) * (now - began) / done

    @property
    def _is_known(self) -> bool:
        return len(self._samples) > 1 and self._samples[-1][0] - self._samples[0][0] >= _SOON


class ProgressLine:
    """Draws `backfill 12%, 43,210 observations, 610 a second, 2h 5m left`.

    Where the counts come from is no matter: one process, or the sum of several. `stream` is a terminal, or None where
    nothing is to be shown.
    """

    def __init__(self, name: str, stream: TextIO | None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._line = None if stream is None else LiveLine(stream)
        self._monotonic = monotonic
        self._rates = Rates()

    def update(self, counts: Counts, waits: Collection[Wait] = ()) -> None:
        """Show how far it is, and what it waits for."""
        if self._line is not None:
            self._rates.add(self._monotonic(), counts)
            self._line.show(self.text(counts, waits))

    def text(self, counts: Counts, waits: Collection[Wait] = ()) -> str:
        """Return the line."""
        if not counts.due_ms:
            return ", ".join([f"{self._name}: looking for what is due", *self._waiting(waits)])
        done = min(counts.done_ms, counts.due_ms)
        parts = [f"{self._name} {done * 100 // counts.due_ms}%", counted(counts.observations, "observation")]
        pause = self._waiting(waits)
        rate = self._rates.observations
        if pause:
            parts += pause
        elif rate is not None:
            parts.append(f"{rate:,.0f} a second" if rate >= 10 or not rate else f"{rate * 60:,.0f} a minute")
        if done == counts.due_ms:
            parts.append("finishing")
        else:
            left = self._rates.left
            parts.append("time left not known yet" if left is None else f"{in_words(left)} left")
        return ", ".join(parts)

    def close(self) -> None:
        """Remove the line."""
        if self._line is not None:
            self._line.close()

    def _waiting(self, waits: Collection[Wait]) -> list[str]:
        now = self._monotonic()
        long = [wait for wait in list(waits) if wait.until - wait.since >= _SOON]
        if not long:
            return []
        last = max(long, key=lambda wait: wait.until)
        return [f"waiting for {last.reason} ({in_words(last.until - now)})"]


@contextlib.asynccontextmanager
async def drawn(line: ProgressLine, read: Callable[[], Counts], waits: Collection[Wait]) -> AsyncIterator[None]:
    """Keep a line up to date while the block runs, and remove it at its end."""

    async def draw() -> None:
        while True:
            line.update(read(), waits)
            await asyncio.sleep(_EVERY)

    task = asyncio.create_task(draw())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        line.close()
