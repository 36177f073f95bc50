"""Requests in a time: what one of an organisation's limits leaves for this worker.

Langfuse Cloud counts requests in windows, most of 60 s, denied ones included, and tells the limit only with a 429. What
was learnt is kept below, since the customer's own application shares the limit. It is raised by a tenth for each hour
without a 429, since the limit may have become larger; the next 429 sets it right.

All processes on one state file share it too. Each remembers by its steady clock what it sent and what it read of the
others; the file, in which times are by the wall clock, is where they read of each other. So a clock that is set
disturbs no more than what has not been read yet. While no limit is known, nothing is written.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from sync_worker.clock import Clock
from sync_worker.errors import StateError, TransientError
from sync_worker.langfuse.sent import WINDOW, Sent

#: Beside a live sync at work, all others together take at most this share of what is allowed, and leave it at least
#: one request a minute.
_SHARE_BESIDE = Fraction(3, 4)
#: What both wait for, the end of a 429's wait among it, the live sync has so many seconds earlier.
LEAD = 2.0
#: Lengths that windows have, in seconds.
_WINDOWS = (60, 3600, 86_400)
#: A limit that was told is raised by so much for each hour since, or each window if that is longer, so often at most.
_RAISE, _HOUR, _MOST_RAISES = 1.1, 3600.0, 48
#: While the state file is busy: tries and seconds between them, before a request goes by what is known here.
_TRIES, _PAUSE = 10, 0.4

log = logging.getLogger(__name__)


class RateLimited(TransientError):
    """One of the organisation's request limits is reached (429)."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit as Langfuse told it: requests in so many seconds, and when it was told, in Unix milliseconds."""

    requests: int
    window: int
    told_ms: int


class News(Protocol):
    """What stands in the state file, times in Unix milliseconds."""

    @property
    def sent(self) -> Sequence[tuple[int, bool]]:
        """Requests not read before: when, and whether of the live sync."""

    @property
    def last(self) -> int:
        """The number to read on behind."""

    @property
    def limit(self) -> tuple[int, int, int] | None:
        """Requests, in how many seconds, and when that was told."""

    @property
    def blocked(self) -> tuple[int, int] | None:
        """From when until when Langfuse told to wait, last."""

    @property
    def live_beside(self) -> bool:
        """Whether a live sync is at work in another process."""


class Book(Protocol):
    """Where the processes on one state file tell each other of an organisation's requests. Raises StateError."""

    @property
    def is_live(self) -> bool:
        """Whether this process is the live sync."""

    def news(self, last: int) -> News:
        """Return what was written behind a number, and what stands."""

    def turn(self) -> AbstractContextManager[None]:
        """Keep all other processes from writing; what is written in a turn that fails was never written."""

    def note_sent(self, times: Iterable[int]) -> int:
        """Write down requests of this process, within a turn; return the number of the last one."""

    def keep_limit(self, requests: int, window: int, told_ms: int) -> None:
        """Write down the limit that Langfuse told, within a turn."""

    def keep_block(self, since: int, until: int) -> None:
        """Write down that Langfuse told to wait, within a turn."""

    def forget_outside(self, start: int, end: int) -> None:
        """Remove requests from before or after a time, within a turn."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much of an organisation's limit a process may take.

    `per_minute` is a limit set by the operator, taken whole; without one, `share` is taken of what Langfuse tells.
    `parts` divides either: a process that is one of so many with state files of their own, which cannot know of each
    other, takes one part of it, and at least one request a minute.
    """

    per_minute: int | None
    share: Fraction
    parts: int = 1

    def of(self, learnt: int | None) -> int | None:
        """Return the requests in a window; None while no limit is known."""
        limit = self.per_minute if self.per_minute is not None or learnt is None else math.floor(learnt * self.share)
        return None if limit is None else max(1, limit // self.parts)


class Budget:
    """Spaces requests so that no window holds more than the limit; without one, requests go out at once.

    Without an allowance no limit is kept to, whatever is told. `window` is the least length of one in seconds.
    """

    def __init__(
        self, clock: Clock, allowance: Allowance | None, book: Book | None = None, window: float = WINDOW
    ) -> None:
        self._clock = clock
        self._allowance = allowance
        self._book = book
        self.limit: Limit | None = None
        self._least_window = window
        self._all = Sent()
        self._beside = Sent()  # those that are not of the live sync
        self._unwritten = Sent()  # those of this process that do not stand in the book
        self._blocked_until = -math.inf
        self._live_beside = False
        self._last = 0
        self._heard_block: tuple[int, int] | None = None
        self._cleaned = -math.inf
        self._limit_is_told = self._block_is_told = True
        self._alone = False  # the book could not be used lately

    @property
    def learnt(self) -> int | None:
        """Requests in a window, as they were told, and raised for the time since; None while no limit is known."""
        if self.limit is None:
            return None
        times = max(0, self._clock.now_ms() - self.limit.told_ms) / 1000 // max(_HOUR, self.window)
        return int(self.limit.requests * _RAISE ** min(times, _MOST_RAISES))

    @property
    def window(self) -> float:
        """Seconds over which requests are counted."""
        return self._least_window if self.limit is None else max(self._least_window, self.limit.window)

    @property
    def allowed(self) -> int | None:
        """Requests this worker allows itself in a window; None while no limit is known."""
        return None if self._allowance is None else self._allowance.of(self.learnt)

    @property
    def per_minute(self) -> int | None:
        """Requests this worker allows itself in a minute, at least one; None while no limit is known."""
        return None if self.allowed is None else max(1, math.floor(self.allowed * WINDOW / self.window))

    def learn(self, requests: int, resets_in: float = 0.0) -> None:
        """Take note of the limit that a 429 told, and tell the other processes.

        `resets_in` is in how many seconds the window ends: so long it is at least. That of the same limit is never
        taken for a shorter one, since it may be near its end.
        """
        if requests <= 0:
            return
        known = self.window if self.limit is not None and self.limit.requests == requests else self._least_window
        window = next((length for length in _WINDOWS if length >= max(known, resets_in)), _WINDOWS[-1])
        self.limit = Limit(requests, window, self._clock.now_ms())
        self._limit_is_told = False
        self._tell_if_possible()

    def block(self, seconds: float) -> None:
        """Send nothing for so long, in no process: the server asked for it."""
        until = self._clock.monotonic() + seconds
        if until > self._blocked_until:
            self._blocked_until = until
            self._block_is_told = False
            self._tell_if_possible()

    def hear(self) -> None:
        """Read what the other processes learnt and were told; nothing when the state file is busy."""
        if self._book is not None:
            with contextlib.suppress(StateError):
                self._read(self._book)

    def adopt(self, before: Budget) -> None:
        """Take over what went out, and what was told, before it was known whose budget it was."""
        for time in before._unwritten.times:
            self._count(time, live=self._is_live)
            self._unwritten.add(time)
        before._unwritten = Sent()
        if before.limit is not None:
            self.limit, self._limit_is_told = before.limit, False
            self._tell_if_possible()
        self.block(before._blocked_until - self._clock.monotonic())

    async def acquire(self, longest: float | None = None) -> None:
        """Wait until one more request may go out.

        Raises Stopped, and RateLimited when Langfuse asked for a wait of more than `longest` seconds.
        """
        tries = 0
        while True:
            try:
                wait = self._attempt()
                self._alone = False
            except StateError as fault:
                tries += 1
                wait = _PAUSE
                if self._alone or tries == _TRIES:
                    self._go_alone(fault)
                    wait = self._attempt_alone()
            if wait <= 0:
                return
            # A wait within a minute is the pace that is kept to; a longer one was asked for, or is as good as that.
            blocked = wait if self.window > WINDOW else self._blocked_until - self._clock.monotonic()
            if longest is not None and blocked > max(0.0, longest):
                raise RateLimited("Langfuse's rate limit is reached, and it told to wait", retry_after=blocked)
            await self._clock.sleep(wait)

    def _attempt(self) -> float:
        """Take a request if there is one left; else return how many seconds to wait. Raises StateError."""
        book = self._book
        if book is None:
            return self._attempt_alone()
        if not (self._limit_is_told and self._block_is_told):
            self._tell(book)
        elif self.allowed is None:
            self._read(book)
        wait = self._wait()
        if self.allowed is None or wait > 0:
            return self._attempt_alone()
        with book.turn():
            self._read(book)
            wait = self._wait()
            if wait > 0:
                return wait
            now = self._clock.monotonic()
            last = book.note_sent(self._wall_ms(time) for time in (*self._unwritten.times, now))
            self._clean(book, now)
        self._last = last
        self._unwritten = Sent()
        self._count(now, live=self._is_live)
        return 0.0

    def _attempt_alone(self) -> float:
        """Take a request by what is known here; else return how many seconds to wait."""
        wait = self._wait()
        if wait <= 0:
            now = self._clock.monotonic()
            self._count(now, live=self._is_live)
            self._unwritten.add(now)
            self._unwritten.forget(now - self.window)
        return wait

    def _wait(self) -> float:
        now = self._clock.monotonic()
        window = self.window
        self._all.forget(now - window - LEAD)
        self._beside.forget(now - window)
        lead = LEAD if self._live_beside else 0.0
        wait = self._blocked_until + lead - now
        allowed = self.allowed
        if allowed is not None:
            wait = max(wait, self._all.wait(now, allowed, window + lead))
            if self._live_beside:
                wait = max(wait, self._beside.wait(now, most_beside(allowed), window))
        return wait

    def _read(self, book: Book) -> None:
        news = book.news(self._last)
        self._last = news.last
        self._live_beside = news.live_beside
        now, wall = self._clock.monotonic(), self._clock.now_ms()
        if news.limit is not None and self._limit_is_told:
            self.limit = Limit(*news.limit)
        for sent, live in news.sent:
            age = (wall - sent) / 1000
            if -WINDOW <= age < self.window + LEAD:  # what lies further ahead was written by a clock that was wrong
                self._count(now - max(0.0, age), live=live)
        if news.blocked is not None and news.blocked != self._heard_block:
            self._heard_block = since, until = news.blocked
            left = min(until - wall, until - since) / 1000
            if since - wall <= WINDOW * 1000 and now + left > self._blocked_until:
                self._blocked_until = now + left
                if left > 0:
                    log.info("another run was told to wait: %.0f s", left, extra={"action": "rate limit"})

    def _tell_if_possible(self) -> None:
        """Tell the other processes at once; what cannot be told now is told before the next request."""
        if self._book is not None:
            with contextlib.suppress(StateError):
                self._tell(self._book)

    def _tell(self, book: Book) -> None:
        with book.turn():
            self._read(book)  # another one may have been told to wait for longer
            now, wall = self._clock.monotonic(), self._clock.now_ms()
            if not self._limit_is_told and self.limit is not None:
                book.keep_limit(self.limit.requests, self.limit.window, self.limit.told_ms)
            if not self._block_is_told and self._blocked_until > now:
                book.keep_block(wall, wall + math.ceil((self._blocked_until - now) * 1000))
        self._limit_is_told = self._block_is_told = True

    def _count(self, time: float, *, live: bool) -> None:
        self._all.add(time)
        if not live:
            self._beside.add(time)

    def _clean(self, book: Book, now: float) -> None:
        if now - self._cleaned >= WINDOW:
            wall = self._clock.now_ms()
            book.forget_outside(wall - round((self.window + LEAD) * 1000), wall + round(WINDOW * 1000))
            self._cleaned = now

    def _go_alone(self, fault: StateError) -> None:
        if not self._alone:
            log.warning(
                "requests of other runs are not known for now, so the limit is kept by this run alone: %s",
                fault, extra={"action": "rate limit"},
            )  # fmt: skip
        self._alone = True

    @property
    def _is_live(self) -> bool:
        return self._book is not None and self._book.is_live

    def _wall_ms(self, time: float) -> int:
        return self._clock.now_ms() - round((self._clock.monotonic() - time) * 1000)


def most_beside(limit: int) -> int:
    """Return how many of so many requests a minute all others may take beside a live sync at work."""
    return max(1, min(math.floor(limit * _SHARE_BESIDE), limit - 1))
