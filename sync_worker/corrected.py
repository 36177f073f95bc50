"""The time that decides progress: this machine's clock, corrected by the dates of Langfuse's and Kelet's responses.

Three clocks are read: this machine's, Langfuse's and Kelet's. A time on which two of them agree is certain; Langfuse's
is used where it is one of the two. Between responses the monotonic clock carries the time on, so setting the machine's
clock while the process runs changes nothing. A time before the last certain time is never certain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sync_worker.clock import Clock, ClockOnMachine
from sync_worker.times import iso_time

#: Clocks agree if they differ by no more than this, in milliseconds.
AGREEMENT_MS = 300_000
#: A date that sets a server's clock back by more, in milliseconds, counts only when a second one confirms it: it may be
#: a cache's.
STEP_MS = 5_000
#: How far after the last certain time this machine's clock is trusted without a second clock, in milliseconds.
MACHINE_ONLY_MS = 86_400_000
#: A machine's clock beyond that is trusted when a later run, at least so many milliseconds later, confirms it.
CONFIRM_AFTER_MS = 600_000
_REPEATED_AFTER = 2.0  # seconds after which a repeated date was not generated for this response
_MAX_AGE = 3_600.0  # seconds after which a server's time is requested again


class ServerClock:
    """A server's clock, as the dates of its responses show it."""

    def __init__(self, machine: Clock) -> None:
        self._machine = machine
        self._offset: float | None = None  # of the server's clock to the monotonic one, in milliseconds
        self._date: tuple[int, float] | None = None  # the last date, and when its response arrived
        self._responded = False
        self._step_back: tuple[float, float] | None = None  # bounds of the offset, by a date that set it back
        self._requested_at: float | None = None  # of the last request, with or without a date in return
        self._machine_offset = 0.0  # offset of the machine's clock to the monotonic one then, in milliseconds

    def report(self, date_ms: int | None, requested: float, answered: float) -> None:
        """Record the date of a response; `requested` and `answered` are monotonic seconds around it.

        A date has no milliseconds, and was written between request and response: the clock is moved no further than
        that proves. It starts with the machine's.
        """
        self.note_request()
        self._responded = True
        if date_ms is None:
            return
        before, self._date = self._date, (date_ms, answered)
        if before is not None and before[0] == date_ms and requested - before[1] > _REPEATED_AFTER:
            self._offset, self._date = None, before
            return
        low, high = date_ms - answered * 1000, date_ms + 999 - requested * 1000
        if self._offset is not None and high < self._offset - STEP_MS and not self._is_confirmed(low, high):
            self._step_back = low, high
            return
        self._step_back = None
        start = self._machine_offset if self._offset is None else self._offset
        # Far ahead of the server: set to the earliest that its time can be, so that no time counts before it has
        # passed.
        self._offset = low if start > high + STEP_MS else min(max(start, low), high)

    def _is_confirmed(self, low: float, high: float) -> bool:
        return (
            self._step_back is not None and low <= self._step_back[1] + STEP_MS and high >= self._step_back[0] - STEP_MS
        )

    def now_ms(self) -> int | None:
        """Return the server's time in Unix milliseconds; None if its responses do not carry it."""
        return None if self._offset is None else round(self._offset + self._machine.monotonic() * 1000)

    def note_request(self) -> None:
        """Record that a request was sent; its response may carry no date."""
        self._requested_at = self._machine.monotonic()
        self._machine_offset = self._machine.now_ms() - self._requested_at * 1000

    @property
    def omits_date(self) -> bool:
        """Whether the server responds, but without a date."""
        return self._responded and self._offset is None

    @property
    def is_due(self) -> bool:
        """Whether to request the server's time: no recent request, or the machine's clock was set since."""
        now = self._machine.monotonic()
        if self._requested_at is None or now - self._requested_at > _MAX_AGE:
            return True
        return abs(self._machine.now_ms() - now * 1000 - self._machine_offset) > STEP_MS


@dataclass(frozen=True, slots=True)
class Reading:
    """The time, in Unix milliseconds; the best guess if it is not `certain`."""

    now_ms: int
    certain: bool
    machine_only: bool = False  # by this machine's clock alone


class CorrectedClock(ClockOnMachine):
    """A clock that follows two of three clocks. `last_ms` is the last certain time; 0 means none."""

    def __init__(self, machine: Clock, last_ms: int = 0) -> None:
        super().__init__(machine)
        self._last = last_ms
        # Offsets to the monotonic clock, in milliseconds: of the time that two clocks agreed on, and of the machine's
        # alone.
        self._carried: float | None = None
        self._machine_only_offset: float | None = None
        self.langfuse = ServerClock(machine)
        self.kelet = ServerClock(machine)

    def now_ms(self) -> int:
        """Return the time in Unix milliseconds, or the best guess: used to read and send."""
        return self.read().now_ms

    def certain_ms(self) -> int:
        """Return a time in Unix milliseconds that has certainly passed: now, or the last certain time; 0 if none.

        It decides what cannot be undone: what is completed, given up, or forgotten.
        """
        reading = self.read()
        return reading.now_ms if reading.certain else self._last

    @property
    def is_certain(self) -> bool:
        """Whether the time is certain now."""
        return self.read().certain

    def read(self) -> Reading:
        """Return the time."""
        machine, langfuse, kelet = self._machine.now_ms(), self.langfuse.now_ms(), self.kelet.now_ms()
        monotonic_ms = self._machine.monotonic() * 1000
        if langfuse is not None and _near(langfuse, machine) and _near(langfuse, kelet):
            self._last = min(self._last, langfuse)
        reading = self._compare(machine, langfuse, kelet, monotonic_ms)
        if reading.certain and reading.now_ms < self._last - AGREEMENT_MS:
            return replace(reading, certain=False)
        if reading.certain and reading.machine_only:
            self._machine_only_offset = reading.now_ms - monotonic_ms
        elif reading.certain:
            self._carried = reading.now_ms - monotonic_ms
            self._last = max(self._last, reading.now_ms)
        return reading

    @property
    def all_agree(self) -> bool:
        """Whether all three clocks agree: then a last certain time in the future was wrong."""
        machine, langfuse, kelet = self._machine.now_ms(), self.langfuse.now_ms(), self.kelet.now_ms()
        return _near(langfuse, machine) and _near(langfuse, kelet)

    def confirm(self) -> None:
        """Accept the machine's time as certain: later certain times are not before it."""
        self._last = max(self._last, self._machine.now_ms())

    @property
    def drift_ms(self) -> int | None:
        """How far the machine's clock is ahead of Langfuse's, in ms (behind if negative); None if unknown."""
        langfuse = self.langfuse.now_ms()
        return None if langfuse is None else self._machine.now_ms() - langfuse

    @property
    def needs_langfuse(self) -> bool:
        """Whether to request Langfuse's time: not known recently, and not just after the last certain time."""
        return self.langfuse.is_due and not 0 <= self._machine.now_ms() - self._last <= AGREEMENT_MS

    @property
    def needs_kelet(self) -> bool:
        """Whether to request Kelet's time: no recent request, and Langfuse reports none, or none that is certain."""
        doubted = self.langfuse.now_ms() is not None and not self.is_certain
        return self.kelet.is_due and (doubted or self.langfuse.omits_date)

    def describe(self) -> str:
        """Return the time of each clock, for people."""
        langfuse, kelet = self.langfuse.now_ms(), self.kelet.now_ms()
        parts = [f"this machine: {iso_time(self._machine.now_ms())}"]
        parts += [f"Langfuse: {'unknown' if langfuse is None else iso_time(langfuse)}"]
        parts += [f"Kelet: {'unknown' if kelet is None else iso_time(kelet)}"]
        if self._last:
            parts.append(f"last certain time: {iso_time(self._last)}")
        return ", ".join(parts)

    def _compare(self, machine: int, langfuse: int | None, kelet: int | None, monotonic_ms: float) -> Reading:
        carried = None if self._carried is None else round(self._carried + monotonic_ms)
        if langfuse is not None and (_near(langfuse, machine) or _near(langfuse, kelet)):
            return Reading(langfuse, certain=True)
        if _near(machine, kelet):
            return Reading(machine, certain=True)
        if langfuse is not None and _near(langfuse, carried):
            return Reading(langfuse, certain=True)
        if carried is not None and (_near(carried, machine) or _near(carried, kelet)):
            return Reading(carried, certain=True)
        reported = kelet if langfuse is None else langfuse
        if reported is not None:
            return Reading(reported, certain=False)
        if carried is not None:
            return Reading(carried, certain=True, machine_only=True)
        if self._machine_only_offset is not None:
            return Reading(round(self._machine_only_offset + monotonic_ms), certain=True, machine_only=True)
        return Reading(machine, certain=not self._last or machine <= self._last + MACHINE_ONLY_MS, machine_only=True)


def _near(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and abs(one - other) <= AGREEMENT_MS
