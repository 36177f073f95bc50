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
MACHINE_ONLY_MS = 86_400_000
#: A machine that says it again after so long, in milliseconds, is believed further than that.
CONFIRM_AFTER_MS = 600_000
_REPEATED_AFTER = 2.0  # seconds after which the same date once more was not made for this answer
_MAX_AGE = 3_600.0  # seconds after which a server is asked for its time again


class ServerClock:
    """A server's clock, known by the dates of its answers."""

    def __init__(self, machine: Clock) -> None:
        self._machine = machine
        self._offset: float | None = None  # of the server's clock to the monotonic one, in milliseconds
        self._date: tuple[int, float] | None = None  # the last date, and when its answer was there
        self._responded = False
        self._step_back: tuple[float, float] | None = None  # where the offset may lie, by a date that took it back
        self._requested_at: float | None = None  # when the server was asked last, whether it reported the time or not
        self._machine_offset = 0.0  # of the machine's clock to the monotonic one at that moment, in milliseconds

    def report(self, date_ms: int | None, requested: float, answered: float) -> None:
        """Take note of the date of an answer; `requested` and `answered` are monotonic seconds around it.

        A date leaves out the milliseconds, and was written between the question and the answer: the clock is moved no
        further than that proves, and begins with the machine's.
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
        # What was far ahead of the server is set to the least that its time can be: no time counts before it has come.
        self._offset = low if start > high + STEP_MS else min(max(start, low), high)

    def _is_confirmed(self, low: float, high: float) -> bool:
        return (
            self._step_back is not None and low <= self._step_back[1] + STEP_MS and high >= self._step_back[0] - STEP_MS
        )

    def now_ms(self) -> int | None:
        """Return the server's time in Unix milliseconds; None where its answers do not tell it."""
        return None if self._offset is None else round(self._offset + self._machine.monotonic() * 1000)

    def note_request(self) -> None:
        """Take note that the server was asked; it may not tell its time at all."""
        self._requested_at, self._machine_offset = self._machine.monotonic(), self._offset_of_machine()

    @property
    def omits_date(self) -> bool:
        """Whether the server answers, but does not tell its time."""
        return self._responded and self._offset is None

    @property
    def is_due(self) -> bool:
        """Whether to ask the server for its time: not asked lately, or the machine's clock was set since."""
        if self._requested_at is None or self._machine.monotonic() - self._requested_at > _MAX_AGE:
            return True
        return abs(self._offset_of_machine() - self._machine_offset) > STEP_MS

    def _offset_of_machine(self) -> float:
        return self._machine.now_ms() - self._machine.monotonic() * 1000


@dataclass(frozen=True, slots=True)
class Reading:
    """What time it is, in Unix milliseconds; where that is not `certain`, only the best guess."""

    now_ms: int
    certain: bool
    machine_only: bool = False  # by the machine's word alone


class CorrectedClock(ClockOnMachine):
    """A clock that goes by what two of three clocks tell. `last_ms` is the last time that was certain; 0 means none."""

    def __init__(self, machine: Clock, last_ms: int = 0) -> None:
        super().__init__(machine)
        self._last = last_ms
        # Offsets to the monotonic clock, in milliseconds: of what two clocks told, and of what the machine said alone.
        self._carried: float | None = None
        self._machine_only_offset: float | None = None
        self.langfuse = ServerClock(machine)
        self.kelet = ServerClock(machine)

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
        reading = self._evaluate()
        offset = reading.now_ms - self._machine.monotonic() * 1000
        if reading.certain and reading.machine_only:
            self._machine_only_offset = offset
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
    def drift_ms(self) -> int | None:
        """How far the machine's clock runs ahead of Langfuse's (behind where negative); None where that is not told."""
        langfuse = self.langfuse.now_ms()
        return None if langfuse is None else self._machine.now_ms() - langfuse

    @property
    def needs_langfuse(self) -> bool:
        """Whether to ask Langfuse for its time: not reported lately, and not just after the last certain time."""
        return self.langfuse.is_due and not 0 <= self._machine.now_ms() - self._last <= AGREEMENT_MS

    @property
    def needs_kelet(self) -> bool:
        """Whether to ask Kelet: it was not asked lately, and Langfuse tells no time, or none that is certain."""
        doubted = self.langfuse.now_ms() is not None and not self.is_certain
        return self.kelet.is_due and (doubted or self.langfuse.omits_date)

    def describe(self) -> str:
        """Return for people what each clock says."""
        langfuse, kelet = self.langfuse.now_ms(), self.kelet.now_ms()
        parts = [f"this machine says {iso_time(self._machine.now_ms())}"]
        parts += [f"Langfuse {'nothing' if langfuse is None else iso_time(langfuse)}"]
        parts += [f"Kelet {'nothing' if kelet is None else iso_time(kelet)}"]
        if self._last:
            parts.append(f"the last certain time was {iso_time(self._last)}")
        return ", ".join(parts)

    def _evaluate(self) -> Reading:
        machine, langfuse, kelet = self._machine.now_ms(), self.langfuse.now_ms(), self.kelet.now_ms()
        if langfuse is not None and self.all_agree:
            self._last = min(self._last, langfuse)
        reading = self._compare(machine, langfuse, kelet)
        return replace(reading, certain=reading.certain and reading.now_ms >= self._last - AGREEMENT_MS)

    def _compare(self, machine: int, langfuse: int | None, kelet: int | None) -> Reading:
        carried = self._at(self._carried)
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
        kept = self._at(self._machine_only_offset) if carried is None else carried
        if kept is not None:
            return Reading(kept, certain=True, machine_only=True)
        return Reading(machine, certain=not self._last or machine <= self._last + MACHINE_ONLY_MS, machine_only=True)

    def _at(self, offset: float | None) -> int | None:
        return None if offset is None else round(offset + self._machine.monotonic() * 1000)


def _near(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and abs(one - other) <= AGREEMENT_MS
