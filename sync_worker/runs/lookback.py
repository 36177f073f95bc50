"""Lookback scans: a cheap second look at time that is covered already.

Langfuse lists observations by their start and has no order of arrival, so an observation can turn up in time that was
read long ago: a span shows up when it ends, an observation of an old SDK 10 to 15 minutes later, a restored queue hours
later. Two kinds of look:

- each cycle, observations that ended lately but started longer ago than the first horizon: the roots of long agents;
- for each horizon H, every H/12, all observations that started since the last completed scan minus H.

Listings take light fields, a thousand observations a request (v1 has none: there, counts are compared first). What is
new or changed is fetched by id and goes the way of every observation. A scan has half of its period to come to its end:
it takes a few requests in a cycle, more where time runs short, and goes on in the next one, also in the next process.
Shorter horizons go first, so that none waits behind a longer one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace

from sync_worker.corrected import STEP_MS
from sync_worker.intervals import Interval, merged
from sync_worker.langfuse.reader import Page, Unreadable
from sync_worker.ledger import SentObservation, TraceNote
from sync_worker.ledger.lease import LIVE
from sync_worker.ledger.state_keys import FORGOTTEN_BEFORE, LAST_ENDED_SCAN, State, last_scan, running_scan
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.plan import PERIODS
from sync_worker.records import Observation
from sync_worker.runs.arrival_delay import ArrivalDelay
from sync_worker.runs.bucket_counts import BUCKET_MS, BucketCounts
from sync_worker.runs.interval import LateJob
from sync_worker.spans.context import trace_of

#: Lookback scans may take one in so many of the requests a minute.
BUDGET_SHARE = 4
_LONGEST_CYCLE = 300_000  # milliseconds: what an outage made wait is not asked for all at once
#: Requests that scans take in a cycle while they have time.
_GENTLE = 2
#: Milliseconds of observations that one request is expected to list while nothing is known.
_FIRST_REACH = 3_600_000
#: Requests after which it is noted how far a scan is.
_MOST_AT_ONCE = 10
#: When more than this share of a interval is missing, it is read whole instead of by ids.
_READ_WHOLE_SHARE = 3


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan that began at `began_ms`: `[end, top)` is done in so many requests, `[start, end)` is left."""

    start: int
    end: int
    began_ms: int
    top: int
    requests: int = 0

    @property
    def reach(self) -> int:
        """How many milliseconds of observations a request has listed so far; a guess before the first."""
        return max(1, (self.top - self.end) // self.requests) if self.requests else _FIRST_REACH

    @property
    def left(self) -> int:
        """How many requests are left, as far as can be told."""
        return -(-(self.end - self.start) // self.reach) if self.requests else _GENTLE


def looks_back_to(state: State, horizons: Sequence[int], *, fresh: bool) -> int | None:
    """Return the earliest start of observations that a scan may still list; None before the first scan.

    After an outage, and while a scan is under way, that is longer ago than the horizons: what is forgotten before
    the scan has passed would look new to it. `fresh` reads what another process may have written.
    """
    looks = [(state.get(last_scan(horizon), fresh=fresh), horizon) for horizon in horizons]
    looks.append((state.get(LAST_ENDED_SCAN, fresh=fresh), min(horizons)))
    return min((last - length for last, length in looks if last), default=None)


class LookbackScans:
    """Lists the synced time of one source again."""

    def __init__(
        self,
        pipeline: Pipeline,
        horizons: Sequence[int],
        sync_start_ms: int,
        requests_per_minute: int | None,
        interval_ms: int,
        delay: ArrivalDelay,
    ) -> None:
        self._pipeline = pipeline
        self._session = session = pipeline.session
        self._horizons = tuple(sorted(horizons))
        self._sync_start = sync_start_ms
        self._per_minute = requests_per_minute or session.limits.assumed_per_minute
        self._allowed = session.limits.lookback_requests
        self._interval = max(1, interval_ms)
        self._state = session.state
        self._delay = delay
        self._covered: list[Interval] = []
        self._bound = sync_start_ms
        self._counts = BucketCounts(session.state, session.reader, self._horizons, session.clock, session.report)

    async def look(self, now: int, covered: Sequence[Interval]) -> None:
        """Do what is due of both kinds in the time that is covered. Raises as reader and delivery do.

        What a running backfill has yet to cover is passed over, and does not hide what is covered behind it.
        """
        self._covered = merged(covered)
        # No scan goes beyond: what was forgotten would seem new.
        self._bound = max(self._sync_start, self._state.get(FORGOTTEN_BEFORE, fresh=True) or 0)
        edge = max([self._sync_start, *(interval.end for interval in self._covered)])
        every = max(self._interval, now - (self._state.get(LAST_ENDED_SCAN) or now))
        minutes = min(max(every, 60_000), _LONGEST_CYCLE) // 60_000
        self._allowed = max(self._session.limits.lookback_requests, self._per_minute * minutes // BUDGET_SHARE)
        await self._ended_lately(now, edge)
        asked_before = self._asked()
        listed_from = await self._look_at_once(now, edge, every, asked_before)
        for horizon in self._horizons:
            scan = self._stored(horizon) or self._due(horizon, now, listed_from)
            if scan is None:
                continue
            scan = await self._go_on(scan, horizon, now, every, asked_before)
            if scan.start >= scan.end:
                self._complete(horizon, scan.began_ms)
                listed_from = scan.start if scan.began_ms == now else listed_from
            else:
                self._store(horizon, scan)

    async def _look_at_once(self, now: int, edge: int, every: int, asked_before: int) -> int:
        """Begin all scans that are due as one, and return down to where time is listed."""
        due = {
            horizon: scan.start
            for horizon in self._horizons
            if self._stored(horizon) is None and (scan := self._due(horizon, now, edge)) is not None
        }
        if len(due) < 2:
            return edge
        deepest, start = max(due), min(due.values())
        scan = await self._go_on(Scan(start, max(start, edge), now, edge), deepest, now, every, asked_before)
        for horizon, begun in due.items():
            if scan.end <= begun:
                self._complete(horizon, now)
        if scan.start < scan.end:
            self._store(deepest, scan)
        return scan.end

    def begin(self, now: int) -> None:
        """Count horizons from before the first interval is read: what shows up behind it is late, however the run ends.

        A look that lies ahead was made by a clock that has been set back since: all horizons are due at once, since
        what that clock covered may not have happened yet.
        """
        looks = [(last_scan(horizon), horizon // PERIODS) for horizon in self._horizons] + [(LAST_ENDED_SCAN, 0)]
        for key, period in looks:
            last = self._state.get(key)
            if last is None:
                self._state.put(key, now)
            elif last > now + STEP_MS:
                self._state.put(key, now - period)
                for horizon in self._horizons:
                    self._state.drop(running_scan(horizon))
        self._state.save()

    async def _ended_lately(self, now: int, edge: int) -> None:
        """List observations that ended since the last such look, less the first horizon, but started longer ago."""
        first, deepest = self._horizons[0], self._horizons[-1]
        since = (self._state.get(LAST_ENDED_SCAN) or now) - first
        interval = Interval(max(self._bound, since - deepest), min(edge, now - first))
        if interval.length > 0:
            await self._compare(interval, ended_since_ms=since)
        self._state.put(LAST_ENDED_SCAN, now)

    def _due(self, horizon: int, now: int, listed_from: int) -> Scan | None:
        """Return a new scan, without what a shorter one has just listed; None where none is due."""
        last = self._state.get(last_scan(horizon))
        if last is None or now - last < horizon // PERIODS:
            return None
        start = max(self._bound, last - horizon)
        return Scan(start, max(start, listed_from), now, max(start, listed_from))

    async def _go_on(self, scan: Scan, horizon: int, now: int, every: int, asked_before: int) -> Scan:
        """List what of a scan is due in this cycle, and return what is left of it."""
        cycles_left = max(0, scan.began_ms + horizon // PERIODS // 2 - now) // every
        share = max(_GENTLE - (self._asked() - asked_before), scan.left // max(1, cycles_left))
        until = self._asked() + share if cycles_left else None
        while scan.start < scan.end:
            before = self._asked()
            may = self._allowed - (before - asked_before)
            may = may if until is None else min(may, until - before)
            if may <= 0:
                break
            self._session.clock.check()
            done_to = await self._compare_changed(scan, min(may, _MOST_AT_ONCE))
            scan = replace(scan, end=done_to, requests=scan.requests + max(1, self._asked() - before))
            if scan.start < scan.end:
                self._store(horizon, scan)
        return scan

    def _asked(self) -> int:
        return self._session.report.lookback_requests

    def _complete(self, horizon: int, began_ms: int) -> None:
        self._state.drop(running_scan(horizon))
        self._state.put(last_scan(horizon), began_ms)

    async def _compare_changed(self, scan: Scan, most: int) -> int:
        """Compare the newest part of a scan, in about `most` requests; return down to where it is done."""
        if self._session.reader.metadata_only_is_cheap:
            return await self._compare(Interval(scan.start, scan.end), most=most)
        begin = scan.end - scan.reach * most
        # Where a bucket begins: what is listed of a part of one is not remembered, and would be listed by each scan.
        part = Interval(max(scan.start, begin - begin % BUCKET_MS), scan.end)

        async def compare(interval: Interval) -> list[int]:
            seen = dict[tuple[str, str], int]()
            await self._compare(interval, seen=seen)
            return list(seen.values())

        await self._counts.list_changed(part, compare)
        self._counts.store()
        return part.start

    async def _compare(
        self,
        interval: Interval,
        ended_since_ms: int | None = None,
        most: int | None = None,
        seen: dict[tuple[str, str], int] | None = None,
    ) -> int:
        """List a interval in light fields, and send what it shows to be new or changed.

        Observations come newest first. Returns down to where the interval is done: its start, or less far after `most`
        pages. `seen` gets the start of each observation that is listed, by trace and id.
        """
        session = self._session
        listed, pages, oldest = 0, 0, interval.end
        missing: list[Observation] = []
        unreadable: list[Unreadable] = []
        async with aclosing(
            session.reader.interval(interval, metadata_only=True, ended_since_ms=ended_since_ms)
        ) as walk:
            async for page in walk:
                session.report.lookback_requests += 1
                session.report.observations_read += len(page.observations)
                observations = [
                    observation for observation in page.observations if interval.holds(observation.start_ms)
                ]
                self._pipeline.dead_letters.add_unreadable(page.unreadable)
                unreadable += page.unreadable
                missing += self._unknown([observation for observation in observations if self._is_covered(observation)])
                if seen is not None:
                    seen |= {
                        (trace_of(observation), observation.id): observation.start_ms for observation in observations
                    }
                listed, pages = listed + len(page.observations), pages + 1
                oldest = min([oldest, *(observation.start_ms for observation in observations)])
                if most is not None and pages >= most and oldest + 1 < interval.end:
                    break
            else:
                oldest = interval.start - 1
        self._pipeline.dead_letters.add_nameless(unreadable)
        if missing:
            whole = ended_since_ms is None and len(missing) * _READ_WHOLE_SHARE > listed
            await self._pipeline.run(_Arrivals(self._pipeline, missing, whole=whole))
        return oldest + 1

    def _is_covered(self, observation: Observation) -> bool:
        return any(interval.holds(observation.start_ms) for interval in self._covered)

    def _unknown(self, observations: Sequence[Observation]) -> list[Observation]:
        """Return observations that are new, or changed since they were sent.

        Observations of pending traces update their trace.
        """
        session = self._session
        traces = {trace_of(observation) for observation in observations}
        notes = session.ledger.traces(session.source_id, traces)
        done = session.ledger.completed_observations(session.source_id, traces)
        now = session.clock.now_ms()
        unknown: list[Observation] = []
        waiting: dict[str, TraceNote] = {}
        for observation in observations:
            trace = trace_of(observation)
            if not self._differs(observation, done.get((trace, observation.id))):
                continue
            note = waiting.get(trace) or notes.get(trace)
            if note is not None and note.pending:
                if observation.last_ms > note.newest_ms or observation.start_ms < note.earliest_ms:
                    waiting[trace] = replace(
                        note,
                        newest_ms=max(note.newest_ms, observation.last_ms),
                        earliest_ms=min(note.earliest_ms, observation.start_ms),
                        check_ms=0,
                    )
                continue
            unknown.append(observation)
            if (trace, observation.id) not in done and observation.end_ms is not None:
                self._delay.add(max(0, now - observation.end_ms) / 1000)
        session.ledger.store_traces(session.source_id, waiting.values())
        return unknown

    def _differs(self, observation: Observation, sent: SentObservation | None) -> bool:
        if sent is None:
            return True
        if sent.dead_lettered or not self._session.policy.resend_changed:
            return False
        return observation.updated_ms is not None and observation.updated_ms > sent.updated_ms

    def _stored(self, horizon: int) -> Scan | None:
        try:
            stored = self._state.get(running_scan(horizon))
            return Scan(**stored) if stored else None
        except (TypeError, ValueError):  # another version of the program wrote it: the scan is made again
            return None

    def _store(self, horizon: int, scan: Scan) -> None:
        self._state.put(running_scan(horizon), asdict(scan))
        self._state.save()


class _Arrivals(LateJob):
    """Late-arriving observations: fetched by id, or with all around them where that takes fewer requests."""

    def __init__(self, pipeline: Pipeline, missing: Sequence[Observation], *, whole: bool) -> None:
        starts = [observation.start_ms for observation in missing]
        around = Interval(min(starts), max(starts) + 1)
        self._wanted = {(trace_of(observation), observation.id) for observation in missing}
        self._ids = dict.fromkeys(observation.id for observation in missing)
        reader = pipeline.session.reader
        super().__init__(
            pipeline, LIVE, around, reader.interval(around) if whole else reader.observations([*self._ids], around)
        )

    def take(self, page: Page) -> Sequence[Observation]:
        """Take what is missing."""
        self.proven(1)
        self._pipeline.dead_letters.add_unreadable(item for item in page.unreadable if item.observation_id in self._ids)
        return [
            observation for observation in page.observations if (trace_of(observation), observation.id) in self._wanted
        ]

    def proven(self, pages: int) -> None:
        """Count requests against what lookback scans may take."""
        self._session.report.lookback_requests += pages
