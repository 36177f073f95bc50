"""Lanes of one source: the Kelet project of a trace, and what happens if Kelet does not know it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from sync_worker.configured import Route
from sync_worker.errors import SourcePaused
from sync_worker.ledger import Ledger, TraceNote, source_scope
from sync_worker.ledger.state_keys import PAUSED_PROJECTS
from sync_worker.otlp.delivery import Delivery
from sync_worker.spans.context import TraceContext
from sync_worker.spans.routing import BY_DEFAULT, Decision, MayShow, decide, follow, is_current

#: Pending traces of unknown projects at which the whole source is paused.
MAX_PENDING_TRACES = 100_000

log = logging.getLogger(__name__)


class Routing:
    """Decides the project of traces: by the settings, earlier decisions, and what Kelet knows."""

    def __init__(self, project: str, routes: Sequence[Route], delivery: Delivery, may_show: MayShow) -> None:
        self._project = project
        self._routes = routes
        self._delivery = delivery
        self._may_show = may_show
        self._configured = {project, *(route.project for route in routes if not route.drop)}

    def decide(self, before: TraceNote | None, context: TraceContext, *, is_ready: bool) -> Decision | None:
        """Return the project of a trace: decided when it is first sent; later it follows its setting."""
        if before is None or before.project is None:
            return decide(context, self._routes, self._project, self._may_show) if is_ready else None
        decision = follow(Decision(before.project, before.origin), self._routes, self._project)
        gone = decision.project in self._delivery.abandoned
        if decision.project not in self._configured and not self._may_show(decision.project, context.user_id):
            gone = True  # a field of the trace, from before the rules of redaction
        return Decision(self._project, BY_DEFAULT) if gone else decision

    def has_lane(self, note: TraceNote | None) -> bool:
        """Whether the lane of a trace's project is open."""
        return note is None or note.project is None or not self._delivery.is_closed(note.project)

    def is_orphaned(self, note: TraceNote | None) -> bool:
        """Whether the project of a trace is unknown to Kelet and in no setting any more."""
        if note is None or note.project in self._configured:
            return False
        if note.origin not in {None, BY_DEFAULT} and is_current(note.origin, self._routes):
            return False  # of a template, or of a field of the trace
        return note.project in self._delivery.abandoned or note.project in self._delivery.paused

    def abandon(self, notes: Iterable[TraceNote | None]) -> None:
        """Abandon the lanes of these orphaned traces."""
        for project in sorted({str(note.project) for note in notes if note is not None} - self._delivery.abandoned):
            self._delivery.abandon(project)
            log.warning(
                "no route names the project %r any more, and Kelet does not know it: its traces are sent to %r",
                project, self._project, extra={"action": "lane"},
            )  # fmt: skip


class Lanes:
    """Which lanes are closed in this cycle, by Kelet's responses in it and in the last one."""

    def __init__(self, ledger: Ledger, source_id: int, delivery: Delivery) -> None:
        self._state = ledger.state(source_scope(source_id))
        self._delivery = delivery
        self._before: set[str] = set(self._state.get(PAUSED_PROJECTS) or ())

    def closed(self) -> set[str]:
        """Return the projects whose traces stay pending.

        An operator paused them, or they are unknown to Kelet and nothing was accepted in this cycle.
        """
        paused, before = self._delivery.paused, self._before - self._delivery.accepted_projects
        return {*paused, *before, *self._delivery.pauses}

    def to_probe(self) -> list[str]:
        """Return the projects that were unknown in the last cycle and were not tried in this one."""
        closed = self._delivery.paused.keys() | self._delivery.pauses.keys()
        return sorted(self._before - self._delivery.accepted_projects - closed)

    def mark_tried(self, project: str) -> None:
        """Record that traces of a project were tried: unless the response was 404, its lane is open."""
        self._before.discard(project)

    def store(self) -> None:
        """Store which lanes are paused, for the next cycle."""
        self._state.put(
            PAUSED_PROJECTS, sorted({*self._delivery.paused, *(self._before & self._delivery.pauses.keys())})
        )


def check_pending_limit(ledger: Ledger, source_id: int, delivery: Delivery) -> None:
    """Raise SourcePaused if more traces are pending for closed lanes than a state file should hold."""
    closed = [*delivery.paused.values(), *delivery.pauses.values()]
    if closed and ledger.pending(source_id).count >= MAX_PENDING_TRACES:
        errors = " · ".join(str(error) for error in closed)
        raise SourcePaused(f"{MAX_PENDING_TRACES:,} traces are pending, so the whole source is paused: {errors}")
