"""Routes and overrides of scores, as the settings have them and the pure parts take them."""

from __future__ import annotations

from dataclasses import dataclass


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
