"""Open traces: sent after SYNC_MAX_OPEN although no root had ended. Their roots are looked up once an hour.

A span appears in Langfuse when it ends, so the root of an agent that runs for days starts further back than any
lookback window. What was sent of an open trace is not forgotten; when its root has ended, the trace is fetched again,
and what is new of it is sent.
"""

from __future__ import annotations

from dataclasses import replace

from sync_worker.langfuse.filters import IDS_A_REQUEST
from sync_worker.ledger.stored_records import Waiting, is_due
from sync_worker.pipeline.notes import OPEN_EVERY_MS, OPEN_FOR_MS
from sync_worker.pipeline.readiness import has_ended
from sync_worker.pipeline.session import Session
from sync_worker.runs.pending import PendingTraces

#: Maximum open traces of a source; beyond, the oldest are given up.
MOST_OPEN = 10_000
#: Traces looked up in a cycle where a listing is as expensive as a read: older v1 servers need a request a trace.
_FEW_A_CYCLE = 25


async def look_up_open_traces(session: Session, pending: PendingTraces, waiting: Waiting) -> None:
    """Look up the roots that are due, many in a request; send what is new of traces whose root has ended."""
    now, guess = session.clock.certain_ms(), session.clock.now_ms()
    before = now - OPEN_FOR_MS
    if waiting.open_traces > MOST_OPEN or is_due(waiting.open_since_ms, before - 1):
        session.report.traces_given_up += session.ledger.give_up_open(session.source_id, before, MOST_OPEN)
    if not is_due(waiting.open_check_ms, now):
        return
    left = MOST_OPEN if session.reader.metadata_only_is_cheap else _FEW_A_CYCLE
    while left > 0:
        session.clock.check()
        due = session.ledger.open_due(session.source_id, now, min(left, IDS_A_REQUEST))
        if not due:
            return
        left -= len(due)
        roots = await pending.roots(due, now, guess)
        ended = [note for note in due if has_ended(roots.get(note.trace_id, ()), note.id_kind)]
        later = [replace(note, check_ms=now + OPEN_EVERY_MS) for note in due if note not in ended]
        session.ledger.store_traces(session.source_id, later)
        await pending.send(ended, now, guess)
