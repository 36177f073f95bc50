"""The comparison: each direct span beside the one that was made of its row, and a verdict on each attribute."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from sync_worker.spans.span_model import Span, unshared
from tests.fidelity.lost import Reason, reason_for
from tests.fidelity.pairs import GENERATIONS, Direct, Pair, spans_of

#: exact: same type and value. json: two texts that parse to the same value. type: the same value in another type.
Verdict = Literal["exact", "json", "type", "wrong", "missing"]
EQUAL: frozenset[Verdict] = frozenset({"exact", "json"})
PLACES = ("span", "resource", "scope")


@dataclass(frozen=True, slots=True)
class Finding:
    """An attribute that did not come back, `there` being what came instead; `reason` where it is known to be lost."""

    pair: str
    span: str
    place: str  # "span", "resource" or "scope"
    key: str
    verdict: Verdict
    here: Any
    there: Any
    reason: Reason | None


@dataclass(slots=True)
class Figures:
    """Of `n` attributes how many are equal, and what became of the others."""

    n: int = 0
    verdicts: Counter[Verdict] = field(default_factory=Counter)  # of those without a reason
    lost: Counter[Reason] = field(default_factory=Counter)

    @property
    def equal(self) -> int:
        """How many came back: exactly, or as JSON text that parses to the same value."""
        return sum(self.verdicts[verdict] for verdict in EQUAL)

    @property
    def recoverable(self) -> int:
        """How many could come back."""
        return self.n - self.lost.total()


@dataclass(slots=True)
class Score:
    """What was found of one pair. `of` counts the direct spans that reached Langfuse, `same` those that agree."""

    direct: int = 0
    of: int = 0
    unexpected: int = 0
    same: Counter[str] = field(default_factory=Counter)
    places: dict[str, Figures] = field(default_factory=lambda: {place: Figures() for place in PLACES})
    extra: int = 0
    findings: list[Finding] = field(default_factory=list)


def score(pair: Pair, generation: str) -> Score:
    """Compare a pair's spans with those made of what one generation of the API says."""
    rows = GENERATIONS[generation](pair)
    made = spans_of(rows)
    found = Score(direct=len(pair.direct))
    reached = {(row.trace_id or "", row.id) for row in rows}
    for direct in pair.direct:
        span = made.get(direct.key)
        if direct.key not in reached and span is None:
            continue  # not exported by the exporter of Langfuse's SDK
        found.of += 1
        if span is not None:
            _compare(direct, span, pair, generation, found)
    found.unexpected = len(made.keys() - {direct.key for direct in pair.direct})
    return found


def _compare(direct: Direct, span: Span, pair: Pair, generation: str, found: Score) -> None:
    for name, same in _agreements(direct, span):
        found.same[name] += same
    for place, here, there in (
        ("span", direct.attributes, span.attributes),
        ("resource", direct.resource, unshared(span.resource)),
        ("scope", direct.scope_attributes, unshared(span.scope.attributes)),
    ):
        figures = found.places[place]
        for key, value in here.items():
            verdict = verdict_on(value, there.get(key))
            figures.n += 1
            reason = None if verdict in EQUAL else reason_for(direct, key, value, there.get(key), generation)
            if reason is None:
                figures.verdicts[verdict] += 1
            else:
                figures.lost[reason] += 1
            if verdict not in EQUAL:
                found.findings.append(
                    Finding(pair.name, direct.name, place, key, verdict, value, there.get(key), reason)
                )
    found.extra += len(span.attributes.keys() - direct.attributes.keys())


def _agreements(direct: Direct, span: Span) -> Iterator[tuple[str, bool]]:
    """Yield what is not an attribute, by name, and whether it is the same."""
    yield "id", True
    yield "parent", direct.parent_id == span.parent_id
    yield "times", (direct.start_ms, direct.end_ms) == (span.start_ns // 1_000_000, span.end_ns // 1_000_000)
    yield "name", direct.name == span.name
    yield "kind", direct.kind == span.kind
    yield "status", (direct.status, direct.message) == (span.status_code, span.status_message)
    yield "error", (direct.status == 2) == (span.status_code == 2)
    version = verdict_on(direct.scope_version, span.scope.version)
    lost = reason_for(direct, "scope.version", direct.scope_version, span.scope.version, "")
    yield "scope", direct.scope == span.scope.name and (version in EQUAL or lost is not None)


def verdict_on(here: Any, there: Any) -> Verdict:
    """Say how near a value came."""
    if there is None:
        return "missing"
    if typed(here) == typed(there):
        return "exact"
    if isinstance(here, str) and isinstance(there, str):
        (first, left), (second, right) = parsed(here), parsed(there)
        return "json" if first and second and isinstance(left, dict | list | str) and left == right else "wrong"
    left, right = (parsed(value)[1] if isinstance(value, str) else value for value in (here, there))
    return "type" if left == right or str(here) == str(there) else "wrong"


def typed(value: Any) -> tuple[str, Any]:
    """Return a value that differs from an equal one of another type."""
    return type(value).__name__, [typed(item) for item in value] if isinstance(value, list) else value


def parsed(text: str) -> tuple[bool, Any]:
    """Return whether a text is JSON, and its value."""
    try:
        return True, json.loads(text)
    except ValueError:
        return False, text
