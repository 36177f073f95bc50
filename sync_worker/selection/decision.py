"""The decision on one trace: whether it is synced, or which rule leaves it out. It depends on the trace alone."""

from __future__ import annotations

import hashlib
from typing import Final

from sync_worker.patterns import matches
from sync_worker.selection.selection_rules import FIELDS, FieldFilter, SelectionRules
from sync_worker.spans.context import TraceContext
from sync_worker.spans.routing import fits

#: The setting by whose name a trace is left out that is not in the sample.
SAMPLE: Final = "SYNC_SAMPLE"
_HASHES = 1 << 64


def left_out_by(rules: SelectionRules, context: TraceContext, *, has_error: bool) -> str | None:
    """Return the rule that leaves a trace out, by its setting and pattern; None if it is synced.

    `has_error` says whether one of its observations has the level ERROR.
    """
    if rules.others and any(left_out_by(one, context, has_error=has_error) is None for one in rules.others):
        return None
    for one in rules.filters:
        found = _filtered_by(one, context)
        if found is not None:
            return found
    for route in rules.routes:
        if fits(route, context):
            if route.drop:
                return f"route that drops {route.conditions}"
            break
    if rules.sample < 1 and not (rules.keep_errors and has_error) and not is_in_sample(rules, context.trace_id):
        return f"{SAMPLE}={_percent(rules)}"
    return None


def left_out_still(rules: SelectionRules, rule: str | None) -> bool:
    """Whether these rules leave out what one left out before, by its name: it is a filter or the sample of theirs.

    Routes that drop are not compared: another one may take a trace first.
    """
    sample = {f"{SAMPLE}={_percent(rules)}"} if rules.sample < 1 else set()
    excluded = {_excluding(one, pattern) for one in rules.filters for pattern in one.exclude}
    return rule in sample | excluded | {_including(one) for one in rules.filters if one.include}


def is_in_sample(rules: SelectionRules, trace_id: str) -> bool:
    """Whether a trace is in the sample: by a hash of its id, so that a smaller sample is a part of a larger one."""
    found = int.from_bytes(hashlib.sha256(trace_id.encode("utf-8", "surrogatepass")).digest()[:8])
    return found < rules.sample * _HASHES


def _filtered_by(one: FieldFilter, context: TraceContext) -> str | None:
    values = _values(FIELDS[one.name], context)
    for pattern in one.exclude:
        if any(matches(pattern, value) for value in values):
            return _excluding(one, pattern)
    if one.include and not any(matches(pattern, value) for pattern in one.include for value in values):
        return _including(one)
    return None


def _excluding(one: FieldFilter, pattern: str) -> str:
    return f"SYNC_EXCLUDE_{one.name.upper()}={pattern}"


def _including(one: FieldFilter) -> str:
    return f"SYNC_INCLUDE_{one.name.upper()}={','.join(one.include)}"


def _values(field: str, context: TraceContext) -> tuple[str, ...]:
    if field == "tags":
        return context.tags
    value = {
        "environment": context.environment,
        "trace_name": context.trace_name or context.root_name,
        "user": context.user_id,
        "session": context.session_id,
        "release": context.release,
        "level": context.root_level,
    }[field]
    return () if value is None else (value,)


def _percent(rules: SelectionRules) -> str:
    return f"{float(rules.sample * 100):g}%"
