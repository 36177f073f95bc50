"""Estimates a backfill before it starts: observations, requests, minutes, bytes.

The range is listed metadata-only in parts that are spread evenly over it, so that where the observations lie is known:
nights, bursts. What is too much to list is counted by its density at two places. Whole traces, spread evenly over all
that was listed, are read and converted for the bytes. Then the intervals are planned as the backfill plans them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from statistics import stdev
from typing import Any

from sync_worker.intervals import Interval
from sync_worker.langfuse.filters import IDS_A_REQUEST
from sync_worker.langfuse.listing import MAX_ROWS
from sync_worker.langfuse.page_size import MAX_LIMIT, PageSize
from sync_worker.langfuse.reader import Page, Reader
from sync_worker.pipeline.limits import Limits
from sync_worker.pipeline.plan import IntervalPlanner, due, spread
from sync_worker.records import Observation
from sync_worker.runs.opened import OpenSource
from sync_worker.runs.preview import preview
from sync_worker.spans.encode import to_proto

#: Assumed seconds a page, without a rate limit.
_SECONDS_PER_REQUEST = 1.0
#: With more intervals than this, observations are estimated, not counted: some servers allow 100 counts a day.
_MAX_COUNTS = 4
#: The range is listed in so many parts, in at most so many pages, before densities are estimated.
_PARTS = 12
_MAX_PAGES = 24
_GOLDEN = 0.618  # its multiples modulo 1 are evenly spread
#: Observations whose content is read for the bytes, in so many requests; these are compared for the margin.
_SAMPLED = 600
_GROUPS = 4
#: The real value lies within so many standard errors of the estimate, nineteen times out of twenty.
_DEVIATIONS = 2.0
_SCORES_A_REQUEST = 100
_SIGNALS_PER_MINUTE = 300


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of a backfill. `observations` is exact where the server counts them (`counted`), else an estimate.

    Observations and bytes are probably within `margin_percent`; None where too little was sampled.
    """

    source: str
    intervals_open: int
    observations: int
    counted: bool
    margin_percent: int | None
    bytes_read: int  # from Langfuse, decoded
    bytes_sent: int  # to Kelet, before compression
    langfuse_requests: int
    kelet_requests: int
    requests_per_minute: int | None
    minutes: float
    scores: int | None = None  # an estimate; None where scores are not sent

    def with_scores(self, scores: int) -> Estimate:
        """Return the estimate with so many scores, which are sent one by one after the spans."""
        requests = math.ceil(scores / _SCORES_A_REQUEST)
        reading = requests / self.requests_per_minute if self.requests_per_minute else 0.0
        return replace(
            self,
            scores=scores,
            langfuse_requests=self.langfuse_requests + requests,
            kelet_requests=self.kelet_requests + scores,
            minutes=round(self.minutes + max(reading, scores / _SIGNALS_PER_MINUTE), 1),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the estimate as a JSON object."""
        return asdict(self)


@dataclass(slots=True)
class _Survey:
    """Where the observations lie: those that were listed, and how many more there may be in which time."""

    listed: list[Observation] = field(default_factory=list)  # in order of their starts
    more: list[tuple[Interval, float]] = field(default_factory=list)
    variance: float = 0.0  # of how many there are
    factor: float = 1.0  # by which the server counts more, or fewer

    def of(self, interval: Interval) -> list[Observation]:
        """Return what was listed of an interval."""
        first, end = (bisect_left(self.listed, moment, key=lambda one: one.start_ms) for moment in interval)
        return self.listed[first:end]

    def count(self, interval: Interval) -> float:
        """Estimate the observations of an interval."""
        more = (
            observations * max(0, min(part.end, interval.end) - max(part.start, interval.start)) / part.length
            for part, observations in self.more
        )
        return (len(self.of(interval)) + sum(more)) * self.factor


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Bytes of an observation: as read, and as sent; and the standard error of it, relative to it."""

    read: float = 0.0
    sent: float = 0.0
    error: float | None = None


async def estimate(opened: OpenSource, interval: Interval) -> Estimate:
    """Estimate the cost of a backfill of an interval, without what is completed. Raises as the reader does."""
    policy, settings = opened.session.policy, opened.settings
    completed, _ = opened.coverage.under_rules()
    found = await _of_spans(
        opened, due(interval.start, interval.end, completed), (settings.max_batch_spans, settings.max_batch_bytes),
        lambda sample: sum(
            len(to_proto(span).SerializeToString())
            for span in preview(sample, policy.project, policy.conversion, policy.routes).spans
        ),
    )  # fmt: skip
    if opened.scores is None:
        return found
    return found.with_scores(await opened.scores.estimate(interval))


async def _of_spans(
    opened: OpenSource,
    intervals: Sequence[Interval],
    max_batch: tuple[int, int],
    size_of: Callable[[Sequence[Observation]], int],
) -> Estimate:
    """Estimate a backfill of these intervals without scores.

    `max_batch` is spans and bytes of a request to Kelet, `size_of` the bytes that observations become there.
    """
    reader = opened.session.reader
    counted = await _count(reader, intervals)
    survey = await _survey(reader, intervals)
    guess = sum(survey.count(interval) for interval in intervals)
    if counted is not None and guess:
        survey.factor = counted / guess
    observations = math.ceil(guess) if counted is None else counted
    sizes = await _sample(reader, survey, intervals, size_of)
    count_error = math.sqrt(survey.variance) / guess if guess and counted is None else 0.0
    reading, sending = _requests(reader, intervals, survey, sizes, max_batch, opened.session.limits)
    limit = opened.requests_per_minute
    minutes = reading / limit if limit else reading * _SECONDS_PER_REQUEST / 60
    return Estimate(
        opened.name,
        len(intervals),
        observations,
        counted is not None,
        None if sizes.error is None else math.ceil(100 * _DEVIATIONS * math.hypot(sizes.error, count_error)),
        round(observations * sizes.read),
        round(observations * sizes.sent),
        reading,
        sending,
        limit,
        round(minutes, 1),
    )


def _requests(
    reader: Reader,
    intervals: Sequence[Interval],
    survey: _Survey,
    sizes: _Sizes,
    max_batch: tuple[int, int],
    limits: Limits,
) -> tuple[int, int]:
    """Return the requests to Langfuse and to Kelet, by planning the intervals as the backfill does."""
    size = PageSize(most=_max_page_size(reader))
    planner = IntervalPlanner(target=limits.interval_observations)
    running: deque[tuple[Interval, int]] = deque()
    reading, sending = 1, 0  # the first one asks for the time
    is_first_done = False
    for interval in planner.split(intervals):
        observations = round(survey.count(interval))
        traces = {one.trace_id for one in survey.of(interval)}
        rooted = {one.trace_id for one in survey.of(interval) if one.is_trace_root}
        lookups = math.ceil(len(traces - rooted) / IDS_A_REQUEST)
        pages, left = 0, observations
        while left > 0 or not pages:
            pages, of_page = pages + 1, min(left, size.limit)
            size.record_success(size.limit, round(of_page * sizes.read))
            left -= of_page
            sending += max(math.ceil(of_page / max_batch[0]), math.ceil(of_page * sizes.sent / max_batch[1]))
        reading += pages + (pages > 1) + lookups  # the last ones of several pages are listed once more, by id
        running.append((interval, observations))
        # Of several that run at once, the next one is planned by those that are done.
        while len(running) >= (limits.backfill_intervals if is_first_done else 1):
            planner.adjust(*running.popleft())
            is_first_done = True
    return reading, sending


def _max_page_size(reader: Reader) -> int:
    """Return the maximum observations of a page."""
    return MAX_LIMIT if reader.api == "v2" else MAX_ROWS


async def _count(reader: Reader, intervals: Sequence[Interval]) -> int | None:
    """Return the server's count of observations.

    None if it has none, or for too many intervals.
    """
    if len(intervals) > _MAX_COUNTS:
        return None
    observations = 0
    for interval in intervals:
        count = await reader.count(interval)
        if count is None:
            return None
        observations += count
    return observations


async def _survey(reader: Reader, intervals: Sequence[Interval]) -> _Survey:
    """List parts that are spread evenly over the intervals, each to its start as long as there are pages left."""
    parts, chosen = spread(intervals, _PARTS)
    found = dict[tuple[str | None, str], Observation]()
    left = {part: part.end for part in chosen}  # from where on a part is listed
    unlisted = dict[Interval, int]()
    pages = 0
    while left and (pages < len(chosen) or pages + len(left) <= _MAX_PAGES):
        for part, reached in list(left.items()):
            listed, left[part] = await _list(reader, Interval(part.start, min(part.end, reached + 1)))
            found |= {(one.trace_id, one.id): one for one in listed}
            pages += 1
            if left[part] <= part.start:
                del left[part]
            elif left[part] == reached:  # a millisecond with more than a page
                unlisted[part] = left.pop(part)
    survey = _Survey(sorted(found.values(), key=lambda one: one.start_ms))
    for number, (part, reached) in enumerate((unlisted | left).items(), 1):
        rest = Interval(part.start, reached)
        elsewhere = Interval(part.start, part.start + max(1, round(rest.length * (number * _GOLDEN % 1))))
        again, lowest = await _list(reader, elsewhere)
        known = len(survey.of(Interval(reached, part.end))) / (part.end - reached) * rest.length
        other = len(again) / max(1, elsewhere.end - lowest) * rest.length
        survey.more.append((rest, (known + other) / 2))
        survey.variance += ((known - other) / 2) ** 2
    _fill(survey, parts, chosen)
    return survey


def _fill(survey: _Survey, parts: Sequence[Interval], chosen: Sequence[Interval]) -> None:
    """Take the parts that were not chosen to hold what the others do on average."""
    density = sum(survey.count(part) for part in chosen) / max(1, sum(part.length for part in chosen))
    survey.more += [(part, density * part.length) for part in parts if part not in set(chosen)]


async def _list(reader: Reader, interval: Interval) -> tuple[list[Observation], int]:
    """Return the observations of the newest page of an interval.

    Also returns the start time (Unix ms) from which on they are complete.
    """
    observations: list[Observation] = []
    async with aclosing(reader.interval(interval, metadata_only=True)) as walk:
        async for page in walk:
            observations += page.observations
            if len(observations) >= _max_page_size(reader):
                return observations, min(interval.end - 1, *(one.start_ms for one in observations))
    return observations, interval.start


async def _sample(
    reader: Reader,
    survey: _Survey,
    intervals: Sequence[Interval],
    size_of: Callable[[Sequence[Observation]], int],
) -> _Sizes:
    """Read whole traces that are spread evenly over what was listed; from v1, pages."""
    groups: list[tuple[int, int, int]] = []  # observations, bytes read, bytes sent
    async for pages in _contents(reader, survey, intervals):
        observations = [one for page in pages for one in page.observations]
        if observations:
            groups.append((len(observations), sum(page.size for page in pages), size_of(observations)))
    sampled = sum(count for count, _, _ in groups)
    if not sampled:
        return _Sizes(error=0.0 if not survey.listed else None)
    read, sent = sum(size for _, size, _ in groups) / sampled, sum(size for _, _, size in groups) / sampled
    if sampled >= len(survey.listed) and not survey.more:
        return _Sizes(read, sent, 0.0)
    means = [size / count for count, size, _ in groups]
    error = stdev(means) / math.sqrt(len(means)) / read if len(means) > 1 else None
    return _Sizes(read, sent, error)


async def _contents(reader: Reader, survey: _Survey, intervals: Sequence[Interval]) -> AsyncIterator[list[Page]]:
    """Yield the pages of each request, or few, for content."""
    if reader.metadata_only_is_cheap:
        traces = list(dict.fromkeys(one.trace_id for one in survey.listed if one.trace_id is not None))
        chosen = traces[:: max(1, len(survey.listed) // _SAMPLED)]
        around = Interval(intervals[0].start, intervals[-1].end) if intervals else Interval(0, 0)
        for group in (chosen[number::_GROUPS] for number in range(_GROUPS)):
            if group:
                yield [page async for page in reader.traces(group, around)]
        return
    starts = [one.start_ms for one in survey.listed]
    for number in range(_GROUPS if starts else 0):
        newest = starts[-1 - number * len(starts) // _GROUPS]
        async with aclosing(reader.interval(Interval(intervals[0].start, newest + 1))) as walk:
            async for page in walk:
                yield [page]
                break
