"""The clocks of a run: one for each source's servers, and one for the state file."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from sync_worker.clock import Clock, ClockOnMachine
from sync_worker.corrected import AGREEMENT_MS, CONFIRM_AFTER_MS, MACHINE_ONLY_MS, CorrectedClock
from sync_worker.ledger import Ledger
from sync_worker.ledger.state_keys import LAST_CERTAIN, UNCONFIRMED
from sync_worker.settings import Source, target_of
from sync_worker.times import iso_time

SCOPE = "clock"
#: The last certain time is stored when it is older than this, in milliseconds.
_STORE_EVERY = 60_000
_WARN_EVERY = 3_600.0  # seconds

log = logging.getLogger(__name__)


class Clocks(ClockOnMachine):
    """The clocks of a run. As a clock itself, it uses any source whose time is certain."""

    def __init__(self, machine: Clock, ledger: Ledger) -> None:
        super().__init__(machine)
        self._ledger = ledger
        self._clocks: dict[tuple[str, str], CorrectedClock] = {}
        self._warned: dict[str, float] = {}

    def of(self, source: Source) -> CorrectedClock:
        """Return the clock of a source, made on first use."""
        servers = source.langfuse_base_url, target_of(source).url
        if servers not in self._clocks:
            self._clocks[servers] = CorrectedClock(self._machine, last_certain_ms(self._ledger))
        return self._clocks[servers]

    def drifts_ms(self, sources: Iterable[Source]) -> dict[str, int]:
        """Return, by source, how far the machine's clock is ahead of Langfuse's, in ms, where that is known.

        Reads no state file, so that another thread may ask.
        """
        clocks = dict(self._clocks)
        found = {one.name: clocks.get((one.langfuse_base_url, target_of(one).url)) for one in sources}
        drifts = {name: clock.drift_ms for name, clock in found.items() if clock is not None}
        return {name: drift for name, drift in drifts.items() if drift is not None}

    def keep(self, clock: CorrectedClock) -> None:
        """Store the time of a clock, with the next commit, if it is certain: later ones must not be before it.

        The machine's time alone, far from the last certain time, is trusted when a later run confirms it.
        """
        if self._ledger.lease is None:
            return
        reading = clock.read()
        if reading.machine_only and not clock.langfuse.omits_date:
            return  # Langfuse may still report its time
        if reading.machine_only and not reading.certain:
            if self._confirm_over_runs(reading.now_ms):
                clock.confirm()
            return
        if not reading.certain:
            return
        state = self._ledger.state(SCOPE)
        stored = state.get(LAST_CERTAIN) or 0
        wrong = stored > reading.now_ms + AGREEMENT_MS and clock.all_agree
        if wrong:
            log.warning(
                "the last certain time in the state file, %s, is ahead of what all clocks show now, and is corrected",
                iso_time(stored), extra={"action": "clock"},
            )  # fmt: skip
        if reading.machine_only:
            clock.confirm()
        if wrong or reading.now_ms >= stored + _STORE_EVERY:
            state.put(LAST_CERTAIN, reading.now_ms)

    def _confirm_over_runs(self, now_ms: int) -> bool:
        last = self._ledger.state(SCOPE).get(UNCONFIRMED, fresh=True) or 0
        if not last <= now_ms <= last + MACHINE_ONLY_MS:
            self._ledger.state(SCOPE).put(UNCONFIRMED, now_ms)
            self._ledger.state(SCOPE).save()
            return False
        return now_ms >= last + CONFIRM_AFTER_MS

    def warn(self, clock: CorrectedClock) -> None:
        """Warn, once an hour, if the machine's clock is wrong or the time is not certain."""
        ahead = clock.drift_ms
        if not clock.is_certain:
            self._warn(
                "uncertain",
                f"the time is not certain: {clock.describe()}. Reading and sending continue, but nothing more "
                "is completed, given up or forgotten. Try: time synchronisation on this machine",
            )
        elif ahead is not None and abs(ahead) > AGREEMENT_MS:
            side = "ahead of" if ahead > 0 else "behind"
            by = "Langfuse's time" if clock.now_ms() == clock.langfuse.now_ms() else "the other clocks"
            self._warn(
                "apart",
                f"this machine's clock is {abs(ahead) / 1000:,.0f} s {side} Langfuse's: the sync uses {by}. "
                "Try: time synchronisation on this machine",
            )

    def _warn(self, kind: str, line: str) -> None:
        before, now = self._warned.get(kind), self._machine.monotonic()
        if before is None or now - before >= _WARN_EVERY:
            self._warned[kind] = now
            log.warning("%s", line, extra={"action": "clock"})

    def now_ms(self) -> int:
        """Return the time in Unix milliseconds: a source's if certain, else the last certain one, or the machine's."""
        readings = [clock.read() for clock in self._clocks.values()]
        certain = [reading.now_ms for reading in readings if reading.certain]
        if certain:
            return certain[0]
        return max((clock.certain_ms() for clock in self._clocks.values()), default=0) or self._machine.now_ms()


def last_certain_ms(ledger: Ledger) -> int:
    """Return the last certain time, in Unix milliseconds; 0 if there was none yet."""
    return ledger.state(SCOPE).get(LAST_CERTAIN, fresh=True) or 0
