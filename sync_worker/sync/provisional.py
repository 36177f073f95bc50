"""Where the live sync of a source begins: noted before the first request, whatever that is answered.

It is noted under the source's name, since the project is not known yet. The first answer that makes the time certain
corrects what was noted; the first cycle that reaches the project moves it there, once and for all.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sync_worker.corrected import CorrectedClock
from sync_worker.errors import ConfigError
from sync_worker.ledger import Ledger
from sync_worker.ledger.state_keys import FIRST_NOTED
from sync_worker.times import iso_time, moment_ms, span_ms

#: No Langfuse is older (its first release, in Unix milliseconds): a clock that says less was not set.
_EARLIEST_MS = 1_672_531_200_000


class ProvisionalStarts:
    """Notes of this process on when sources were first to be synced."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._noted_at: dict[str, float] = {}  # by source, monotonic seconds

    def note(self, name: str, clock: CorrectedClock) -> None:
        """Note that a source is to be synced from now on, where nothing is noted."""
        if provisional_start_ms(self._ledger, name) is None:
            self._noted_at[name] = clock.monotonic()
            self._store(name, clock.now_ms(), is_proven=_is_proven(clock))

    def correct(self, name: str, clock: CorrectedClock) -> None:
        """Correct what is noted of a source, once the time is proven by more than this machine's word."""
        stored = _stored(self._ledger, name)
        if stored is None or stored["proven"] or not _is_proven(clock):
            return
        now = clock.now_ms()
        if name in self._noted_at:
            moment = now - round((clock.monotonic() - self._noted_at[name]) * 1000)
        else:
            moment = stored["ms"] if _EARLIEST_MS <= stored["ms"] <= now else now
        self._store(name, moment, is_proven=True)

    def _store(self, name: str, moment: int, *, is_proven: bool) -> None:
        state = self._ledger.state(start_scope(name))
        state.put(FIRST_NOTED, {"ms": moment, "proven": is_proven})
        state.save()


def start_scope(name: str) -> str:
    """Return the scope of the state keys about the start of a source of this name."""
    return f"start {name}"


def provisional_start_ms(ledger: Ledger, name: str) -> int | None:
    """Return when a source of this name was first to be synced, in Unix ms; None where nothing is noted any more."""
    stored = _stored(ledger, name)
    return None if stored is None else int(stored["ms"])


def sync_start_ms(setting: timedelta | datetime, noted: int, now: int) -> int:
    """Return what SYNC_START means for a source that was noted then. Raises ConfigError for a time yet to come."""
    first = min(noted, now) - span_ms(setting) if isinstance(setting, timedelta) else moment_ms(setting)
    if first > now:
        raise ConfigError(f"SYNC_START lies in the future ({iso_time(first)}). Try: a duration such as 24h")
    return first


def _stored(ledger: Ledger, name: str) -> dict[str, int] | None:
    found: dict[str, int] | None = ledger.state(start_scope(name)).get(FIRST_NOTED)
    return found


def _is_proven(clock: CorrectedClock) -> bool:
    reading = clock.read()
    return reading.certain and not reading.machine_only
