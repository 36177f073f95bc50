"""What time it is, told by this machine, Langfuse and Kelet, any of which may be wrong, late, or silent."""

from __future__ import annotations

import pytest

from sync_worker.corrected import AGREEMENT_MS, MACHINE_ONLY_MS, CorrectedClock, ServerClock
from tests.support.clock import VirtualClock

NOW = 1_795_348_800_000
HOUR, DAY = 3_600_000, 86_400_000
Spoken = int | None


def _says(clock: CorrectedClock, witness: ServerClock, moment: int) -> None:
    witness.report(moment // 1000 * 1000, clock.monotonic(), clock.monotonic())


def _clock(machine: int, langfuse: Spoken, kelet: Spoken, last: int = 0) -> CorrectedClock:
    clock = CorrectedClock(VirtualClock(machine), last)
    for witness, moment in ((clock.langfuse, langfuse), (clock.kelet, kelet)):
        if moment is not None:
            _says(clock, witness, moment)
    return clock


@pytest.mark.parametrize(
    ("machine", "langfuse", "kelet", "last", "expected"),
    [
        (NOW, NOW, None, 0, NOW),
        (NOW - 2 * AGREEMENT_MS, NOW, NOW, 0, NOW),
        (0, NOW, NOW, NOW - DAY, NOW),
        (NOW + 100 * HOUR, NOW, NOW, NOW, NOW),
        (NOW, NOW + DAY, NOW, 0, NOW),
        (NOW, NOW, NOW + DAY, 0, NOW),
        (NOW, None, NOW, 0, NOW),
        (NOW, None, None, 0, NOW),
        (NOW, None, None, NOW - MACHINE_ONLY_MS, NOW),
        (NOW, NOW, NOW, NOW + DAY, NOW),
    ],
)
def test_two_of_three_decide(machine: int, langfuse: Spoken, kelet: Spoken, last: int, expected: int) -> None:
    """One clock that is wrong would stop the sync, or be believed."""
    clock = _clock(machine, langfuse, kelet, last)
    assert clock.is_certain
    assert abs(clock.now_ms() - expected) < 1000
    assert clock.certain_ms() == clock.now_ms()


@pytest.mark.parametrize(
    ("machine", "langfuse", "kelet", "last"),
    [
        (NOW - HOUR, NOW, None, NOW - 2 * HOUR),
        (NOW - HOUR, NOW, NOW + HOUR, NOW - 2 * HOUR),
        (NOW - HOUR, None, NOW, NOW - 2 * HOUR),
        (0, None, None, NOW),
        (0, 0, None, NOW),
        (NOW + MACHINE_ONLY_MS + 1, None, None, NOW),
    ],
)
def test_without_two_nothing_is_certain(machine: int, langfuse: Spoken, kelet: Spoken, last: int) -> None:
    """A clock that nobody confirms would decide what is complete, given up and forgotten."""
    clock = _clock(machine, langfuse, kelet, last)
    assert not clock.is_certain
    assert clock.certain_ms() == last
    assert clock.now_ms() == (machine if langfuse is None and kelet is None else clock.now_ms())


def test_clocks_that_agree_within_a_second_change_nothing() -> None:
    """A date leaves out the milliseconds: time would jump with each answer."""
    machine = VirtualClock(NOW + 700)
    clock = CorrectedClock(machine)
    for _ in range(20):
        _says(clock, clock.langfuse, machine.now_ms())
        assert clock.now_ms() == machine.now_ms()
        machine.advance(0.37)


def test_time_goes_on_though_the_machine_is_set() -> None:
    """A clock that is set in the middle of a cycle takes the time with it."""
    machine = VirtualClock(NOW)
    clock = CorrectedClock(machine)
    _says(clock, clock.langfuse, NOW)
    assert clock.is_certain
    for jump in (-NOW / 1000, 360_000, 3_600):
        machine.jump(jump)
        machine.advance(1)
        assert clock.is_certain
        assert abs(clock.now_ms() - NOW) < 60_000


def test_first_word_of_a_lone_machine_is_no_second_witness() -> None:
    """A machine an hour ahead is believed before Langfuse says otherwise, and then outvotes it with its own word."""
    machine = VirtualClock(NOW + HOUR)
    clock = CorrectedClock(machine)
    assert clock.now_ms() == NOW + HOUR
    _says(clock, clock.langfuse, NOW)
    assert not clock.is_certain
    _says(clock, clock.kelet, NOW)
    assert clock.certain_ms() // 1000 == NOW // 1000


def test_date_that_stands_still_is_no_witness() -> None:
    """A proxy that answers with a date of its cache stops the time."""
    machine = VirtualClock(NOW)
    clock = CorrectedClock(machine)
    for _ in range(30):
        _says(clock, clock.langfuse, NOW)
        machine.advance(60)
    assert clock.langfuse.now_ms() is None
    assert clock.certain_ms() == machine.now_ms()


def test_one_old_date_does_not_set_the_time_back() -> None:
    """A single answer out of a cache that does not say so takes the time back by its age."""
    machine = VirtualClock(NOW)
    clock = CorrectedClock(machine)
    _says(clock, clock.langfuse, NOW)
    machine.advance(10)
    _says(clock, clock.langfuse, NOW - HOUR)
    assert clock.langfuse.now_ms() == machine.now_ms()
    machine.advance(10)
    _says(clock, clock.langfuse, NOW - HOUR + 10_000)
    assert clock.langfuse.now_ms() is not None
    assert abs((clock.langfuse.now_ms() or 0) - (NOW - HOUR + 10_000)) < 1000


def test_slow_answer_proves_little() -> None:
    """The minute that a slow page took would count as a difference of clocks."""
    machine = VirtualClock(NOW)
    clock = CorrectedClock(machine)
    asked = machine.monotonic()
    machine.advance(50)
    clock.langfuse.report(NOW + 20_000, asked, machine.monotonic())
    assert clock.now_ms() == machine.now_ms()
