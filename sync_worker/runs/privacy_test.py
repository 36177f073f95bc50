"""Tries the rules of redaction on observations: what they replace, where, and what cannot be checked. Sends nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sync_worker.intervals import Interval
from sync_worker.json_text import dump
from sync_worker.langfuse.reader import Reader
from sync_worker.records import Observation
from sync_worker.redaction.protection import NOTHING, Protection, RedactionFailed
from sync_worker.redaction.redaction_rules import RedactionRules
from sync_worker.runs.opened import OpenSource
from sync_worker.runs.preview import observations_of_trace
from sync_worker.runs.stored_protection import protection_of

_REPLACED = re.compile(r"\[redacted:([a-z0-9_-]+)(?::[a-z]+)?\]")
#: So far back the newest observations are looked for, one span after the other, in milliseconds.
_LOOK_BACK_MS = (3_600_000, 24 * 3_600_000, 30 * 24 * 3_600_000)
_AROUND, _LONGEST = 24, 80  # characters of a sample: around what was replaced, and of that
_USER_IDS, _METADATA = "user_id", "metadata"


async def try_rules(opened: OpenSource, trace_ids: Sequence[str], most: int) -> PrivacyTest:
    """Return what the settings of a source would replace and leave out of traces, or of the newest observations.

    Nothing is sent or stored. Raises as the reader does.
    """
    found = PrivacyTest(opened.name)
    found.by(protection_of(opened.settings, opened.ledger, found.watch), opened.settings.rules)
    await found.read(opened.session.reader, trace_ids, opened.clock.now_ms(), most)
    return found


@dataclass(frozen=True, slots=True)
class Sample:
    """What was replaced in one place, with a little around it."""

    field: str
    detector: str
    before: str
    after: str


@dataclass(slots=True)
class PrivacyTest:
    """What the rules of a source replace in observations. `counts` are by field and detector."""

    source: str
    observations: int = 0
    redacted: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)  # observation id and reason
    samples: list[Sample] = field(default_factory=list)
    rules: RedactionRules = field(default_factory=RedactionRules)
    _protection: Protection = NOTHING

    def by(self, protection: Protection, rules: RedactionRules) -> None:
        """Use this protection, which reports to `watch`."""
        self._protection, self.rules = protection, rules

    def report(self, text: str) -> str:
        """Return a text for a message, redacted."""
        return self._protection.report(text)

    async def read(self, reader: Reader, trace_ids: Sequence[str], now_ms: int, most: int) -> None:
        """Check the observations of traces, or without any the newest ones, at most `most`. Raises as the reader."""
        for trace_id in trace_ids:
            self.check(await observations_of_trace(reader, trace_id, now_ms))
        if trace_ids:
            return
        end = now_ms + 1
        for length in _LOOK_BACK_MS:
            async for page in reader.interval(Interval(now_ms - length, end)):
                found = page.observations[: most - self.observations]
                self.check([await reader.resolve(observation) for observation in found])
                if self.observations >= most:
                    return
            end = now_ms - length

    def check(self, observations: Iterable[Observation]) -> None:
        """Redact observations and count what was found."""
        for observation in observations:
            self.observations += 1
            before = self.counts.total()
            try:
                shown = self._protection.observation(observation)
            except RedactionFailed as error:
                self.failed.append((self._protection.report(observation.id), str(error)))
                continue
            self.redacted += self.counts.total() > before
            self._count_left_out(observation, shown)

    def watch(self, name: str, before: Any, after: Any) -> None:
        """Count what was replaced in a field."""
        if isinstance(after, dict):
            for (_, old), (new_key, new) in zip(before.items(), after.items(), strict=True):
                self._count(f"{name}.{new_key}" if name == _METADATA else name, old, new)
        self._count(name, before, after, inner=isinstance(after, dict))

    def _count(self, name: str, before: Any, after: Any, *, inner: bool = False) -> None:
        """Count the replacements in one value; of an object whose values were counted (`inner`), those of its keys."""
        if inner:
            before, after = " ".join(map(str, before)), " ".join(map(str, after))
        old, new = (value if isinstance(value, str) else dump(value) for value in (before, after))
        found = Counter(_REPLACED.findall(new))
        found.subtract(_REPLACED.findall(old))
        for detector, count in found.items():
            if count > 0:
                if (name, detector) not in self.counts:
                    self._sample(name, detector, old, new)
                self.counts[name, detector] += count

    def _sample(self, name: str, detector: str, before: str, after: str) -> None:
        start = next((at for at, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
        begin = max(0, start - _AROUND)
        shown = (
            text[begin : start + _LONGEST] + ("…" if len(text) > start + _LONGEST else "") for text in (before, after)
        )
        self.samples.append(Sample(name, detector, *shown))

    def _count_left_out(self, before: Observation, after: Observation) -> None:
        for name in ("input", "output", _USER_IDS):
            if getattr(before, name) and not getattr(after, name):
                self.left_out[name] += 1
        if self.rules.leave_out.user_ids == "pseudonym" and before.user_id:
            self.left_out[_USER_IDS] += 1
        keys = len(before.metadata) - len(after.metadata)
        if keys > 0:
            self.left_out[_METADATA] += keys
