"""Estimates a backfill before it starts: observations, requests, minutes, bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sync_worker.intervals import Interval
from sync_worker.langfuse.client import LangfuseClient
from sync_worker.langfuse.listing import MAX_ROWS
from sync_worker.langfuse.page_size import HEAVY_PAGE_BYTES, MAX_LIMIT
from sync_worker.langfuse.reader import Reader
from sync_worker.pipeline.plan import TARGET_OBSERVATIONS

#: Assumed seconds a page, without a rate limit.
_SECONDS_PER_REQUEST = 1.0
_SAMPLES = 3
#: With more intervals than this, observations are estimated, not counted: some servers allow 100 counts a day.
_MAX_COUNTS = 4
#: Observations are estimated from so many parts of the range.
_PARTS = 12
_GOLDEN = 0.618  # its multiples modulo 1 are evenly spread


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of a backfill. `observations` is exact where the server counts them (`counted`), else an estimate."""

    source: str
    intervals_open: int
    observations: int
    counted: bool
    bytes_read: int  # from Langfuse, decoded
    bytes_sent: int  # to Kelet, before compression
    langfuse_requests: int
    kelet_requests: int
    requests_per_minute: int | None
    minutes: float

    def as_json(self) -> dict[str, Any]:
        """Return the estimate as a JSON object."""
        return asdict(self)


async def estimate(
    name: str,
    client: LangfuseClient,
    reader: Reader,
    intervals: Sequence[Interval],
    max_batch: tuple[int, int],
) -> Estimate:
    """Estimate a backfill of these intervals; `max_batch` is spans and bytes of a request to Kelet."""
    counted = await _count(reader, intervals)
    sampled, sampled_bytes = await _sample(reader, intervals)
    observations = await _estimate_observations(reader, intervals) if counted is None else counted
    observation_bytes = sampled_bytes / sampled if sampled else 0.0
    max_page_size = _max_page_size(reader)
    page_size = (
        min(max_page_size, max(1, int(HEAVY_PAGE_BYTES / observation_bytes))) if observation_bytes else max_page_size
    )
    intervals_read = max(len(intervals), math.ceil(observations / TARGET_OBSERVATIONS))
    reading = math.ceil(observations / page_size) + 2 * intervals_read
    spans, size = max_batch
    sending = max(math.ceil(observations / spans), math.ceil(observations * observation_bytes / size))
    limit = client.rate_limits.per_minute(reader.api)
    minutes = reading / limit if limit else reading * _SECONDS_PER_REQUEST / 60
    moved = round(observations * observation_bytes)
    return Estimate(
        name,
        len(intervals),
        observations,
        counted is not None,
        moved,
        moved,
        reading,
        sending,
        limit,
        round(minutes, 1),
    )


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


async def _estimate_observations(reader: Reader, intervals: Sequence[Interval]) -> int:
    """Estimate the observations by listing one page of parts that are spread evenly over the intervals.

    A part of at most a page is counted by it. For a larger one, the density at its end, which may be the busiest hour
    of each day, is averaged with the density at another place, which differs from part to part.
    """
    whole_ms = sum(interval.length for interval in intervals)
    length = max(1, math.ceil(whole_ms / _PARTS))
    parts = [
        Interval(start, min(interval.end, start + length))
        for interval in intervals
        for start in range(interval.start, interval.end, length)
    ]
    chosen = parts[:: max(1, math.ceil(len(parts) / (2 * _PARTS)))]
    observations = 0.0
    for number, part in enumerate(chosen, 1):
        listed, reached = await _list(reader, part)
        if reached > part.start:
            elsewhere = part.start + max(1, round(part.length * (number * _GOLDEN % 1)))
            again, lowest = await _list(reader, Interval(part.start, elsewhere))
            listed = (listed / (part.end - reached) + again / max(1, elsewhere - lowest)) / 2 * part.length
        observations += listed
    return math.ceil(observations * whole_ms / max(1, sum(part.length for part in chosen)))


async def _list(reader: Reader, interval: Interval) -> tuple[float, int]:
    """Return how many observations the newest page of an interval has.

    Also returns the start time (Unix ms) from which on they are complete.
    """
    observations, oldest = 0, interval.end
    async for page in reader.interval(interval, metadata_only=True):
        observations += len(page.observations)
        oldest = min((observation.start_ms for observation in page.observations), default=oldest)
        if observations >= _max_page_size(reader):
            return observations, min(oldest, interval.end - 1)
    return observations, interval.start


async def _sample(reader: Reader, intervals: Sequence[Interval]) -> tuple[int, int]:
    """Read one page of a few intervals: observations, and their bytes."""
    observations, size = 0, 0
    step = max(1, len(intervals) // _SAMPLES)
    for interval in intervals[::step][:_SAMPLES]:
        async for page in reader.interval(interval):
            observations += len(page.observations)
            size += page.size
            break
    return observations, size
