"""The rules that decide which traces are synced, and their digest, by which intervals name them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

from sync_worker.configured import Route

#: What filters look at, by the last word of their settings.
FIELDS: Final = {
    "environments": "environment",
    "trace_names": "trace_name",
    "tags": "tags",
    "users": "user",
    "sessions": "session",
    "releases": "release",
    "levels": "level",
}
_DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class FieldFilter:
    """The patterns of one setting; `name` is the last word of it: `environments` of SYNC_EXCLUDE_ENVIRONMENTS."""

    name: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SelectionRules:
    """Filters, the routes up to the last one that drops, and the share of traces in the sample.

    With `others`, what time was read under that was read several times: what one of them lets in was sent.
    """

    filters: tuple[FieldFilter, ...] = ()
    routes: tuple[Route, ...] = ()
    sample: Fraction = Fraction(1)
    keep_errors: bool = False
    others: tuple[SelectionRules, ...] = ()

    @classmethod
    def of(
        cls, filters: Iterable[FieldFilter], routes: Iterable[Route], sample: Fraction, *, keep_errors: bool
    ) -> SelectionRules:
        """Return the rules of settings, without what has no effect."""
        stored = tuple(replace(route, project="") for route in routes)  # where they go is no matter
        last = max((number for number, route in enumerate(stored, 1) if route.drop), default=0)
        kept = tuple(
            FieldFilter(one.name, tuple(sorted(one.include)), tuple(sorted(one.exclude)))
            for one in filters
            if one.include or one.exclude
        )
        return cls(kept, stored[:last], sample, keep_errors and sample < 1)

    def as_text(self) -> str:
        """Return them as text, from which `from_text` reads them back; empty if they leave nothing out."""
        written: dict[str, Any] = {}
        if self.filters:
            written["filters"] = [[one.name, one.include, one.exclude] for one in self.filters]
        if self.routes:
            written["routes"] = [
                [one.drop, one.environment, one.trace_name, one.tags, one.user, one.session, one.release, one.metadata]
                for one in self.routes
            ]
        if self.sample < 1:
            written["sample"], written["keep_errors"] = str(self.sample), self.keep_errors
        return json.dumps(written, sort_keys=True) if written else ""

    @classmethod
    def from_text(cls, text: str) -> SelectionRules:
        """Read back what `as_text` returned, or several of these as the state file joins them."""
        written: Mapping[str, Any] = json.loads(text) if text else {}
        first, *others = [cls._of_json(one) for one in written.get("any", [written])]
        return replace(first, others=tuple(others))

    @classmethod
    def _of_json(cls, written: Mapping[str, Any]) -> SelectionRules:
        return cls(
            tuple(
                FieldFilter(name, tuple(include), tuple(exclude))
                for name, include, exclude in written.get("filters", ())
            ),
            tuple(
                Route("", environment, trace_name, tuple(tags), user, session, release, _pairs(metadata), drop)
                for drop, environment, trace_name, tags, user, session, release, metadata in written.get("routes", ())
            ),
            Fraction(written.get("sample", "1")),
            bool(written.get("keep_errors", False)),
        )

    @property
    def digest(self) -> str:
        """Name these rules: 16 hexadecimal digits; empty if they leave nothing out. Of several, all their names."""
        if self.others:
            return "+".join(one.digest for one in (replace(self, others=()), *self.others))
        text = self.as_text()
        return hashlib.sha256(text.encode()).hexdigest()[: 2 * _DIGEST_BYTES] if text else ""


#: Rules that leave nothing out.
NO_RULES: Final = SelectionRules()


def _pairs(metadata: Iterable[Iterable[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((key, pattern) for key, pattern in metadata)
