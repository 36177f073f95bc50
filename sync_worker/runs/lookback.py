"""Lookback scans: metadata-only listings of completed intervals, for late-arriving observations.

Langfuse lists observations by their start and has no order of arrival, so an observation can arrive in an interval that
was read long ago: a span appears when it ends, one of an old SDK 10 to 15 minutes later, a restored queue hours later.
Two kinds of scans:

- each cycle, observations that ended recently but started before the first lookback window: the roots of long agents;
- for each lookback window H, every H/12, all observations that started since the last completed scan minus H.

Listings are metadata-only, a thousand observations a request (v1 has none: there, counts are compared first). What is
new or changed is fetched by id and processed like every observation. A scan has half of its period to finish: it makes
a few requests in a cycle, more if time runs short, and resumes in the next one, also in the next process. Shorter
windows are scanned first, so that none is delayed by a longer one.
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
from sync_worker.pipeline.plan import SCANS_PER_WINDOW
from sync_worker.records import Observation
from sync_worker.runs.arrival_delay import ArrivalDelay
from sync_worker.runs.bucket_counts import BUCKET_MS, BucketCounts
from sync_worker.runs.interval import LateWork
from sync_worker.selection import NotRead
from sync_worker.spans.context import trace_of

#: Lookback scans may use one in so many of the requests a minute.
REQUEST_SHARE = 4
_MAX_CYCLE = 300_000  # milliseconds: after an outage the backlog is not requested all at once
#: Requests of a scan in a cycle while it has time.
_MIN_REQUESTS = 2
#: Milliseconds of observations that one request is assumed to list at first.
_INITIAL_REACH = 3_600_000
#: Requests after which the progress of a scan is stored.
_MAX_REQUESTS_A_STEP = 10
#: If more than one in so many observations of an interval is missing, it is read completely instead of by ids.
_READ_INTERVAL_SHARE = 3


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan that began at `began_ms`: `[end, top)` took so many requests, `[start, end)` is left."""

    start: int
    end: int
    began_ms: int
    top: int
    requests: int = 0

    @property
    def reach(self) -> int:
        """Milliseconds of observations that a request has listed so far; a guess before the first."""
        return max(1, (self.top - self.end) // self.requests) if self.requests else _INITIAL_REACH

    @property
    def left(self) -> int:
        """Estimated requests left."""
        return -(-(self.end - self.start) // self.reach) if self.requests else _MIN_REQUESTS


def earliest_scanned(state: State, windows: Sequence[int], *, fresh: bool) -> int | None:
    """Return the earliest start of observations that a scan may still list; None before the first scan.

    After an outage, and during a scan, that is before the lookback windows: what is forgotten before the scan has
    passed would seem new to it. `fresh` reads what another process may have written.
    """
    scans = [(state.get(last_scan(window), fresh=fresh), window) for window in windows]
    scans.append((state.get(LAST_ENDED_SCAN, fresh=fresh), min(windows)))
    return min((last - length for last, length in scans if last), default=None)


class LookbackScans:
    """Runs the lookback scans of one source."""

    def __init__(
        self,
        pipeline: Pipeline,
        windows: Sequence[int],
        sync_start_ms: int,
        requests_per_minute: int | None,
        interval_ms: int,
        delay: ArrivalDelay,
    ) -> None:
        self._pipeline = pipeline
        self._session = session = pipeline.session
        self._windows = tuple(sorted(windows))
        self._sync_start = sync_start_ms
        self._per_minute = requests_per_minute or session.limits.assumed_per_minute
        self._allowed = session.limits.lookback_requests
        self._interval = max(1, interval_ms)
        self._state = session.state
        self._delay = delay
        self._completed: list[Interval] = []
        self._not_read = NotRead(())
        self._bound = sync_start_ms
        self._counts = BucketCounts(session.state, session.reader, self._windows, session.clock, session.report)

    async def run(self, now: int, completed: Sequence[Interval], not_read: NotRead) -> None:
        """Run the scans of both kinds that are due in completed intervals. Raises as reader and delivery do.

        What an interval's rules left unread (`not_read`) is only read where it belongs to a trace that is synced.
        Intervals that a running backfill has yet to complete are skipped, and do not hide older ones.
        """
        self._completed, self._not_read = merged(completed), not_read
        # No scan goes further back: what was forgotten would seem new.
        self._bound = max(self._sync_start, self._state.get(FORGOTTEN_BEFORE, fresh=True) or 0)
        watermark = max([self._sync_start, *(interval.end for interval in self._completed)])
        every = max(self._interval, now - (self._state.get(LAST_ENDED_SCAN) or now))
        minutes = min(max(every, 60_000), _MAX_CYCLE) // 60_000
        self._allowed = max(self._session.limits.lookback_requests, self._per_minute * minutes // REQUEST_SHARE)
        await self._scan_recently_ended(now, watermark)
        requests_before = self._requests()
        listed_from = await self._scan_together(now, watermark, every, requests_before)
        for window in self._windows:
            scan = self._stored(window) or self._due(window, now, listed_from)
            if scan is None:
                continue
            scan = await self._continue(scan, window, now, every, requests_before)
            if scan.start >= scan.end:
                self._complete(window, scan.began_ms)
                listed_from = scan.start if scan.began_ms == now else listed_from
            else:
                self._store(window, scan)

    async def _scan_together(self, now: int, watermark: int, every: int, requests_before: int) -> int:
        """Run all due scans as one, and return the start from which on all is listed."""
        due = {
            window: scan.start
            for window in self._windows
            if self._stored(window) is None and (scan := self._due(window, now, watermark)) is not None
        }
        if len(due) < 2:
            return watermark
        deepest, start = max(due), min(due.values())
        scan = await self._continue(
            Scan(start, max(start, watermark), now, watermark), deepest, now, every, requests_before
        )
        for window, start_ms in due.items():
            if scan.end <= start_ms:
                self._complete(window, now)
        if scan.start < scan.end:
            self._store(deepest, scan)
        return scan.end

    def begin(self, now: int) -> None:
        """Start the lookback windows before the first interval is read, however the run ends.

        A scan in the future was made by a clock that was set back since: all windows are due at once, since what was
        completed by that clock may not have happened yet.
        """
        scans = [(last_scan(window), window // SCANS_PER_WINDOW) for window in self._windows] + [(LAST_ENDED_SCAN, 0)]
        for key, period in scans:
            last = self._state.get(key)
            if last is None:
                self._state.put(key, now)
            elif last > now + STEP_MS:
                self._state.put(key, now - period)
                for window in self._windows:
                    self._state.drop(running_scan(window))
        self._state.save()

    async def _scan_recently_ended(self, now: int, watermark: int) -> None:
        """List observations that ended since the last such scan, minus the first window, but started before."""
        first, deepest = self._windows[0], self._windows[-1]
        since = (self._state.get(LAST_ENDED_SCAN) or now) - first
        interval = Interval(max(self._bound, since - deepest), min(watermark, now - first))
        if interval.length > 0:
            await self._list_and_send(interval, ended_since_ms=since)
        self._state.put(LAST_ENDED_SCAN, now)

    def _due(self, window: int, now: int, listed_from: int) -> Scan | None:
        """Return a new scan, without what a shorter one has just listed; None if none is due."""
        last = self._state.get(last_scan(window))
        if last is None or now - last < window // SCANS_PER_WINDOW:
            return None
        start = max(self._bound, last - window)
        return Scan(start, max(start, listed_from), now, max(start, listed_from))

    async def _continue(self, scan: Scan, window: int, now: int, every: int, requests_before: int) -> Scan:
        """Run the part of a scan that is due in this cycle, and return the rest."""
        cycles_left = max(0, scan.began_ms + window // SCANS_PER_WINDOW // 2 - now) // every
        share = max(_MIN_REQUESTS - (self._requests() - requests_before), scan.left // max(1, cycles_left))
        until = self._requests() + share if cycles_left else None
        while scan.start < scan.end:
            before = self._requests()
            allowed = self._allowed - (before - requests_before)
            allowed = allowed if until is None else min(allowed, until - before)
            if allowed <= 0:
                break
            self._session.clock.check()
            listed_to = await self._scan_part(scan, min(allowed, _MAX_REQUESTS_A_STEP))
            scan = replace(scan, end=listed_to, requests=scan.requests + max(1, self._requests() - before))
            if scan.start < scan.end:
                self._store(window, scan)
        return scan

    def _requests(self) -> int:
        return self._session.report.lookback_requests

    def _complete(self, window: int, began_ms: int) -> None:
        self._state.drop(running_scan(window))
        self._state.put(last_scan(window), began_ms)

    async def _scan_part(self, scan: Scan, most: int) -> int:
        """List the newest part of a scan, in about `most` requests; return the start from which on it is done."""
        if self._session.reader.metadata_only_is_cheap:
            return await self._list_and_send(Interval(scan.start, scan.end), most=most)
        begin = scan.end - scan.reach * most
        # At a bucket boundary: the listing of a part of one is not stored, and would be repeated by each scan.
        part = Interval(max(scan.start, begin - begin % BUCKET_MS), scan.end)

        async def compare(interval: Interval) -> list[int]:
            seen = dict[tuple[str, str], int]()
            await self._list_and_send(interval, seen=seen)
            return list(seen.values())

        await self._counts.list_changed(part, compare)
        self._counts.store()
        return part.start

    async def _list_and_send(
        self,
        interval: Interval,
        ended_since_ms: int | None = None,
        most: int | None = None,
        seen: dict[tuple[str, str], int] | None = None,
    ) -> int:
        """List an interval metadata-only, and send what is new or changed.

        Observations come newest first. Returns the start from which on the interval is done: its own, or a later one
        after `most` pages. `seen` gets the start of each listed observation, by trace and id.
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
                    observation for observation in page.observations if interval.contains(observation.start_ms)
                ]
                self._pipeline.dead_letters.add_unreadable(page.unreadable)
                unreadable += page.unreadable
                missing += self._triage(
                    [observation for observation in observations if self._is_completed(observation)]
                )
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
        self._pipeline.dead_letters.add_without_id(unreadable)
        if missing:
            as_interval = ended_since_ms is None and len(missing) * _READ_INTERVAL_SHARE > listed
            await self._pipeline.run(_Arrivals(self._pipeline, missing, as_interval=as_interval))
        return oldest + 1

    def _is_completed(self, observation: Observation) -> bool:
        return any(interval.contains(observation.start_ms) for interval in self._completed)

    def _triage(self, observations: Sequence[Observation]) -> list[Observation]:
        """Return observations that are new, or changed since they were sent, and update the notes of pending traces."""
        session = self._session
        keys = [(trace_of(observation), observation.id) for observation in observations]
        done = session.ledger.completed_among(session.source_id, keys)
        differing = [
            observation
            for observation, key in zip(observations, keys, strict=True)
            if self._differs(observation, done.get(key))
        ]
        if not differing:
            return []
        notes = session.ledger.traces(session.source_id, {trace_of(observation) for observation in differing})
        now = session.clock.now_ms()
        unknown: list[Observation] = []
        updated: dict[str, TraceNote] = {}
        for observation in differing:
            trace = trace_of(observation)
            note = updated.get(trace) or notes.get(trace)
            if (note is None or note.left_out_by is not None) and self._not_read.was_left(observation):
                continue
            if note is not None and note.pending:
                if observation.last_ms > note.newest_ms or observation.start_ms < note.earliest_ms:
                    updated[trace] = replace(
                        note,
                        newest_ms=max(note.newest_ms, observation.last_ms),
                        earliest_ms=min(note.earliest_ms, observation.start_ms),
                        check_ms=0,
                    )
                continue
            unknown.append(observation)
            if (trace, observation.id) not in done and observation.end_ms is not None:
                self._delay.add(max(0, now - observation.end_ms) / 1000)
        session.ledger.store_traces(session.source_id, updated.values())
        return unknown

    def _differs(self, observation: Observation, sent: SentObservation | None) -> bool:
        if sent is None:
            return True
        if sent.dead_lettered or not self._session.policy.resend_changed:
            return False
        return observation.updated_ms is not None and observation.updated_ms > sent.updated_ms

    def _stored(self, window: int) -> Scan | None:
        try:
            stored = self._state.get(running_scan(window))
            return Scan(**stored) if stored else None
        except (TypeError, ValueError):  # written by another version of the program: the scan is restarted
            return None

    def _store(self, window: int, scan: Scan) -> None:
        self._state.put(running_scan(window), asdict(scan))
        self._state.save()


class _Arrivals(LateWork):
    """Fetches late-arriving observations by id, or their whole interval if that takes fewer requests."""

    def __init__(self, pipeline: Pipeline, missing: Sequence[Observation], *, as_interval: bool) -> None:
        starts = [observation.start_ms for observation in missing]
        around = Interval(min(starts), max(starts) + 1)
        self._wanted = {(trace_of(observation), observation.id) for observation in missing}
        self._ids = dict.fromkeys(observation.id for observation in missing)
        reader = pipeline.session.reader
        super().__init__(
            pipeline,
            LIVE,
            around,
            reader.interval(around) if as_interval else reader.observations([*self._ids], around),
        )

    def take(self, page: Page) -> Sequence[Observation]:
        """Take what is missing."""
        self.count_merge_checks(1)
        self._pipeline.dead_letters.add_unreadable(item for item in page.unreadable if item.observation_id in self._ids)
        return [
            observation for observation in page.observations if (trace_of(observation), observation.id) in self._wanted
        ]

    def count_merge_checks(self, pages: int) -> None:
        """Count requests towards those of lookback scans."""
        self._session.report.lookback_requests += pages
