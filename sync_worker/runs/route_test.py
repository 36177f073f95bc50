"""Which rule would take how many of the newest traces, and which Kelet projects would come to be. Sends nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sync_worker.configured import Route
from sync_worker.intervals import Interval
from sync_worker.pipeline.assemble import Assembly
from sync_worker.pipeline.session import Session
from sync_worker.runs.opened import OpenSource
from sync_worker.selection import left_out_by
from sync_worker.spans.context import TraceContext, gather, trace_of
from sync_worker.spans.routing import BY_DEFAULT, BY_OVERRIDE, decide, origin_of

#: How long before the first observation read a root may start, in milliseconds.
_ROOT_BEFORE_MS = 24 * 3_600_000


@dataclass(slots=True)
class RouteTest:
    """Traces by rule and Kelet project; the project is None where a rule leaves them out."""

    source: str
    observations_read: int = 0
    traces: int = 0
    taken: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    known: frozenset[str] = frozenset()  # projects that traces were sent to before

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object; the rules that take most come first."""
        return {
            "source": self.source,
            "observations_read": self.observations_read,
            "traces": self.traces,
            "rules": [
                {
                    "rule": rule,
                    "project": project,
                    "traces": count,
                    "is_new_project": project is not None and project not in self.known,
                }
                for (rule, project), count in sorted(
                    self.taken.items(), key=lambda item: (-item[1], item[0][0], item[0][1] or "")
                )
            ],
        }


async def count_by_rule(opened: OpenSource, interval: Interval, most: int) -> RouteTest:
    """Decide on the newest traces of an interval, about `most` of them. Raises as the reader does."""
    session = opened.session
    found = RouteTest(opened.name, known=frozenset(session.ledger.projects(session.source_id)))
    assembly = Assembly()
    async for page in session.reader.interval(interval):
        found.observations_read += len(page.observations)
        assembly.add_page(page)
        session.clock.check()
        if len(assembly.traces) >= most:
            break
    traces = assembly.take()
    rootless = [
        trace_id
        for trace_id, observations in traces.items()
        if observations[0].trace_id is not None and not any(one.is_trace_root for one in observations)
    ]
    if rootless:
        around = Interval(interval.start - _ROOT_BEFORE_MS, interval.end)
        async for page in session.reader.roots(rootless, around):
            for observation in page.observations:
                traces[trace_of(observation)].append(observation)
    policy = session.policy
    for trace_id, observations in traces.items():
        context = gather(trace_id, observations, overrides=policy.conversion.overrides)
        has_error = any(one.level == "ERROR" for one in observations)
        found.taken[_decide(session, context, has_error=has_error)] += 1
    found.traces = len(traces)
    for route in policy.routes:  # a rule that takes nothing is what one looks for
        rule = _rule(route)
        if all(known != rule for known, _ in found.taken):
            found.taken[rule, None if route.drop else route.project] = 0
    return found


def _decide(session: Session, context: TraceContext, *, has_error: bool) -> tuple[str, str | None]:
    policy = session.policy
    rule = left_out_by(policy.rules, context, has_error=has_error)
    if rule is not None:
        return rule, None
    decision = decide(context, policy.routes, policy.project, session.protection.may_show)
    if decision.origin == BY_DEFAULT:
        return "default", decision.project
    if decision.origin == BY_OVERRIDE:
        return "SYNC_PROJECT_FROM", decision.project
    return next(_rule(route) for route in policy.routes if origin_of(route) == decision.origin), decision.project


def _rule(route: Route) -> str:
    return f"route that drops {route.conditions}" if route.drop else f"route {route.conditions}"
