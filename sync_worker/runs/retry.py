"""Retries observations that could not be read: after a transient error they are sent, and the dead letters removed.

The interval between tries grows: ten minutes, an hour, six hours, a day, then doubled, at most a month. Many
observations share one request. One that fails again takes several requests and a wait, so few may fail in a cycle.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace

from sync_worker.intervals import Interval
from sync_worker.langfuse.reader import Page
from sync_worker.ledger import DeadLetter
from sync_worker.pipeline.dead_lettering import FIRST_RETRY_MS
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.notes import take_each_pending
from sync_worker.pipeline.trace import Trace
from sync_worker.pipeline.work import Choice, Group, Work
from sync_worker.records import Observation
from sync_worker.runs.opened import OpenSource
from sync_worker.spans.context import trace_of
from sync_worker.spans.fingerprint import fingerprint
from sync_worker.wording import counted

#: Dead letters retried in a cycle, those in the first request, and how many may fail before the cycle stops.
_AT_ONCE = 50
_FIRST_AT_ONCE = 5
_MAX_FAILED = 3
_HOUR = 3_600_000
#: Waits after the first tries, in milliseconds; from then on the last one doubled, up to a month.
_NEXT_TRY_MS = (_HOUR, 6 * _HOUR, 24 * _HOUR)
_LONGEST_MS = 32 * 24 * _HOUR
_EVERYTHING = Interval(0, 2**62)

log = logging.getLogger(__name__)


class Retries:
    """Retries unreadable dead letters of one source."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._session = pipeline.session
        self._failed = 0
        self._tried: list[DeadLetter] = []

    async def run(self) -> None:
        """Retry what is due. Raises as reader and delivery do.

        Each is postponed a little before it is retried, so that no other process retries it; after an error, or a kill,
        it is due again.
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
            intervals = [_interval_of(letter) for letter in dated]
            around = Interval(
                min(interval.start for interval in intervals), max(interval.end for interval in intervals)
            )
            await self._retry_many(dated, around, now)
        await self._retry_many(undated, Interval(0, now + 1), now)
        without_id = [letter for letter in due if letter.observation_id is None]
        for interval in sorted({_interval_of(letter) for letter in without_id}):
            alike = [letter for letter in without_id if _interval_of(letter) == interval]
            await self._retry_many(alike, interval, now, len(alike))
        stay = {letter.id for letter in session.ledger.dead_letters(ids=[letter.id or 0 for letter in due])}
        session.ledger.store_tries([_postpone(letter, now) for letter in self._tried if letter.id in stay])
        if len(stay) < len(due):
            read = counted(len(due) - len(stay), "dead letter")
            log.info("%s could be read after all", read, extra={"action": "retry"})

    async def _retry_many(
        self, letters: Sequence[DeadLetter], around: Interval, now: int, at_once: int = _FIRST_AT_ONCE
    ) -> None:
        """Retry dead letters, ever more at once while none fails; the rest is left to the next cycle."""
        rest = list(letters)
        while rest and self._failed < _MAX_FAILED:
            self._session.clock.check()
            part, rest = rest[:at_once], rest[at_once:]
            self._tried += part
            before = self._failed
            await self._retry(part, around)
            at_once *= 2 if self._failed == before else 1
        self._session.ledger.store_tries([replace(letter, next_try_ms=now + 1) for letter in rest])

    async def _retry(self, letters: Sequence[DeadLetter], around: Interval) -> None:
        """Read the observations of dead letters by id, or their whole interval if the ids are unknown."""
        work = _Retry(self._pipeline, letters, around)
        await self._pipeline.run(work)
        self._failed += work.failed
        if not work.ids and not work.failed and work.all_sent:  # all of the interval was served and sent
            self._session.ledger.delete_dead_letters(letters)


class _Retry(Work):
    """Reads observations that could not be read, and sends them; those still pending stay dead letters."""

    again = True
    follows = True

    def __init__(self, pipeline: Pipeline, letters: Sequence[DeadLetter], around: Interval) -> None:
        self._session = pipeline.session
        self._letters = letters
        self._around = around
        self.ids = list(dict.fromkeys(letter.observation_id for letter in letters if letter.observation_id is not None))
        self.failed = 0
        self.all_sent = True
        self._arrived: list[DeadLetter] = []
        self._pending: set[str] = set()

    @property
    def sends(self) -> Interval:
        """Everything."""
        return _EVERYTHING

    def walk(self) -> AsyncIterator[Page]:
        """Read by id, or the whole interval."""
        reader = self._session.reader
        return reader.observations(self.ids, self._around) if self.ids else reader.interval(self._around)

    def take(self, page: Page) -> Sequence[Observation]:
        """Take the observations of the dead letters."""
        self.failed += len(page.unreadable)
        return [
            observation for observation in page.observations if not self.ids or _letters_of(observation, self._letters)
        ]

    def select(self, group: Group) -> dict[str, list[Observation]]:
        """Leave out what was sent in this state, what has no dead letter and was sent, and what its trace will send."""
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
        """Send all but observations that are still pending alone."""
        del taken
        now, limits = self._session.clock.certain_ms(), self._session.readiness_limits
        return Choice(list(traces), pending=take_each_pending(traces, now, limits), stay_pending=self._pending)

    def commit(self, group: Group, taken: Mapping[str, Sequence[Observation]], choice: Choice, left: set[str]) -> None:
        """Remove the dead letters of what was sent."""
        del group, taken
        for trace in choice.ready:
            for observation in trace.left_out:
                self._arrived += _letters_of(observation, self._letters)
        self._session.ledger.delete_dead_letters(self._arrived)
        self._arrived = []
        self.all_sent &= not choice.pending and not left


async def retry(opened: OpenSource, letters: Sequence[DeadLetter]) -> None:
    """Fetch the dead letters of a source again by id, and send them regardless of what was sent before.

    Raises as reader and delivery do.
    """
    of_source = [letter for letter in letters if letter.source_id == opened.state.id]
    own = [letter for letter in of_source if letter.observation_id is not None]
    if own:
        await opened.pipeline.run(ManualRetry(opened.pipeline, own))
        opened.session.delivery.check()
    of_scores = [letter for letter in of_source if letter.score_id is not None]
    if of_scores:
        await opened.score_jobs().retry(of_scores)


class ManualRetry(Work):
    """Reads the observations of dead letters by id, and sends them regardless of what was sent before."""

    again = True
    follows = True

    def __init__(self, pipeline: Pipeline, letters: Sequence[DeadLetter]) -> None:
        self._session = pipeline.session
        self._letters = letters

    @property
    def sends(self) -> Interval:
        """Everything."""
        return _EVERYTHING

    def walk(self) -> AsyncIterator[Page]:
        """Read by id."""
        starts = [letter.start_ms for letter in self._letters if letter.start_ms is not None]
        known = len(starts) == len(self._letters)
        last = max(starts) if known else self._session.clock.now_ms()
        around = Interval(min(starts) if known else 0, last + 1)
        ids = dict.fromkeys(letter.observation_id for letter in self._letters if letter.observation_id is not None)
        return self._session.reader.observations(list(ids), around)

    def take(self, page: Page) -> Sequence[Observation]:
        """Take the observations of the dead letters."""
        return [observation for observation in page.observations if _letters_of(observation, self._letters)]

    def choose(self, traces: Sequence[Trace], taken: Mapping[str, Sequence[Observation]]) -> Choice:
        """Send all."""
        del taken
        return Choice(list(traces))

    def commit(self, group: Group, taken: Mapping[str, Sequence[Observation]], choice: Choice, left: set[str]) -> None:
        """Commit nothing: what was accepted was committed with Kelet's response, and its dead letter removed."""


def _postpone(letter: DeadLetter, now: int) -> DeadLetter:
    tries = letter.tries + 1
    more = tries - len(_NEXT_TRY_MS)
    wait = _NEXT_TRY_MS[tries - 1] if more <= 0 else min(_LONGEST_MS, _NEXT_TRY_MS[-1] << min(more, 10))
    return replace(letter, tries=tries, next_try_ms=now + wait)


def _interval_of(letter: DeadLetter) -> Interval:
    """Return the interval in which its observation starts."""
    start = letter.start_ms or 0
    return Interval(start, start + 1 if letter.until_ms is None else letter.until_ms)


def _letters_of(observation: Observation, letters: Iterable[DeadLetter]) -> list[DeadLetter]:
    return [
        letter
        for letter in letters
        if letter.observation_id == observation.id and letter.trace_id in {None, trace_of(observation)}
    ]
