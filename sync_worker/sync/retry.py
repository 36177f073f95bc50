"""Tries rows again that could not be read: what failed by chance passes, and leaves the dead letters.

Each try is later than the one before: after ten minutes, an hour, six hours, a day, then after double the time, at most
a month. Many rows go into one request. A row that fails again costs several requests and a wait, so a cycle bears few.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sync_worker.ledger import DeadLetter
from sync_worker.records import Observation
from sync_worker.spans.context import trace_of
from sync_worker.spans.fingerprint import fingerprint
from sync_worker.sync.assemble import MAX_HELD_BYTES, Assembly, Patience
from sync_worker.sync.proving import prove
from sync_worker.sync.release import FIRST_TRY_MS, Releaser
from sync_worker.sync.window import held_back
from sync_worker.windows import Window

#: Dead letters tried in a cycle, at first in one request, and how many may fail until no more are tried.
_AT_ONCE = 50
_FIRST_AT_ONCE = 5
_MOST_FAILED = 3
_HOUR = 3_600_000
#: How long after its first tries a row is tried again, in milliseconds; from then on double the last, up to a month.
_NEXT_TRY_MS = (_HOUR, 6 * _HOUR, 24 * _HOUR)
_LONGEST_MS = 32 * 24 * _HOUR
_EVERYTHING = Window(0, 2**62)

log = logging.getLogger(__name__)


class Retries:
    """Tries unreadable dead letters of one source again."""

    def __init__(self, releaser: Releaser, patience: Patience) -> None:
        self._releaser = releaser
        self._patience = patience
        self._failed = 0
        self._tried: list[DeadLetter] = []

    async def look(self) -> None:
        """Try what is due. Raises as reader and delivery do.

        Each is put off a little before it is tried, so that nobody else tries it; a fault, or a kill, brings it back.
        """
        releaser = self._releaser
        now = releaser.ledger.clock.now_ms()
        due = releaser.ledger.letters_to_try(releaser.source_id, now, _AT_ONCE)
        if not due:
            return
        releaser.ledger.note_tries([replace(letter, next_try_ms=now + FIRST_TRY_MS) for letter in due])
        dated = [letter for letter in due if letter.row_id is not None and letter.start_ms is not None]
        undated = [letter for letter in due if letter.row_id is not None and letter.start_ms is None]
        if dated:
            places = [_place(letter) for letter in dated]
            around = Window(min(place.start for place in places), max(place.end for place in places))
            await self._try_many(dated, around, now)
        await self._try_many(undated, Window(0, now + 1), now)
        nameless = [letter for letter in due if letter.row_id is None]
        for place in sorted({_place(letter) for letter in nameless}):
            alike = [letter for letter in nameless if _place(letter) == place]
            await self._try_many(alike, place, now, len(alike))
        stay = {letter.id for letter in releaser.ledger.dead_letters(ids=[letter.id or 0 for letter in due])}
        releaser.ledger.note_tries([_put_off(letter, now) for letter in self._tried if letter.id in stay])
        if len(stay) < len(due):
            log.info("%d dead letters could be read after all", len(due) - len(stay), extra={"action": "retry"})

    async def _try_many(
        self, letters: Sequence[DeadLetter], around: Window, now: int, at_once: int = _FIRST_AT_ONCE
    ) -> None:
        """Try letters, ever more at once while none fails; those that are one too many wait for the next cycle."""
        rest = list(letters)
        while rest and self._failed < _MOST_FAILED:
            self._releaser.clock.check()
            part, rest = rest[:at_once], rest[at_once:]
            self._tried += part
            before = self._failed
            await self._try(part, around)
            at_once *= 2 if self._failed == before else 1
        self._releaser.ledger.note_tries([replace(letter, next_try_ms=now + 1) for letter in rest])

    async def _try(self, letters: Sequence[DeadLetter], around: Window) -> None:
        """Read the rows of these letters by id, or all that starts where they do if their ids are not known."""
        releaser = self._releaser
        ids = list(dict.fromkeys(letter.row_id for letter in letters if letter.row_id is not None))
        failed_before, all_went = self._failed, True
        assembly = Assembly()
        walk = releaser.reader.rows(ids, around) if ids else releaser.reader.window(around)
        async for page in walk:
            releaser.report.rows_read += len(page.rows)
            self._failed += len(page.unreadable)
            assembly.add_page(page, [row for row in page.rows if not ids or _letters_of(row, letters)])
            if assembly.size > MAX_HELD_BYTES:
                all_went &= await self._settle(assembly, letters)
        all_went &= await self._settle(assembly, letters)
        if not ids and all_went and self._failed == failed_before:  # all that starts there was served, and went
            releaser.ledger.settle_dead_letters(letters)

    async def _settle(self, assembly: Assembly, letters: Sequence[DeadLetter]) -> bool:
        """Send rows that were served, and return whether all went; those that still wait for something stay letters."""
        releaser = self._releaser
        await prove(releaser.reader, assembly)
        taken = assembly.take()
        sent = releaser.ledger.sent_rows(releaser.source_id, taken)
        done = releaser.ledger.done_rows(releaser.source_id, taken)
        notes = releaser.ledger.traces(releaser.source_id, taken)
        waiting = {trace_id for trace_id, note in notes.items() if note.parked}
        arrived: list[DeadLetter] = []
        to_send: dict[str, list[Observation]] = {}
        for trace_id, rows in taken.items():
            for row in rows:
                own = _letters_of(row, letters)
                before = sent.get((trace_id, row.id))
                if before is not None and before.fingerprint == fingerprint(row):
                    arrived += own
                elif own or ((trace_id, row.id) not in done and trace_id not in waiting):
                    to_send.setdefault(trace_id, []).append(row)
        traces = await releaser.introduce(to_send, _EVERYTHING, again=True)
        held = [row for trace in traces for row in held_back(trace, releaser.clock.certain_ms(), self._patience)]
        going = [trace for trace in traces if trace.fresh]
        left = await releaser.send([trace for trace in going if trace.trace_id not in waiting])
        left |= await releaser.send([trace for trace in going if trace.trace_id in waiting], parked=True)
        releaser.delivery.finish()
        for trace in going:
            for row in trace.left_out:
                arrived += _letters_of(row, letters)
        releaser.ledger.settle_dead_letters(arrived)
        return not held and not left


def _put_off(letter: DeadLetter, now: int) -> DeadLetter:
    tries = letter.tries + 1
    more = tries - len(_NEXT_TRY_MS)
    wait = _NEXT_TRY_MS[tries - 1] if more <= 0 else min(_LONGEST_MS, _NEXT_TRY_MS[-1] << min(more, 10))
    return replace(letter, tries=tries, next_try_ms=now + wait)


def _place(letter: DeadLetter) -> Window:
    """Return where its row starts."""
    start = letter.start_ms or 0
    return Window(start, start + 1 if letter.until_ms is None else letter.until_ms)


def _letters_of(row: Observation, letters: Iterable[DeadLetter]) -> list[DeadLetter]:
    return [letter for letter in letters if letter.row_id == row.id and letter.trace_id in {None, trace_of(row)}]
