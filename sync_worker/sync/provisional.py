"""The provisional sync start of a source: stored before the first request, whatever its response.

It is stored under the source's name, since the project is not known yet. The first response that makes the time certain
corrects it; the first cycle that reaches the project makes it final.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sync_worker.corrected import CorrectedClock
from sync_worker.errors import ConfigError
from sync_worker.ledger import Ledger
from sync_worker.ledger.state_keys import FIRST_NOTED
from sync_worker.times import iso_time, moment_ms, span_ms

#: Langfuse's first release, in Unix milliseconds: an earlier clock was never set.
_EARLIEST_MS = 1_672_531_200_000


class ProvisionalStarts:
    """Provisional sync starts of one process's sources."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._stored_at: dict[str, float] = {}  # by source, monotonic seconds

    def note(self, name: str, clock: CorrectedClock) -> None:
        """Store now as the provisional sync start of a source, if it has none."""
        if provisional_start_ms(self._ledger, name) is None:
            self._stored_at[name] = clock.monotonic()
            self._store(name, clock.now_ms(), is_proven=_is_proven(clock))

    def correct(self, name: str, clock: CorrectedClock) -> None:
        """Correct a source's provisional sync start, once the time is proven by more than this machine's clock."""
        stored = _stored(self._ledger, name)
        if stored is None or stored["proven"] or not _is_proven(clock):
            return
        now = clock.now_ms()
        if name in self._stored_at:
            moment = now - round((clock.monotonic() - self._stored_at[name]) * 1000)
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
    """Return the provisional sync start of a source, in Unix ms; None if there is none any more."""
    stored = _stored(ledger, name)
    return None if stored is None else int(stored["ms"])


def sync_start_ms(setting: timedelta | datetime, noted: int, now: int) -> int:
    """Return the sync start by SYNC_START and the provisional start `noted`. Raises ConfigError for a future time."""
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
