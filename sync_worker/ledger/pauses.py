"""Pauses: sources and Kelet projects that an operator paused, until `resume` or a time.

They are in the state file, so that every command on it obeys, a running one too. A pause is of a source by its name in
the settings, of a Kelet project of it, or of that project for all sources.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sync_worker.ledger.store import Store

_SCOPE = "pauses"


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause. A `source` of None is every source, a `project` of None the whole source. Times in Unix ms."""

    source: str | None
    project: str | None
    since_ms: int
    until_ms: int | None = None
    reason: str | None = None

    def concerns(self, source: str) -> bool:
        """Whether it pauses something of a source."""
        return self.source is None or self.source == source

    @property
    def name(self) -> str:
        """The name of its state key."""
        return json.dumps([self.source, self.project])


def active_pauses(store: Store, now_ms: int | None = None) -> list[Pause]:
    """Return the pauses that are in force at a time, Unix ms, by default now, whoever wrote them. Raises StateError."""
    rows = store.query("SELECT name, value FROM state_keys WHERE scope = ? ORDER BY name", [_SCOPE])
    now = store.clock.now_ms() if rows and now_ms is None else now_ms or 0
    found = [Pause(*json.loads(name), *json.loads(value)) for name, value in rows]
    return [one for one in found if one.until_ms is None or now < one.until_ms]


def store_pauses(store: Store, pauses: Iterable[Pause]) -> None:
    """Store pauses, each instead of one of the same source and project; those whose time is over are deleted."""
    active = {one.name: one for one in active_pauses(store)} | {one.name: one for one in pauses}
    with store.transaction(fenced=False):
        store.execute("DELETE FROM state_keys WHERE scope = ?", [_SCOPE])
        store.execute_many(
            "INSERT INTO state_keys VALUES (?, ?, ?)",
            [(_SCOPE, name, json.dumps([one.since_ms, one.until_ms, one.reason])) for name, one in active.items()],
        )


def delete_pauses(store: Store, pauses: Sequence[Pause]) -> None:
    """Delete pauses."""
    with store.transaction(fenced=False):
        store.execute_many(
            "DELETE FROM state_keys WHERE scope = ? AND name = ?",
            [(_SCOPE, one.name) for one in pauses],
        )
