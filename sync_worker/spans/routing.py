"""Which Kelet project a trace belongs to: the first rule that matches, else the source's own project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from sync_worker.json_text import dump
from sync_worker.spans.context import TraceContext


class Rule(Protocol):
    """A routing rule as the settings give it; conditions that are None are not asked. Texts may hold wildcards."""

    @property
    def project(self) -> str:
        """The project that traces go to."""

    @property
    def environment(self) -> str | None:
        """The environment asked for."""

    @property
    def trace_name(self) -> str | None:
        """The trace's name asked for."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags that must all be there."""

    @property
    def user(self) -> str | None:
        """The user asked for."""

    @property
    def session(self) -> str | None:
        """The session asked for."""

    @property
    def release(self) -> str | None:
        """The release asked for."""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Metadata of the trace, by key."""


#: The origin of a decision that no rule made: the source's own project.
BY_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Decision:
    """The Kelet project of a trace, and which setting decided it; None where that is not known any more."""

    project: str
    origin: str | None


def decide(context: TraceContext, rules: Sequence[Rule], default: str) -> Decision:
    """Decide on the Kelet project of a trace."""
    for rule in rules:
        if _matches(rule, context):
            return Decision(rule.project, origin_of(rule))
    return Decision(default, BY_DEFAULT)


def follow(decided: Decision, rules: Sequence[Rule], default: str) -> Decision:
    """Return what an earlier decision means by the settings as they are now.

    A rule is known again by its conditions, so the project that it names may change. One that is gone leaves its
    traces where they are.
    """
    if decided.origin == BY_DEFAULT:
        return Decision(default, BY_DEFAULT)
    return next(
        (Decision(rule.project, decided.origin) for rule in rules if origin_of(rule) == decided.origin), decided
    )


def origin_of(rule: Rule) -> str:
    """Name a rule by its conditions."""
    conditions = (
        rule.environment, rule.trace_name, list(rule.tags), rule.user, rule.session, rule.release,
        sorted(map(list, rule.metadata)),
    )  # fmt: skip
    return f"route {dump(conditions)}"


def _matches(rule: Rule, context: TraceContext) -> bool:
    pairs = (
        (rule.environment, context.environment),
        (rule.trace_name, context.trace_name or context.root_name),
        (rule.user, context.user_id),
        (rule.session, context.session_id),
        (rule.release, context.release),
    )
    return (
        all(_like(wanted, value) for wanted, value in pairs)
        and all(any(fnmatchcase(tag, wanted) for tag in context.tags) for wanted in rule.tags)
        and all(_like(wanted, _text(context.metadata.get(key))) for key, wanted in rule.metadata)
    )


def _like(wanted: str | None, value: str | None) -> bool:
    return wanted is None or (value is not None and fnmatchcase(value, wanted))


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else dump(value)
