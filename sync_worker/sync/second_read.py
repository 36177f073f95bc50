"""Reads once more, in full, what was done so soon after its last update that it may have been half old.

Langfuse joins the input and output of a row to its other fields, and until its store has merged the versions of a row
those of one may come with the fields of the other. Nothing in a listing shows it, not even the time of the update: only
the content, read again later. So each row that is done within ten minutes of its update is noted in the ledger, read
again after these ten minutes, and sent again if its content differs. Rows that start close to each other are read as a
window, a thousand a request; others by their ids, some two hundred a request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sync_worker.langfuse.reader import Page
from sync_worker.ledger import SecondRead, source_scope
from sync_worker.records import Observation
from sync_worker.spans.context import trace_of
from sync_worker.sync.assemble import MAX_HELD_BYTES, Assembly
from sync_worker.sync.plan import TARGET_ROWS
from sync_worker.sync.proving import prove
from sync_worker.sync.release import SECOND_READ_MS, Releaser
from sync_worker.sync.window import WindowSync
from sync_worker.windows import Window

#: Second reads are gathered for so long, in milliseconds, unless they fill a request.
GATHER_MS = 120_000
#: What is being read is left alone by others for so long, in milliseconds.
_TAKEN_MS = 30_000
#: Rows that one request by ids holds, at 32 characters an id; and that one page of a window holds.
_ROWS_BY_IDS = 150
_ROWS_A_PAGE = 1_000
#: Second reads may take one in so many of the requests a minute; and the limit that is assumed while none is known.
_BUDGET_SHARE = 8
_ASSUMED_PER_MINUTE = 1_000
_LEAST_REQUESTS = 4
#: Rows that start within so many milliseconds of the next one may be read with it.
_CLOSE_MS = 60_000
#: A row that comes twice each time is read again after double the time; the last time, what is listed is taken.
_MOST_TRIES = 8
#: The ledger's name for when rows were read again last.
_LAST = "second read"

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Stretches:
    """How to read rows again: those in these windows together, the others by ids."""

    windows: list[Window]
    by_id: list[SecondRead]


class SecondReads:
    """Reads again what is due of one source. `length_ms` is how long a window of `TARGET_ROWS` lately was."""

    def __init__(
        self, releaser: Releaser, windows: WindowSync, requests_per_minute: int | None, length_ms: int | None
    ) -> None:
        self._releaser = releaser
        self._windows = windows
        requests = max(_LEAST_REQUESTS, (requests_per_minute or _ASSUMED_PER_MINUTE) // _BUDGET_SHARE)
        self._most = requests * _ROWS_BY_IDS
        self._length = length_ms
        self._scope = source_scope(releaser.source_id)

    async def look(self) -> None:
        """Read again what is due, as much as a cycle may; nothing is asked where nothing is. Raises as the reader does.

        Each is put off a little before it is read, so that nobody else reads it; a fault, or a kill, brings it back.
        """
        releaser = self._releaser
        now = releaser.ledger.clock.now_ms()
        due = releaser.ledger.second_reads_due(releaser.source_id, now, self._most, releaser.taken)
        last = int(releaser.ledger.fact(self._scope, _LAST) or 0)
        if not due or (len(due) < _ROWS_A_PAGE and 0 <= now - last < GATHER_MS):
            return
        done = releaser.ledger.sent_rows(releaser.source_id, {read.trace_id for read in due})
        releaser.ledger.end_second_reads(
            releaser.source_id, [read for read in due if (read.trace_id, read.row_id) not in done]
        )
        reads = [
            replace(read, tries=read.tries + 1, due_ms=now + _TAKEN_MS)
            for read in due
            if (read.trace_id, read.row_id) in done
        ]
        releaser.ledger.note_second_reads(releaser.source_id, reads)
        plan = read_together(reads, self._length)
        for window in plan.windows:
            inside = {(read.trace_id, read.row_id): read for read in reads if window.holds(read.start_ms)}
            await self._read(releaser.reader.window(window), inside, window)
        if plan.by_id:
            starts = [read.start_ms for read in plan.by_id]
            around = Window(min(starts), max(starts) + 1)
            wanted = {(read.trace_id, read.row_id): read for read in plan.by_id}
            await self._read(releaser.reader.rows([read.row_id for read in plan.by_id], around), wanted, around)
        releaser.ledger.learn(self._scope, _LAST, str(now))

    async def _read(self, walk: AsyncIterator[Page], wanted: Mapping[_Key, SecondRead], around: Window) -> None:
        """Read rows again, and settle those that come; one that does not is gone from the source."""
        releaser = self._releaser
        assembly = Assembly()
        left = dict(wanted)
        async for page in walk:
            releaser.report.rows_read += len(page.rows)
            assembly.add_page(page, [row for row in page.rows if (trace_of(row), row.id) in wanted])
            for item in page.unreadable:  # it was sent, and is not served now; its trace is remembered meanwhile
                waits = [key for key, read in left.items() if key[1] == item.row_id and read.tries <= _MOST_TRIES]
                self._put_off([left.pop(key) for key in waits])
            if assembly.size > MAX_HELD_BYTES:
                await self._settle(assembly, left, around)
        await self._settle(assembly, left, around)
        releaser.ledger.end_second_reads(releaser.source_id, left.values())

    async def _settle(self, assembly: Assembly, left: dict[_Key, SecondRead], around: Window) -> None:
        """Send what differs of the rows held and take them out of `left`; one that still comes twice is read later."""
        releaser = self._releaser
        await prove(releaser.reader, assembly)
        taken: dict[str, list[Observation]] = {}
        settled, later = list[SecondRead](), list[SecondRead]()
        for trace_id, rows in assembly.take().items():
            for row in rows:
                read = left.pop((trace_id, row.id), None)
                if read is not None and row.unsettled and read.tries <= _MOST_TRIES:
                    later.append(read)
                elif read is not None:
                    row.unsettled = False
                    taken.setdefault(trace_id, []).append(row)
                    settled.append(read)
        self._put_off(later)
        await self._windows.settle_late(taken, around)
        releaser.ledger.end_second_reads(releaser.source_id, settled)

    def _put_off(self, reads: Sequence[SecondRead]) -> None:
        """Note that these are to be read again after double the time."""
        releaser = self._releaser
        now = releaser.ledger.clock.now_ms()
        waits = [min(read.tries - 1, _MOST_TRIES) for read in reads]
        later = [replace(read, due_ms=now + (SECOND_READ_MS << wait)) for read, wait in zip(reads, waits, strict=True)]
        releaser.ledger.note_second_reads(releaser.source_id, later)


def read_together(reads: Sequence[SecondRead], length_ms: int | None) -> Stretches:
    """Say how to read rows again in the fewest requests, where `length_ms` of time holds some `TARGET_ROWS` rows."""
    plan = Stretches([], [])
    run: list[SecondRead] = []
    for read in sorted(reads, key=lambda read: read.start_ms):
        if run and read.start_ms - run[-1].start_ms > _CLOSE_MS:
            _place(run, length_ms, plan)
            run = []
        run.append(read)
    if run:
        _place(run, length_ms, plan)
    return plan


def _place(run: list[SecondRead], length_ms: int | None, plan: Stretches) -> None:
    window = Window(run[0].start_ms, run[-1].start_ms + 1)
    rows = max(len(run), window.length * TARGET_ROWS // length_ms) if length_ms else None
    if rows is not None and rows / _ROWS_A_PAGE + 1 < len(run) / _ROWS_BY_IDS:
        plan.windows.append(window)
    else:
        plan.by_id.extend(run)
