"""Lists completed intervals again and compares them with the ledger, to find what was never sent.

Within the lookback window the ledger knows every observation by id. Of older ones it has only hourly counts; there,
hours with more observations than their count are reported, and cannot be repaired without sending others of their
observations again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sync_worker.intervals import Interval, clip, contiguous_end, gaps, merged
from sync_worker.ledger import TraceNote
from sync_worker.ledger.hourly_counts import HOUR_MS
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.pipeline.plan import SCANS_PER_WINDOW
from sync_worker.records import Observation
from sync_worker.runs.coverage import not_read
from sync_worker.runs.opened import OpenSource
from sync_worker.selection import NotRead
from sync_worker.spans.context import is_hidden, trace_of
from sync_worker.times import iso_time

if TYPE_CHECKING:
    from sync_worker.runs.score_verify import ScoreVerdict

_EXAMPLES = 5  # observations listed for an hour


@dataclass(slots=True)
class Hour:
    """The findings of an hour, `[start, start + 1 h)` by start of observations."""

    start_ms: int
    listed: int = 0
    missing: int = 0
    forgotten: bool = False  # compared by count: the ids are no longer known
    again: int = 0  # observations that would be sent again with the missing ones, ids unknown
    #: What is missing, by (trace id, observation id).
    observations: dict[tuple[str, str], None] = field(default_factory=dict)


@dataclass(slots=True)
class Verdict:
    """The result of a verification. Times in Unix milliseconds."""

    source: str
    observations_listed: int = 0
    requests: int = 0
    missing: int = 0
    gaps: list[Interval] = field(default_factory=list)
    hours: list[Hour] = field(default_factory=list)  # those with differences
    complete_to_ms: int | None = None
    reopened: list[Interval] = field(default_factory=list)
    #: Completed parts of hours whose missing observations were sent.
    resent: list[Interval] = field(default_factory=list)
    spans_sent: int = 0  # of them
    hours_not_sent: int = 0  # hours that are not sent unless sending other observations again is allowed
    scores: ScoreVerdict | None = None  # where scores are sent

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return not self.gaps and not self.missing and not (self.scores is not None and self.scores.missing)

    def as_json(self) -> dict[str, Any]:
        """Return the findings as a JSON object."""
        return {
            "source": self.source,
            "complete": self.complete,
            "complete_to": None if self.complete_to_ms is None else iso_time(self.complete_to_ms),
            "observations_listed": self.observations_listed,
            "requests": self.requests,
            "missing": self.missing,
            "gaps": [_interval(gap) for gap in self.gaps],
            "hours": [
                {
                    "from": iso_time(hour.start_ms),
                    "listed": hour.listed,
                    "missing": hour.missing,
                    "forgotten": hour.forgotten,
                    "again": hour.again,
                    "examples": [
                        {"trace_id": trace, "observation_id": observation}
                        for trace, observation in list(hour.observations)[:_EXAMPLES]
                    ],
                }
                for hour in self.hours
            ],
            "reopened": [_interval(interval) for interval in self.reopened],
            "resent": [_interval(interval) for interval in self.resent],
            "spans_sent": self.spans_sent,
            "hours_not_sent": self.hours_not_sent,
            "score_findings": None if self.scores is None else self.scores.as_json(),
        }


async def verify(opened: OpenSource, interval: Interval | None, *, repair: bool = False) -> Verdict:
    """Compare completed intervals with Langfuse; `repair` reopens those with missing observations or scores.

    Raises as the reader does.
    """
    check = Verification(opened)
    found = await check.run(interval)
    scores = opened.scores
    if scores is not None:
        found.scores = await scores.verify(interval)
    if repair:
        found.reopened = check.reopen(found.hours)
        if scores is not None and found.scores is not None and found.scores.missing:
            scores.list_all_again()
    return found


class Verification:
    """Compares one source's completed intervals with Langfuse."""

    def __init__(self, opened: OpenSource) -> None:
        self._name = opened.name
        self._state = state = opened.state
        self._ledger = ledger = opened.ledger
        self._reader = reader = opened.session.reader
        self._now = opened.clock.now_ms()  # the same for the whole listing
        deepest = opened.session.policy.deepest_ms
        self._lookback = deepest + deepest // SCANS_PER_WINDOW
        self._not_read = not_read(ledger, state.id) if reader.leaves_out_environments else NotRead(())

    async def run(self, whole: Interval | None) -> Verdict:
        """List and compare the completed intervals in a range (default: the lookback window).

        Forgotten observations are counted by the hour, so the range is widened to full hours.
        """
        found = Verdict(self._name)
        live, backfilled = self._coverage(LIVE), self._coverage(BACKFILL)
        watermark = contiguous_end(self._state.sync_start_ms or 0, [*live, *backfilled])
        whole = _whole_hours(whole) if whole is not None else self._default_interval(live, backfilled)
        found.gaps = self._live_gaps(live, backfilled, whole)
        hours: dict[int, Hour] = {}
        seen: Counter[int] = Counter()
        named: Counter[int] = Counter()
        for interval in clip(merged([*live, *backfilled]), whole):
            await self._list(interval, hours, found, seen, named)
        self._compare_counts(seen, named, hours)
        found.hours = sorted((hour for hour in hours.values() if hour.missing), key=lambda hour: hour.start_ms)
        found.missing = sum(hour.missing for hour in found.hours)
        first_wrong = [interval.start for interval in found.gaps] + [hour.start_ms for hour in found.hours]
        found.complete_to_ms = min([watermark, *first_wrong]) if self._state.sync_start_ms is not None else None
        return found

    def _coverage(self, role: str) -> list[Interval]:
        return self._ledger.completed_intervals(self._state.id, role)

    def _default_interval(self, live: Sequence[Interval], backfilled: Sequence[Interval]) -> Interval:
        everything = merged([*live, *backfilled])
        if not everything:
            return Interval(0, 0)
        return Interval(max(everything[0].start, self._known_by_id_from), everything[-1].end)

    @property
    def _known_by_id_from(self) -> int:
        """The start from which on observations must be known by id, Unix ms."""
        return self._now - self._lookback

    def _live_gaps(
        self, live: Sequence[Interval], backfilled: Sequence[Interval], interval: Interval
    ) -> list[Interval]:
        first = self._state.sync_start_ms
        if first is None or not live:
            return []
        shown = Interval(max(first, interval.start), min(live[-1].end, interval.end))
        return gaps(shown, [*live, *backfilled])

    async def _list(
        self, interval: Interval, hours: dict[int, Hour], found: Verdict, seen: Counter[int], named: Counter[int]
    ) -> None:
        known: set[tuple[str, str]] = set()
        async for page in self._reader.interval(interval, metadata_only=True):
            found.requests += 1
            found.observations_listed += len(page.observations)
            observations = [observation for observation in page.observations if interval.contains(observation.start_ms)]
            self._compare(
                [observation for observation in observations if observation.start_ms >= self._known_by_id_from], hours
            )
            old = [
                observation
                for observation in observations
                if observation.start_ms // HOUR_MS * HOUR_MS < self._known_by_id_from
            ]
            new = {
                (trace_of(observation), observation.id): observation
                for observation in old
                if (trace_of(observation), observation.id) not in known
            }
            known |= new.keys()
            self._count(new.values(), seen, named)

    def _count(self, observations: Collection[Observation], seen: Counter[int], named: Counter[int]) -> None:
        """Count observations that may be forgotten by the hour; those of pending traces are not due yet."""
        traces = {trace_of(observation) for observation in observations}
        done = self._ledger.completed_observations(self._state.id, traces)
        notes = self._ledger.traces(self._state.id, traces)
        whole = self._ledger.are_whole(self._state.id, traces)
        for observation in observations:
            trace = trace_of(observation)
            is_done = (trace, observation.id) in done
            note = notes.get(trace)
            if not is_done and (trace in whole or self._is_left_out(observation, note)):
                continue
            if is_done or note is None or not note.pending:
                seen[observation.start_ms // HOUR_MS] += 1
                named[observation.start_ms // HOUR_MS] += is_done

    def _compare(self, observations: Sequence[Observation], hours: dict[int, Hour]) -> None:
        """Compare observations that the ledger must know by id."""
        traces = {trace_of(observation) for observation in observations}
        done = self._ledger.completed_observations(self._state.id, traces)
        notes = self._ledger.traces(self._state.id, traces)
        whole = self._ledger.are_whole(self._state.id, traces)
        first = self._state.sync_start_ms
        backfilled = self._coverage(BACKFILL)
        for observation in observations:
            trace = trace_of(observation)
            hour = hours.setdefault(observation.start_ms // HOUR_MS, Hour(observation.start_ms // HOUR_MS * HOUR_MS))
            hour.listed += 1
            note = notes.get(trace)
            waits = (note is not None and note.pending) or trace in whole or self._is_left_out(observation, note)
            not_due = (
                first is not None
                and observation.start_ms < first
                and not any(w.contains(observation.start_ms) for w in backfilled)
            )
            hidden = note is not None and is_hidden(observation, note.id_kind)
            if (trace, observation.id) in done or waits or not_due or hidden:
                continue
            hour.observations[trace, observation.id] = None
            hour.missing = len(hour.observations)

    def _is_left_out(self, observation: Observation, note: TraceNote | None) -> bool:
        """Whether a rule leaves an observation out, with its trace, or it was not even read."""
        if note is not None and note.left_out_by is not None:
            return True
        return (note is None or note.project is None) and self._not_read.was_left(observation)

    def _compare_counts(self, seen: Counter[int], named: Counter[int], hours: dict[int, Hour]) -> None:
        """Compare hours whose observations may be forgotten by their counts.

        Missing observations found by id take precedence.
        """
        done = self._ledger.completed_by_hour(self._state.id) if seen else Counter[int]()
        for number, listed in seen.items():
            missing = listed - done[number]
            by_name = hours[number].missing if number in hours else 0
            if missing > by_name:
                again = listed - missing - named[number]
                hours[number] = Hour(number * HOUR_MS, listed, missing, forgotten=again > 0, again=max(0, again))

    def reopen(self, hours: Sequence[Hour]) -> list[Interval]:
        """Reopen hours that lack observations which the ledger would know, and return the intervals.

        The next run sends them.
        """
        reopened = [
            part
            for hour in hours
            if not hour.forgotten
            for part in clip(self.completed(), Interval(self._known_from(hour), hour.start_ms + HOUR_MS))
        ]
        for interval in reopened:
            for role in (LIVE, BACKFILL):
                self._ledger.reopen(self._state.id, role, interval)
        return reopened

    def _known_from(self, hour: Hour) -> int:
        """Return the start from which on nothing of an hour was forgotten, Unix ms."""
        return max(hour.start_ms, self._known_by_id_from) if hour.observations else hour.start_ms

    def completed(self) -> list[Interval]:
        """Return the intervals completed by either role."""
        return merged([*self._coverage(LIVE), *self._coverage(BACKFILL)])


def _whole_hours(interval: Interval) -> Interval:
    return Interval(interval.start // HOUR_MS * HOUR_MS, -(-interval.end // HOUR_MS) * HOUR_MS)


def _interval(interval: Interval) -> dict[str, str]:
    return {"from": iso_time(interval.start), "to": iso_time(interval.end)}
