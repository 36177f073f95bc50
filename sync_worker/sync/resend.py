"""Sends what a verification found to be missing, hour by hour, in the same run.

Where rows are still known by name, what is missing goes, and nothing else. Where the records were forgotten, which
rows are missing cannot be told, so all rows of the hour go, those that were sent before under the ids that they had.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sync_worker.ledger import Ledger, claims
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.ledger.tallies import HOUR_MS
from sync_worker.spans.context import trace_of
from sync_worker.sync.assemble import MAX_HELD_BYTES, Assembly, Patience
from sync_worker.sync.proving import prove
from sync_worker.sync.release import Releaser
from sync_worker.sync.verify import Hour
from sync_worker.sync.window import WindowSync
from sync_worker.times import iso_time
from sync_worker.windows import Window, within

#: How often it is looked whether a live sync has left what it was at work on, in seconds.
_LOOK_EVERY = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resend:
    """Sends hours of one source again, under the lease of a backfill. `first_edge_ms` is that of the live sync."""

    releaser: Releaser
    patience: Patience
    first_edge_ms: int | None

    async def send(self, hours: Sequence[Hour], covered: Sequence[Window]) -> list[Window]:
        """Send what is missing of these hours where they are covered; return the stretches that were sent.

        Raises as reader and delivery do; what was done by then counts.
        """
        parts = [(hour, list(within(covered, _window(hour)))) for hour in hours]
        await self._take_over([part for _, of_hour in parts for part in of_hour])
        done: list[Window] = []
        for hour, of_hour in parts:
            if hour.forgotten:
                # First: after a kill, rows that were not sent again must not count as done.
                self._ledger.forget_count(self.releaser.source_id, hour.start_ms // HOUR_MS)
            for part in of_hour:
                for role, piece in self._by_edge(part):
                    await self._bring_over(hour, role, piece)
                done.append(part)
        return done

    @property
    def _ledger(self) -> Ledger:
        return self.releaser.ledger

    async def _take_over(self, parts: Sequence[Window]) -> None:
        """Claim these stretches, and wait until a live sync that is in a cycle has left them."""
        source = self.releaser.source_id
        claims.demand(self._ledger, source, parts)
        told = False
        while any(within(claims.claimed_by_others(self._ledger, source), part) for part in parts):
            if not told:
                log.info("waiting for the cycle of the live sync to end", extra={"action": "resend"})
                told = True
            await self.releaser.clock.sleep(_LOOK_EVERY)

    def _by_edge(self, part: Window) -> Iterable[tuple[str, Window]]:
        """Cut at the first edge: after it traces wait as the live sync's do, before it nobody would send them later."""
        first = part.end if self.first_edge_ms is None else self.first_edge_ms
        yield from ((BACKFILL, piece) for piece in within([part], Window(0, first)))
        yield from ((LIVE, piece) for piece in within([part], Window(first, claims.FOR_EVER)))

    async def _bring_over(self, hour: Hour, role: str, part: Window) -> None:
        releaser = self.releaser
        ids = list(dict.fromkeys(row_id for _, row_id in hour.rows))
        named = bool(ids) and not hour.forgotten
        windows = WindowSync(releaser, role, self.patience)
        assembly = Assembly()
        log.info("sending what starts from %s to %s", iso_time(part.start), iso_time(part.end))
        async for page in releaser.reader.rows(ids, part) if named else releaser.reader.window(part):
            releaser.clock.check()
            releaser.report.rows_read += len(page.rows)
            rows = [row for row in page.rows if part.holds(row.start_ms)]
            rows = [row for row in rows if not named or (trace_of(row), row.id) in hour.rows]
            notes = self._ledger.traces(releaser.source_id, {trace_of(row) for row in rows})
            waits = {trace_id for trace_id, note in notes.items() if note.parked}
            assembly.add_page(page, [row for row in rows if trace_of(row) not in waits])
            releaser.set_aside_unreadable(page.unreadable)
            if assembly.size > MAX_HELD_BYTES:
                await prove(releaser.reader, assembly)
                await windows.settle_late(assembly.take(), part)
        await prove(releaser.reader, assembly)
        await windows.settle_late(assembly.take(), part)


def _window(hour: Hour) -> Window:
    return Window(hour.start_ms, hour.start_ms + HOUR_MS)
