"""What a seed stands for: the faults of both sides, one after another, each for some seconds."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass

LANGFUSE, KELET = "langfuse", "kelet"

#: Kinds of faults and how often each is drawn, by the side that has them.
KINDS: dict[str, dict[str, int]] = {
    LANGFUSE: {
        "429 with Retry-After": 3, "429 without": 1, "429 with a limit": 1, "500": 2, "502": 2, "503": 2, "504": 1,
        "dropped before": 3, "hanging": 2, "slow": 3, "page in front": 2, "truncated JSON": 3, "refused key": 2,
    },
    KELET: {
        "429 with Retry-After": 2, "429 without": 1, "500": 2, "502": 2, "503": 2, "503 with Retry-After": 1, "504": 2,
        "502 after it was taken": 3, "dropped before": 3, "dropped after": 5, "hanging before": 1, "hanging after": 2,
        "slow": 4, "page in front": 2, "partial success": 1, "unknown project": 1, "413": 1, "refused key": 2,
        "sender killed": 3,
    },
}  # fmt: skip
#: Share of requests that have one of these at any time, spell or not.
_ALWAYS = 0.01
_REFUSED_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Spell:
    """A time in which one thing goes wrong on one side, for a share of the requests. Seconds since the begin."""

    side: str
    kind: str
    start: float
    end: float
    share: float


class Weather:
    """Says which requests have which fault; `calm` ends all of it."""

    def __init__(self, seed: int, seconds: float) -> None:
        self.spells = [spell for side in (LANGFUSE, KELET) for spell in _spells(seed, side, seconds)]
        self.calm = False
        self.hits: Counter[str] = Counter()
        self._chance = random.Random(f"weather {seed}")
        self._lock = threading.Lock()

    def fault(self, side: str, moment: float, *, harmless: frozenset[str] = frozenset()) -> str:
        """Return the kind of fault that a request has now, '' for none; `harmless` kinds do not apply to it."""
        with self._lock:
            if self.calm:
                return ""
            on = [spell for spell in self.spells if spell.side == side and spell.start <= moment < spell.end]
            kind = next((spell.kind for spell in on if self._chance.random() < spell.share), "")
            if not kind and self._chance.random() < _ALWAYS:
                kind = self._draw(side)
            if not kind or kind in harmless or kind == "refused key":  # that one is the key's
                return ""
            self.hits[f"{side}: {kind}"] += 1
            return kind

    def uniform(self, least: float, most: float) -> float:
        """Return a number between two."""
        with self._lock:
            return self._chance.uniform(least, most)

    def choice(self, values: list[int]) -> int:
        """Return one of some numbers."""
        with self._lock:
            return self._chance.choice(values)

    def refusals(self, side: str) -> list[Spell]:
        """Return when keys are replaced, and their files only follow at the end."""
        return [spell for spell in self.spells if spell.side == side and spell.kind == "refused key"]

    def _draw(self, side: str) -> str:
        return self._chance.choices(list(KINDS[side]), list(KINDS[side].values()))[0]


def _spells(seed: int, side: str, seconds: float) -> list[Spell]:
    chance = random.Random(f"spells of {side} {seed}")
    spells: list[Spell] = []
    moment = 5.0
    while True:
        moment += chance.expovariate(1 / 12)
        kind = chance.choices(list(KINDS[side]), list(KINDS[side].values()))[0]
        length = _REFUSED_SECONDS if kind == "refused key" else chance.uniform(4, 25)
        if moment + length > seconds:
            return spells
        share = 0.3 if kind == "partial success" else chance.choice([0.25, 0.5, 0.5, 1.0])
        spells.append(Spell(side, kind, moment, moment + length, share))
        moment += length
