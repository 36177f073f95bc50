"""The audit line: once an hour, what of a source was sent, filtered, redacted and dead-lettered.

It reports by how much the totals in the state file have grown since the last line. They are counted in the transaction
that stores what they count, by every command, so a line covers all of them, and a restart loses and repeats
nothing. A process that is killed just after a line leaves one that comes again, with the same `since`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sync_worker.ledger import Ledger, source_scope
from sync_worker.ledger.state_keys import AUDITED
from sync_worker.ledger.totals import ACCEPTED, DEAD_LETTERED, FILTERED, REPLACED, SIGNALS, totals
from sync_worker.times import iso_time

_EVERY_MS = 3_600_000
#: What the fields of the line are called, by the names of the totals.
_FIELDS = {
    ACCEPTED: "sent", SIGNALS: "signals", FILTERED: "filtered", REPLACED: "replaced", DEAD_LETTERED: "dead_lettered"
}  # fmt: skip

log = logging.getLogger(__name__)


class Audit:
    """The audit lines of one source."""

    def __init__(self, ledger: Ledger, source_id: int, source: str, target: str) -> None:
        self._ledger = ledger
        self._state = ledger.state(source_scope(source_id))
        self._source_id = source_id
        self._source = source
        self._target = target
        self._began_ms = ledger.clock.now_ms()

    def log_if_due(self, *, at_end: bool) -> None:
        """Log a line if there was none for an hour; what it covers is stored by then. Raises StateError.

        The first one is logged at the end of the work, or after an hour of it. Without a lease nothing is logged: then
        nothing was sent. At the end of a job neither: its work ends with that of the process that leads it.
        """
        ledger, now = self._ledger, self._ledger.clock.now_ms()
        if ledger.lease is None or ledger.in_memory or not _is_due(self._state.get(AUDITED), now):
            return
        if at_end and ledger.lease.job:
            return
        if not at_end and 0 <= now - self._began_ms < _EVERY_MS and self._state.get(AUDITED) is None:
            return
        with ledger.transaction():  # of several processes, one logs it
            last = self._state.get(AUDITED, fresh=True)
            if _is_due(last, now):
                self._log(last, now)

    def _log(self, last: Mapping[str, Any] | None, now: int) -> None:
        """Log the line that follows `last`, at `now` in Unix ms, and store that it was logged."""
        found = totals(self._ledger, self._source_id)
        before = {(name, label): total for name, label, total in (last or {"totals": ()})["totals"]}
        since = None if last is None else iso_time(last["until_ms"])
        counts: dict[str, dict[str, int]] = {field: {} for field in _FIELDS.values()}
        for (name, label), total in sorted(found.items()):
            grown = total - before.get((name, label), 0)
            if name in _FIELDS and grown:
                counts[_FIELDS[name]][label] = grown
        log.info(
            "%s to %s, %s to %s: %s", self._source, self._target, since or "from the first run", iso_time(now),
            ", ".join(_words(field, labels) for field, labels in counts.items()),
            extra={
                "action": "audit", "source": self._source,
                "fields": {"target": self._target, "since": since, "until": iso_time(now), **counts},
            },
        )  # fmt: skip
        self._state.put(
            AUDITED, {"until_ms": now, "totals": [[name, label, total] for (name, label), total in found.items()]}
        )


def _is_due(last: Mapping[str, Any] | None, now_ms: int) -> bool:
    return last is None or not 0 <= now_ms - int(last["until_ms"]) < _EVERY_MS


def _words(field: str, labels: Mapping[str, int]) -> str:
    each = ", ".join(f"{label} {count}" for label, count in labels.items())
    return f"{field.replace('_', '-')} {sum(labels.values())}" + (f" ({each})" if each else "")
