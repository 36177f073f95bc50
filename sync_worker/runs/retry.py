"""Tries observations again that could not be read: what failed by chance passes, and leaves the dead letters.

Each try is later than the one before: after ten minutes, an hour, six hours, a day, then after double the time, at most
a month. Many observations go into one request. An observation that fails again costs several requests and a wait, so a
cycle bears few.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace

from sync_worker.intervals import Interval
from sync_worker.langfuse.reader import Page
from sync_worker.ledger import DeadLetter
from sync_worker.pipeline.dead_letters import FIRST_RETRY_MS
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.job import Choice, Group, Job
from sync_worker.pipeline.notes import hold_back
from sync_worker.pipeline.trace import Trace
from sync_worker.records import Observation
from sync_worker.spans.context import trace_of
from sync_worker.spans.fingerprint import fingerprint

#: Dead letters tried in a cycle, at first in one request, and how many may fail until no more are tried.
_AT_ONCE = 50
_FIRST_AT_ONCE = 5
_MOST_FAILED = 3
_HOUR = 3_600_000
#: How long after its first tries an observation is tried again, in milliseconds; from then on double the last, up to a
#: month.
_NEXT_TRY_MS = (_HOUR, 6 * _HOUR, 24 * _HOUR)
_LONGEST_MS = 32 * 24 * _HOUR
_EVERYTHING = Interval(0, 2**62)

log = logging.getLogger(__name__)


class Retries:
    """Tries unreadable dead letters of one source again."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._session = pipeline.session
        self._failed = 0
        self._tried: list[DeadLetter] = []

    async def look(self) -> None:
        """Try what is due. Raises as reader and delivery do.

        Each is put off a little before it is tried, so that nobody else tries it; a fault, or a kill, brings it back.
        """
        session = self._session
        now = session.ledger.clock.now_ms()
        due = session.ledger.dead_letters_due(session.source_id, now, _AT_ONCE)
        if not due:
            return
        session.ledger.store_tries([replace(letter, next_try_ms=now + FIRST_RETRY_MS) for letter in due])
        dated = [letter for letter in due if letter.observation_id is not None and letter.start_ms is not None]
        undated = [letter for letter in due if letter.observation_id is not None and letter.start_ms is None]
        if dated:
            places = [_place(letter) for letter in dated]
            around = Interval(min(place.start for place in places), max(place.end for place in places))
            await self._try_many(dated, around, now)
        await self._try_many(undated, Interval(0, now + 1), now)
        nameless = [letter for letter in due if letter.observation_id is None]
        for place in sorted({_place(letter) for letter in nameless}):
            alike = [letter for letter in nameless if _place(letter) == place]
            await self._try_many(alike, place, now, len(alike))
        stay = {letter.id for letter in session.ledger.dead_letters(ids=[letter.id or 0 for letter in due])}
        session.ledger.store_tries([_put_off(letter, now) for letter in self._tried if letter.id in stay])
        if len(stay) < len(due):
            log.info("%d dead letters could be read after all", len(due) - len(stay), extra={"action": "retry"})

    async def _try_many(
        self, letters: Sequence[DeadLetter], around: Interval, now: int, at_once: int = _FIRST_AT_ONCE
    ) -> None:
        """Try letters, ever more at once while none fails; those that are one too many wait for the next cycle."""
        rest = list(letters)
        while rest and self._failed < _MOST_FAILED:
            self._session.clock.check()
            part, rest = rest[:at_once], rest[at_once:]
            self._tried += part
            before = self._failed
            await self._try(part, around)
            at_once *= 2 if self._failed == before else 1
        self._session.ledger.store_tries([replace(letter, next_try_ms=now + 1) for letter in rest])

    async def _try(self, letters: Sequence[DeadLetter], around: Interval) -> None:
        """Read what these letters are of by id, or all that starts where they do if their ids are not known."""
        job = _Retry(self._pipeline, letters, around)
        await self._pipeline.run(job)
        self._failed += job.failed
        if not job.ids and not job.failed and job.all_went:  # all that starts there was served, and went
            self._session.ledger.delete_dead_letters(letters)


class _Retry(Job):
    """Reads observations that could not be read, and sends them; those that still wait stay dead letters."""

    again = True

    def __init__(self, pipeline: Pipeline, letters: Sequence[DeadLetter], around: Interval) -> None:
        self._session = pipeline.session
        self._letters = letters
        self._around = around
        self.ids = list(dict.fromkeys(letter.observation_id for letter in letters if letter.observation_id is not None))
        self.failed = 0
        self.all_went = True
        self._arrived: list[DeadLetter] = []
        self._pending: set[str] = set()

    @property
    def sends(self) -> Interval:
        """Everything."""
        return _EVERYTHING

    def walk(self) -> AsyncIterator[Page]:
        """Read by id, or all that starts there."""
        reader = self._session.reader
        return reader.observations(self.ids, self._around) if self.ids else reader.interval(self._around)

    def take(self, page: Page) -> Sequence[Observation]:
        """Take what the letters are of."""
        self.failed += len(page.unreadable)
        return [
            observation for observation in page.observations if not self.ids or _letters_of(observation, self._letters)
        ]

    def select(self, group: Group) -> dict[str, list[Observation]]:
        """Leave out what was sent in this state, what beside a letter was sent at all, and what its trace will send."""
        session, taken = self._session, group.traces
        sent = session.ledger.sent_observations(session.source_id, taken)
        done = session.ledger.completed_observations(session.source_id, taken)
        notes = session.ledger.traces(session.source_id, taken)
        self._pending = {trace_id for trace_id, note in notes.items() if note.pending}
        to_send: dict[str, list[Observation]] = {}
        for trace_id, observations in taken.items():
            for observation in observations:
                own = _letters_of(observation, self._letters)
                before = sent.get((trace_id, observation.id))
                if before is not None and before.fingerprint == fingerprint(observation):
                    self._arrived += own
                elif own or ((trace_id, observation.id) not in done and trace_id not in self._pending):
                    to_send.setdefault(trace_id, []).append(observation)
        return to_send

    def choose(self, traces: Sequence[Trace], taken: Mapping[str, Sequence[Observation]]) -> Choice:
        """Send all but what still waits alone."""
        del taken
        choice = Choice(list(traces), stay_pending=self._pending)
        for trace in traces:
            held = hold_back(trace, self._session.clock.certain_ms(), self._session.waits)
            if held:
                choice.waiting[trace.trace_id] = held
        return choice

    def commit(self, group: Group, taken: Mapping[str, Sequence[Observation]], choice: Choice, left: set[str]) -> None:
        """Let go of the letters of what arrived."""
        del group, taken
        for trace in choice.ready:
            for observation in trace.left_out:
                self._arrived += _letters_of(observation, self._letters)
        self._session.ledger.delete_dead_letters(self._arrived)
        self._arrived = []
        self.all_went &= not choice.waiting and not left


class RetryByHand(Job):
    """Reads what dead letters are of by id, and sends it whatever was kept of it."""

    again = True

    def __init__(self, pipeline: Pipeline, letters: Sequence[DeadLetter]) -> None:
        self._session = pipeline.session
        self._letters = {letter.observation_id: letter for letter in letters if letter.observation_id is not None}

    @property
    def sends(self) -> Interval:
        """Everything."""
        return _EVERYTHING

    def walk(self) -> AsyncIterator[Page]:
        """Read by id."""
        starts = [letter.start_ms for letter in self._letters.values() if letter.start_ms is not None]
        known = len(starts) == len(self._letters)
        last = max(starts) if known else self._session.clock.now_ms()
        around = Interval(min(starts) if known else 0, last + 1)
        return self._session.reader.observations(list(self._letters), around)

    def take(self, page: Page) -> Sequence[Observation]:
        """Take what the letters are of."""
        return [
            observation
            for observation in page.observations
            if self._letters[observation.id].trace_id in {None, trace_of(observation)}
        ]

    def choose(self, traces: Sequence[Trace], taken: Mapping[str, Sequence[Observation]]) -> Choice:
        """Send all."""
        del taken
        return Choice(list(traces))

    def commit(self, group: Group, taken: Mapping[str, Sequence[Observation]], choice: Choice, left: set[str]) -> None:
        """Keep nothing: what was accepted is kept with Kelet's answer, and its letter is gone."""


def _put_off(letter: DeadLetter, now: int) -> DeadLetter:
    tries = letter.tries + 1
    more = tries - len(_NEXT_TRY_MS)
    wait = _NEXT_TRY_MS[tries - 1] if more <= 0 else min(_LONGEST_MS, _NEXT_TRY_MS[-1] << min(more, 10))
    return replace(letter, tries=tries, next_try_ms=now + wait)


def _place(letter: DeadLetter) -> Interval:
    """Return where its observation starts."""
    start = letter.start_ms or 0
    return Interval(start, start + 1 if letter.until_ms is None else letter.until_ms)


def _letters_of(observation: Observation, letters: Iterable[DeadLetter]) -> list[DeadLetter]:
    return [
        letter
        for letter in letters
        if letter.observation_id == observation.id and letter.trace_id in {None, trace_of(observation)}
    ]
