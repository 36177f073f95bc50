"""Which Kelet project a trace belongs to: what `project_from` finds, the first rule that matches, else the default.

The project of a rule may be a template, such as `shop-{environment}`. Where one of its fields has no value in a trace,
or the result is no name of a project, the rule does not match; nor where a value may not leave as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sync_worker.configured import ROUTE_FIELDS, Route
from sync_worker.json_text import dump
from sync_worker.patterns import matches
from sync_worker.spans.context import TraceContext

#: The origin of a decision that no rule made: the source's own project; and of one that `project_from` made.
BY_DEFAULT, BY_OVERRIDE = "default", "project_from"
_FIELD = re.compile(r"\{([^{}]*)\}")
_PROJECT = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?")
#: Where Kelet puts what names no project; and what in the address of a signal would be a step to another address.
_NO_PROJECT = frozenset({"default", ".", ".."})


@dataclass(frozen=True, slots=True)
class Decision:
    """The Kelet project of a trace, and which setting decided it; None where that is not known any more."""

    project: str
    origin: str | None


#: Whether a text of a trace may leave as it is; the second is the trace's user id.
MayShow = Callable[[str, str | None], bool]


def _everything(text: str, user: str | None) -> bool:
    del text, user
    return True


def decide(context: TraceContext, rules: Sequence[Route], default: str, may_show: MayShow = _everything) -> Decision:
    """Decide on the Kelet project of a trace. Rules that drop are not asked: such a trace gets no project.

    The context is not redacted, since conditions ask for what stands in the trace. So `may_show` is asked of all that
    becomes a part of a project's name.
    """
    if context.project is not None and is_project(context.project) and may_show(context.project, context.user_id):
        return Decision(context.project, BY_OVERRIDE)
    for rule in rules:
        if not rule.drop and fits(rule, context):
            project = render(rule.project, context, may_show)
            if project is not None:
                return Decision(project, origin_of(rule))
    return Decision(default, BY_DEFAULT)


def follow(decided: Decision, rules: Sequence[Route], default: str) -> Decision:
    """Return what an earlier decision means by the settings as they are now.

    A rule is known again by its conditions, so the project that it names may change. One that is gone leaves its
    traces where they are, and so does a template.
    """
    if decided.origin == BY_DEFAULT:
        return Decision(default, BY_DEFAULT)
    return next(
        (
            Decision(rule.project, decided.origin)
            for rule in rules
            if not rule.drop and not is_template(rule.project) and origin_of(rule) == decided.origin
        ),
        decided,
    )


def is_current(origin: str | None, rules: Sequence[Route]) -> bool:
    """Whether the setting that decided is still there."""
    return origin in {BY_DEFAULT, BY_OVERRIDE} or any(origin_of(rule) == origin for rule in rules)


def origin_of(rule: Route) -> str:
    """Name a rule by its conditions, and one with a template by that too."""
    conditions: list[object] = [
        rule.environment, rule.trace_name, list(rule.tags), rule.user, rule.session, rule.release,
        sorted(map(list, rule.metadata)),
    ]  # fmt: skip
    return f"route {dump([*conditions, rule.project] if is_template(rule.project) else conditions)}"


def is_template(project: str) -> bool:
    """Whether the project of a rule is a template."""
    return "{" in project


def render(template: str, context: TraceContext, may_show: MayShow = _everything) -> str | None:
    """Return the project of a trace by a template; None where a field has no value or the result cannot be one."""
    if not is_template(template):
        return template
    values = {name: _value(name, context) for name in _FIELD.findall(template)}
    if not all(value and may_show(value, context.user_id) for value in values.values()):
        return None
    project = _FIELD.sub(lambda found: values[found[1]] or "", template).strip()
    return project if is_project(project) and may_show(project, context.user_id) else None


def is_project(text: str) -> bool:
    """Whether a text from a trace can be a project: in a header it must be what it is in an attribute."""
    return _PROJECT.fullmatch(text) is not None and text.lower() not in _NO_PROJECT


def fits(rule: Route, context: TraceContext) -> bool:
    """Whether a trace fits all conditions of a rule."""
    pairs = ((getattr(rule, name), _value(name, context)) for name in ROUTE_FIELDS)
    return (
        all(_like(wanted, value) for wanted, value in pairs)
        and all(any(matches(wanted, tag) for tag in context.tags) for wanted in rule.tags)
        and all(_like(wanted, _value(f"metadata.{key}", context)) for key, wanted in rule.metadata)
    )


def _value(name: str, context: TraceContext) -> str | None:
    match name:
        case "environment":
            return context.environment
        case "trace_name":
            return context.trace_name or context.root_name
        case "user":
            return context.user_id
        case "session":
            return context.session_id
        case "release":
            return context.release
    return _text(context.metadata.get(name.removeprefix("metadata.")))


def _like(wanted: str | None, value: str | None) -> bool:
    return wanted is None or (value is not None and matches(wanted, value))


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else dump(value)
