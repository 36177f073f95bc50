"""Lanes of one source: to which Kelet project a trace goes, and what becomes of it where Kelet does not know it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from sync_worker.errors import SourcePaused
from sync_worker.kelet.delivery import Delivery
from sync_worker.ledger import Ledger, TraceNote, source_scope
from sync_worker.ledger.state_keys import PAUSED_PROJECTS
from sync_worker.settings import Route
from sync_worker.spans.context import TraceContext
from sync_worker.spans.routing import BY_DEFAULT, Decision, decide, follow

#: Traces that may wait in the state file before a project that Kelet does not know pauses the whole source.
MOST_WAITING = 100_000

log = logging.getLogger(__name__)


class Routing:
    """Decides where traces go: by the settings, by what was decided before, and by what Kelet knows."""

    def __init__(self, project: str, routes: Sequence[Route], delivery: Delivery) -> None:
        self._project = project
        self._routes = routes
        self._delivery = delivery
        self._configured = {project, *(route.project for route in routes)}

    def decide(self, before: TraceNote | None, context: TraceContext, *, going: bool) -> Decision | None:
        """Return where a trace goes: decided once, when it first goes; the decision follows its setting."""
        if before is None or before.project is None:
            return decide(context, self._routes, self._project) if going else None
        decision = follow(Decision(before.project, before.origin), self._routes, self._project)
        gone = decision.project in self._delivery.abandoned
        return Decision(self._project, BY_DEFAULT) if gone else decision

    def has_lane(self, note: TraceNote | None) -> bool:
        """Whether the lane of a trace's project is open: Kelet was not heard to know nothing of it."""
        return note is None or note.project not in self._delivery.paused

    def is_left_behind(self, note: TraceNote | None) -> bool:
        """Whether Kelet does not know the project of a trace, and no setting names it any more."""
        if note is None or note.project in self._configured:
            return False
        return note.project in self._delivery.abandoned or not self.has_lane(note)

    def abandon(self, notes: Iterable[TraceNote | None]) -> None:
        """Give up the lanes of these traces, which are left behind."""
        for project in sorted({str(note.project) for note in notes if note is not None} - self._delivery.abandoned):
            self._delivery.abandon(project)
            log.warning(
                "no route names the project %r any more, and Kelet does not know it: its traces go to %r",
                project, self._project, extra={"action": "lane"},
            )  # fmt: skip


class Lanes:
    """Which lanes are closed in this cycle, by its own answers and by those of the last one."""

    def __init__(self, ledger: Ledger, source_id: int, delivery: Delivery) -> None:
        self._state = ledger.state(source_scope(source_id))
        self._delivery = delivery
        self._before: set[str] = set(self._state.get(PAUSED_PROJECTS) or ())

    def closed(self) -> set[str]:
        """Return the projects whose traces wait: Kelet does not know them, and took nothing of them in this cycle."""
        return {*self._delivery.paused, *(self._before - self._delivery.accepted_projects)}

    def to_try(self) -> list[str]:
        """Return the projects that were unknown in the last cycle, and of which nothing was heard in this one."""
        return sorted(self._before - self._delivery.accepted_projects - self._delivery.paused.keys())

    def tried(self, project: str) -> None:
        """Note that traces of a project were tried: whatever came of it but a 404, its lane is open."""
        self._before.discard(project)

    def store(self) -> None:
        """Keep which lanes are paused for the next cycle."""
        self._state.put(PAUSED_PROJECTS, sorted(self._delivery.paused))


def check_room(ledger: Ledger, source_id: int, delivery: Delivery) -> None:
    """Raise SourcePaused when more traces wait for their lanes than a state file should hold."""
    if delivery.paused and ledger.pending(source_id).count >= MOST_WAITING:
        faults = " · ".join(str(fault) for fault in delivery.paused.values())
        raise SourcePaused(f"{MOST_WAITING:,} traces wait, and so the whole source does: {faults}")
