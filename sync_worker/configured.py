"""Routes and overrides of scores, as the settings have them and the pure parts take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Fields of a trace that a route may have a pattern for, and that a template may name, beside `metadata.KEY`.
ROUTE_FIELDS: Final = ("environment", "trace_name", "user", "session", "release")


@dataclass(frozen=True, slots=True)
class Route:
    """Traces that go to another Kelet project, or are dropped: those that fit all conditions that are set.

    Conditions are patterns as `patterns.matches` understands them. Every one of `tags` must fit some tag of the trace;
    `metadata` is pairs of a key and the pattern of its value. The project may be a template; it is empty with `drop`.
    """

    project: str = ""
    environment: str | None = None
    trace_name: str | None = None
    tags: tuple[str, ...] = ()
    user: str | None = None
    session: str | None = None
    release: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    drop: bool = False

    @property
    def conditions(self) -> str:
        """The conditions for people: `environment=prod*, tags=[a, b], metadata.team=x`."""
        found = [f"{name}={getattr(self, name)}" for name in ROUTE_FIELDS if getattr(self, name) is not None]
        if self.tags:
            found.append(f"tags=[{', '.join(self.tags)}]")
        return ", ".join([*found, *(f"metadata.{key}={pattern}" for key, pattern in self.metadata)])


@dataclass(frozen=True, slots=True)
class ScoreOverride:
    """How scores become signals whose name fits `match`, a name or a glob; what is None is as without it.

    `range` is the lowest and the highest value of a numeric score, `invert` says that a high one is bad.
    """

    match: str
    kind: str | None = None
    source: str | None = None
    trigger: str | None = None
    range: tuple[float, float] | None = None
    invert: bool | None = None
    skip: bool = False
