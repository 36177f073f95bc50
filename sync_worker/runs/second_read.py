"""Second reads: of observations sent so soon after an update that they may be a mix of two versions.

Langfuse joins the input and output of an observation to its other fields, and until its store has merged the versions
of an observation those of one may come with the fields of the other. Nothing in a listing shows it, not even the time
of the update: only the content, read again later. So each observation that is done within ten minutes of its update is
stored in the ledger, read again after these ten minutes, and sent again if its content differs. Observations that start
close to each other are read as an interval, a thousand a request; others by their ids, some two hundred a request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sync_worker.intervals import Interval
from sync_worker.langfuse.filters import IDS_A_REQUEST
from sync_worker.langfuse.page_size import MAX_LIMIT
from sync_worker.langfuse.reader import Page
from sync_worker.ledger import SecondRead
from sync_worker.ledger.state_keys import LAST_SECOND_READ
from sync_worker.pipeline.dedupe import SECOND_READ_MS
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.plan import TARGET_OBSERVATIONS
from sync_worker.pipeline.work import Choice, Group
from sync_worker.records import Observation
from sync_worker.runs.interval import LateWork
from sync_worker.spans.context import trace_of

#: Second reads are collected for so long, in milliseconds, unless they fill a request.
GATHER_MS = 120_000
#: How long other processes leave alone what is being read, in milliseconds.
_TAKEN_MS = 30_000
#: Second reads may use one in so many of the requests a minute.
_REQUEST_SHARE = 8
_MIN_REQUESTS = 4
#: Observations that start within so many milliseconds of the next one may be read with it.
_CLOSE_MS = 60_000
#: An observation that is still unmerged is read again after double the time; the last time, it is taken as listed.
_MAX_TRIES = 8

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """How to do second reads: these intervals completely, the others by ids."""

    intervals: list[Interval]
    by_id: list[SecondRead]


class SecondReading:
    """Does the second reads of one source. `length_ms` is the recent length of an interval of `TARGET_OBSERVATIONS`."""

    def __init__(self, pipeline: Pipeline, role: str, requests_per_minute: int | None, length_ms: int | None) -> None:
        self._pipeline = pipeline
        self._session = session = pipeline.session
        self._role = role
        per_minute = requests_per_minute or session.limits.assumed_per_minute
        self._most = max(_MIN_REQUESTS, per_minute // _REQUEST_SHARE) * IDS_A_REQUEST
        self._length = length_ms
        self._state = session.state

    async def run(self) -> None:
        """Read what is due, within the limit of a cycle; without any, no request is made. Raises as the reader does.

        Each is postponed a little before it is read, so that no other process reads it; after an error, or a kill, it
        is due again.
        """
        session = self._session
        now = session.ledger.clock.now_ms()
        due = session.ledger.second_reads_due(session.source_id, now, self._most, session.claimed)
        last = self._state.get(LAST_SECOND_READ) or 0
        if not due or (len(due) < MAX_LIMIT and 0 <= now - last < GATHER_MS):
            return
        done = session.ledger.sent_observations(session.source_id, {read.trace_id for read in due})
        session.ledger.delete_second_reads(
            session.source_id, [read for read in due if (read.trace_id, read.observation_id) not in done]
        )
        reads = [
            replace(read, tries=read.tries + 1, due_ms=now + _TAKEN_MS)
            for read in due
            if (read.trace_id, read.observation_id) in done
        ]
        session.ledger.schedule_second_reads(session.source_id, reads)
        plan = plan_reads(reads, self._length)
        for interval in plan.intervals:
            inside = {(read.trace_id, read.observation_id): read for read in reads if interval.contains(read.start_ms)}
            await self._pipeline.run(
                _Reread(self._pipeline, self._role, interval, session.reader.interval(interval), inside)
            )
        if plan.by_id:
            starts = [read.start_ms for read in plan.by_id]
            around = Interval(min(starts), max(starts) + 1)
            wanted = {(read.trace_id, read.observation_id): read for read in plan.by_id}
            walk = session.reader.observations([read.observation_id for read in plan.by_id], around)
            await self._pipeline.run(_Reread(self._pipeline, self._role, around, walk, wanted))
        self._state.put(LAST_SECOND_READ, now)


class _Reread(LateWork):
    """Reads observations again and sends what differs; one that is not listed is gone at the source."""

    def __init__(
        self,
        pipeline: Pipeline,
        role: str,
        around: Interval,
        walk: AsyncIterator[Page],
        wanted: Mapping[_Key, SecondRead],
    ) -> None:
        super().__init__(pipeline, role, around, walk)
        self._wanted = wanted
        self._left = dict(wanted)
        self._finished: list[SecondRead] = []

    def take(self, page: Page) -> Sequence[Observation]:
        """Take what is wanted."""
        for item in page.unreadable:  # it was sent, and is not served now; the note of its trace is kept
            waiting = [
                key for key, read in self._left.items() if key[1] == item.observation_id and read.tries <= _MAX_TRIES
            ]
            self._postpone([self._left.pop(key) for key in waiting])
        return [
            observation for observation in page.observations if (trace_of(observation), observation.id) in self._wanted
        ]

    def select(self, group: Group) -> dict[str, list[Observation]]:
        """Leave out what is still unmerged: it is read later."""
        taken: dict[str, list[Observation]] = {}
        later = list[SecondRead]()
        for trace_id, observations in group.traces.items():
            for observation in observations:
                read = self._left.pop((trace_id, observation.id), None)
                if read is not None and observation.unsettled and read.tries <= _MAX_TRIES:
                    later.append(read)
                elif read is not None:
                    observation.unsettled = False
                    taken.setdefault(trace_id, []).append(observation)
                    self._finished.append(read)
        self._postpone(later)
        return taken

    def commit(self, group: Group, taken: Mapping[str, Sequence[Observation]], choice: Choice, left: set[str]) -> None:
        """Commit the notes, and that they were read."""
        super().commit(group, taken, choice, left)
        gone = self._left.values() if group.is_last else ()
        self._session.ledger.delete_second_reads(self._session.source_id, [*self._finished, *gone])
        self._finished = []

    def _postpone(self, reads: Sequence[SecondRead]) -> None:
        """Store that these are to be read again after double the time."""
        now = self._session.ledger.clock.now_ms()
        doublings = [min(read.tries - 1, _MAX_TRIES) for read in reads]
        later = [
            replace(read, due_ms=now + (SECOND_READ_MS << doubling))
            for read, doubling in zip(reads, doublings, strict=True)
        ]
        self._session.ledger.schedule_second_reads(self._session.source_id, later)


def plan_reads(reads: Sequence[SecondRead], length_ms: int | None) -> ReadPlan:
    """Plan second reads in the fewest requests; an interval of `length_ms` has about `TARGET_OBSERVATIONS`."""
    plan = ReadPlan([], [])
    run: list[SecondRead] = []
    for read in sorted(reads, key=lambda read: read.start_ms):
        if run and read.start_ms - run[-1].start_ms > _CLOSE_MS:
            _assign(run, length_ms, plan)
            run = []
        run.append(read)
    if run:
        _assign(run, length_ms, plan)
    return plan


def _assign(run: list[SecondRead], length_ms: int | None, plan: ReadPlan) -> None:
    interval = Interval(run[0].start_ms, run[-1].start_ms + 1)
    observations = max(len(run), interval.length * TARGET_OBSERVATIONS // length_ms) if length_ms else None
    if observations is not None and observations / MAX_LIMIT + 1 < len(run) / IDS_A_REQUEST:
        plan.intervals.append(interval)
    else:
        plan.by_id.extend(run)
