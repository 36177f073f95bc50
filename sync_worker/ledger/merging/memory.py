"""What was taken in from which file, so that taking it in again adds nothing: counts have no names to be known by."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sync_worker.ledger.ledger import Ledger

_SCOPE = "merged "


@dataclass(slots=True)
class Taken:
    """What was taken in from one file, of one source."""

    hours: Counter[int] = field(default_factory=Counter)  # done, by the hour they start in, counted from 1970
    letters_ms: int = 0  # dead letters made up to then, Unix ms

    def at_least(self, hours: Mapping[int, int], letters_ms: int) -> None:
        """Add what was taken in now."""
        self.hours |= Counter(hours)
        self.letters_ms = max(self.letters_ms, letters_ms)


@dataclass(slots=True)
class Memory:
    """What was taken into a state file, of one source, by the ids of the files it came from."""

    files: dict[str, Taken]

    @classmethod
    def read(cls, ledger: Ledger, schema: Literal["main", "other"], name: str) -> Memory:
        """Read what stands in this file, or in the one attached."""
        rows = ledger.query(
            f"SELECT scope, value FROM {schema}.state_keys WHERE scope GLOB ? AND name = ?", [f"{_SCOPE}*", name]
        )
        files = {}
        for scope, text in rows:
            stored = json.loads(text)
            hours = Counter({int(hour): count for hour, count in stored["hours"].items()})
            files[str(scope).removeprefix(_SCOPE)] = Taken(hours, stored["letters_ms"])
        return cls(files)

    def of(self, file_id: str) -> Taken:
        """Return what was taken in from a file."""
        return self.files.get(file_id, Taken())

    def shared(self, other: Memory) -> Counter[int]:
        """Return how many observations of each hour both files took in from the same third ones."""
        shared = Counter[int]()
        for file_id in self.files.keys() & other.files.keys():
            shared.update(self.files[file_id].hours & other.files[file_id].hours)
        return shared

    def add(self, file_id: str, hours: Mapping[int, int], letters_ms: int) -> None:
        """Note what a file had when it was taken in."""
        self.files.setdefault(file_id, Taken()).at_least(hours, letters_ms)

    def take(self, other: Memory) -> None:
        """Note what a file that was taken in had from others."""
        for file_id, taken in other.files.items():
            self.add(file_id, taken.hours, taken.letters_ms)

    def write(self, ledger: Ledger, name: str) -> None:
        """Keep it, within the current transaction."""
        ledger.execute_many(
            "INSERT OR REPLACE INTO state_keys VALUES (?, ?, ?)",
            [
                (_SCOPE + file_id, name, json.dumps({"hours": taken.hours, "letters_ms": taken.letters_ms}))
                for file_id, taken in self.files.items()
            ],
        )
