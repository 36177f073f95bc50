"""Open traces: sent after SYNC_MAX_OPEN although no root of theirs had ended. Their roots are looked for, once an hour.

A span shows up in Langfuse when it ends, so the root of an agent that runs for days is listed at a start that lies
further back than any late scan looks. What was sent of an open trace is not forgotten; when its root has ended, the
trace is fetched whole, and what is new of it is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sync_worker.ledger import TraceNote
from sync_worker.records import Observation
from sync_worker.spans.context import trace_of
from sync_worker.sync.assemble import has_ended
from sync_worker.sync.parked import ParkedSync
from sync_worker.sync.release import OPEN_EVERY_MS, OPEN_FOR_MS, Releaser

#: Open traces of a source; of more, those that are open longest are given up.
MOST_OPEN = 10_000
#: Traces looked for in one go: what one request's list of ids holds.
_AT_ONCE = 150
#: Traces looked for in a cycle where each list costs as much as a reading: older v1 servers are asked trace by trace.
_FEW_A_CYCLE = 25


class OpenTraces:
    """Looks for the roots of one source's open traces."""

    def __init__(self, releaser: Releaser, parked: ParkedSync) -> None:
        self._releaser = releaser
        self._parked = parked

    async def look_up(self) -> None:
        """Look for the roots that are due, many in a request; bring over the traces whose root has ended."""
        releaser = self._releaser
        now = releaser.clock.certain_ms()
        releaser.report.traces_given_up += releaser.ledger.give_up_open(
            releaser.source_id, now - OPEN_FOR_MS, MOST_OPEN
        )
        left = MOST_OPEN if releaser.reader.lists_lightly else _FEW_A_CYCLE
        while left > 0:
            releaser.clock.check()
            due = releaser.ledger.open_due(releaser.source_id, now, min(left, _AT_ONCE))
            if not due:
                return
            left -= len(due)
            ended = await self._ended(due, now)
            still = [replace(note, check_ms=now + OPEN_EVERY_MS) for note in due if note not in ended]
            releaser.ledger.note_traces(releaser.source_id, still)
            await self._parked.fetch_and_send(ended, now)

    async def _ended(self, notes: Sequence[TraceNote], now: int) -> list[TraceNote]:
        """Return the traces with a root that has ended."""
        roots: dict[str, list[Observation]] = {}
        async for page in self._releaser.reader.roots(
            [note.trace_id for note in notes], self._parked.around(notes, now)
        ):
            self._releaser.report.rows_read += len(page.rows)
            for row in page.rows:
                roots.setdefault(trace_of(row), []).append(row)
        return [
            note for note in notes if has_ended(roots.get(note.trace_id, ()), str(note.context.get("rows_are", "")))
        ]
