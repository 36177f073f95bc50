"""Time by which progress is decided: this machine's clock, corrected by the dates of Langfuse's and Kelet's answers.

Three clocks are heard: this machine's, Langfuse's and Kelet's. What two of them tell is certain; Langfuse's word is
taken where it is one of the two. Between answers a monotonic clock carries the time on, so a machine's clock that is
set while the process runs changes nothing. Nothing older than the last certain time is certain again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sync_worker.clock import Clock, ClockOnMachine
from sync_worker.times import iso_time

#: Clocks this close to each other tell the same time, in milliseconds.
AGREEMENT_MS = 300_000
#: A date that takes a server's clock back by more is believed when a second one says so too: it may be a cache's.
STEP_MS = 5_000
#: A machine that is alone with its word is believed so far after the last certain time, in milliseconds.
ALONE_MS = 86_400_000
#: A machine that says it again after so long, in milliseconds, is believed further than that.
AGAIN_MS = 600_000
_FROZEN = 2.0  # seconds after which the same date once more was not made for this answer
_FRESH = 3_600.0  # seconds after which a server is asked for its time again


class Witness:
    """A server's clock, known by the dates of its answers."""

    def __init__(self, machine: Clock) -> None:
        self._machine = machine
        self._offset: float | None = None  # of the server's clock to the monotonic one, in milliseconds
        self._date: tuple[int, float] | None = None  # the last date, and when its answer was there
        self._answers = False
        self._back: tuple[float, float] | None = None  # where the offset may lie, by a date that took it back
        self._heard: float | None = None  # when the server was asked last, whether it told the time or not
        self._apart = 0.0  # of the machine's clock to the monotonic one at that moment, in milliseconds

    def report(self, date_ms: int | None, asked: float, answered: float) -> None:
        """Take note of the date of an answer; `asked` and `answered` are monotonic seconds around it.

        A date leaves out the milliseconds, and was written between the question and the answer: the clock is moved no
        further than that proves, and begins with the machine's.
        """
        self.asked()
        self._answers = True
        if date_ms is None:
            return
        before, self._date = self._date, (date_ms, answered)
        if before is not None and before[0] == date_ms and asked - before[1] > _FROZEN:
            self._offset, self._date = None, before
            return
        low, high = date_ms - answered * 1000, date_ms + 999 - asked * 1000
        if self._offset is not None and high < self._offset - STEP_MS and not self._said_before(low, high):
            self._back = low, high
            return
        self._back = None
        start = self._apart if self._offset is None else self._offset
        # What was far ahead of the server is set to the least that its time can be: no time counts before it has come.
        self._offset = low if start > high + STEP_MS else min(max(start, low), high)

    def _said_before(self, low: float, high: float) -> bool:
        return self._back is not None and low <= self._back[1] + STEP_MS and high >= self._back[0] - STEP_MS

    def now_ms(self) -> int | None:
        """Return the server's time in Unix milliseconds; None where its answers do not tell it."""
        return None if self._offset is None else round(self._offset + self._machine.monotonic() * 1000)

    def asked(self) -> None:
        """Take note that the server was asked; it may not tell its time at all."""
        self._heard, self._apart = self._machine.monotonic(), self._machine_apart()

    @property
    def is_silent(self) -> bool:
        """Whether the server answers, but does not tell its time."""
        return self._answers and self._offset is None

    @property
    def is_due(self) -> bool:
        """Whether to ask the server for its time: not asked lately, or the machine's clock was set since."""
        if self._heard is None or self._machine.monotonic() - self._heard > _FRESH:
            return True
        return abs(self._machine_apart() - self._apart) > STEP_MS

    def _machine_apart(self) -> float:
        return self._machine.now_ms() - self._machine.monotonic() * 1000


@dataclass(frozen=True, slots=True)
class Reading:
    """What time it is, in Unix milliseconds; where that is not `certain`, only the best guess."""

    now_ms: int
    certain: bool
    alone: bool = False  # by the machine's word alone


class CorrectedClock(ClockOnMachine):
    """A clock that goes by what two of three clocks tell. `last_ms` is the last time that was certain; 0 means none."""

    def __init__(self, machine: Clock, last_ms: int = 0) -> None:
        super().__init__(machine)
        self._last = last_ms
        # Offsets to the monotonic clock, in milliseconds: of what two clocks told, and of what the machine said alone.
        self._carried: float | None = None
        self._alone: float | None = None
        self.langfuse = Witness(machine)
        self.kelet = Witness(machine)

    def now_ms(self) -> int:
        """Return the time in Unix milliseconds, or the best guess: what to read and send by."""
        return self.read().now_ms

    def certain_ms(self) -> int:
        """Return a time in Unix milliseconds that has come for certain: now, or the last one that was; 0 where none.

        By it is decided what cannot be taken back: what counts as complete, is given up, or is forgotten.
        """
        reading = self.read()
        return reading.now_ms if reading.certain else self._last

    @property
    def is_certain(self) -> bool:
        """Whether the time is certain now."""
        return self.read().certain

    def read(self) -> Reading:
        """Return the time."""
        reading = self._judged()
        offset = reading.now_ms - self._machine.monotonic() * 1000
        if reading.certain and reading.alone:
            self._alone = offset
        elif reading.certain:
            self._carried = offset
            self._last = max(self._last, reading.now_ms)
        return reading

    @property
    def all_agree(self) -> bool:
        """Whether all three clocks tell the same time: then a last certain time that lies ahead was wrong."""
        machine, langfuse, kelet = self._machine.now_ms(), self.langfuse.now_ms(), self.kelet.now_ms()
        return _near(langfuse, machine) and _near(langfuse, kelet)

    def confirm(self) -> None:
        """Take what the machine says alone for certain: what comes after does not lie before it."""
        self._last = max(self._last, self._machine.now_ms())

    @property
    def ahead_ms(self) -> int | None:
        """How far the machine's clock runs ahead of Langfuse's (behind where negative); None where that is not told."""
        langfuse = self.langfuse.now_ms()
        return None if langfuse is None else self._machine.now_ms() - langfuse

    @property
    def needs_langfuse(self) -> bool:
        """Whether to ask Langfuse for its time: not told lately, and not just after the last certain time."""
        return self.langfuse.is_due and not 0 <= self._machine.now_ms() - self._last <= AGREEMENT_MS

    @property
    def needs_kelet(self) -> bool:
        """Whether to ask Kelet: it was not asked lately, and Langfuse tells no time, or none that is certain."""
        doubted = self.langfuse.now_ms() is not None and not self.is_certain
        return self.kelet.is_due and (doubted or self.langfuse.is_silent)

    def testimony(self) -> str:
        """Return for people what each clock says."""
        langfuse, kelet = self.langfuse.now_ms(), self.kelet.now_ms()
        parts = [f"this machine says {iso_time(self._machine.now_ms())}"]
        parts += [f"Langfuse {'nothing' if langfuse is None else iso_time(langfuse)}"]
        parts += [f"Kelet {'nothing' if kelet is None else iso_time(kelet)}"]
        if self._last:
            parts.append(f"the last certain time was {iso_time(self._last)}")
        return ", ".join(parts)

    def _judged(self) -> Reading:
        machine, langfuse, kelet = self._machine.now_ms(), self.langfuse.now_ms(), self.kelet.now_ms()
        if langfuse is not None and self.all_agree:
            self._last = min(self._last, langfuse)
        reading = self._agreed(machine, langfuse, kelet)
        return replace(reading, certain=reading.certain and reading.now_ms >= self._last - AGREEMENT_MS)

    def _agreed(self, machine: int, langfuse: int | None, kelet: int | None) -> Reading:
        carried = self._at(self._carried)
        if langfuse is not None and (_near(langfuse, machine) or _near(langfuse, kelet)):
            return Reading(langfuse, certain=True)
        if _near(machine, kelet):
            return Reading(machine, certain=True)
        if langfuse is not None and _near(langfuse, carried):
            return Reading(langfuse, certain=True)
        if carried is not None and (_near(carried, machine) or _near(carried, kelet)):
            return Reading(carried, certain=True)
        told = kelet if langfuse is None else langfuse
        if told is not None:
            return Reading(told, certain=False)
        kept = self._at(self._alone) if carried is None else carried
        if kept is not None:
            return Reading(kept, certain=True, alone=True)
        return Reading(machine, certain=not self._last or machine <= self._last + ALONE_MS, alone=True)

    def _at(self, offset: float | None) -> int | None:
        return None if offset is None else round(offset + self._machine.monotonic() * 1000)


def _near(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and abs(one - other) <= AGREEMENT_MS
