"""Open traces: sent after SYNC_MAX_OPEN although no root of theirs had ended. Their roots are looked for, once an hour.

A span shows up in Langfuse when it ends, so the root of an agent that runs for days is listed at a start that lies
further back than any lookback scan looks. What was sent of an open trace is not forgotten; when its root has ended, the
trace is fetched whole, and what is new of it is sent.
"""

from __future__ import annotations

from dataclasses import replace

from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.notes import OPEN_EVERY_MS, OPEN_FOR_MS
from sync_worker.pipeline.readiness import has_ended
from sync_worker.runs.pending import PendingTraces

#: Open traces of a source; of more, those that are open longest are given up.
MOST_OPEN = 10_000
#: Traces looked for in one go: what one request's list of ids holds.
_AT_ONCE = 150
#: Traces looked for in a cycle where each list costs as much as a reading: older v1 servers are asked trace by trace.
_FEW_A_CYCLE = 25


class OpenTraces:
    """Looks for the roots of one source's open traces."""

    def __init__(self, pipeline: Pipeline, pending: PendingTraces) -> None:
        self._session = pipeline.session
        self._pending = pending

    async def look_up(self) -> None:
        """Look for the roots that are due, many in a request; send what is new of the traces whose root has ended."""
        session = self._session
        now, guess = session.clock.certain_ms(), session.clock.now_ms()
        session.report.traces_given_up += session.ledger.give_up_open(session.source_id, now - OPEN_FOR_MS, MOST_OPEN)
        left = MOST_OPEN if session.reader.metadata_only_is_cheap else _FEW_A_CYCLE
        while left > 0:
            session.clock.check()
            due = session.ledger.open_due(session.source_id, now, min(left, _AT_ONCE))
            if not due:
                return
            left -= len(due)
            roots = await self._pending.roots(due, now, guess)
            ended = [
                note for note in due if has_ended(roots.get(note.trace_id, ()), str(note.context.get("rows_are", "")))
            ]
            later = [replace(note, check_ms=now + OPEN_EVERY_MS) for note in due if note not in ended]
            session.ledger.store_traces(session.source_id, later)
            await self._pending.send(ended, now, guess)
