"""What a backfill would cost, before it starts: rows, requests, minutes, bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sync_worker.langfuse.client import LangfuseClient
from sync_worker.langfuse.listing import MAX_ROWS
from sync_worker.langfuse.page_size import HEAVY_PAGE_BYTES, MAX_LIMIT
from sync_worker.langfuse.reader import Reader
from sync_worker.pipeline.plan import TARGET_OBSERVATIONS
from sync_worker.windows import Window

#: Seconds a page takes where nothing limits it; a guess that only a run can better.
_SECONDS_PER_REQUEST = 1.0
_SAMPLES = 3
#: Where so many stretches would have to be counted, rows are estimated: some servers answer 100 counts a day.
_MOST_COUNTS = 4
#: Rows are estimated by so many parts of what is asked for.
_PARTS = 12
_GOLDEN = 0.618  # of whose multiples none lie together


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of a backfill. `rows` is exact where the server counts them (`counted`), else an estimate."""

    source: str
    windows_open: int
    rows: int
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
    stretches: Sequence[Window],
    max_batch: tuple[int, int],
) -> Estimate:
    """Estimate what bringing over these stretches takes; `max_batch` is spans and bytes of a request to Kelet."""
    counted = await _count(reader, stretches)
    sampled_rows, sampled_bytes = await _sample(reader, stretches)
    rows = await _estimate_rows(reader, stretches) if counted is None else counted
    row_bytes = sampled_bytes / sampled_rows if sampled_rows else 0.0
    most = _most_rows(reader)
    page_rows = min(most, max(1, int(HEAVY_PAGE_BYTES / row_bytes))) if row_bytes else most
    windows = max(len(stretches), math.ceil(rows / TARGET_OBSERVATIONS))
    reading = math.ceil(rows / page_rows) + 2 * windows
    spans, size = max_batch
    sending = max(math.ceil(rows / spans), math.ceil(rows * row_bytes / size))
    limit = client.budget.per_minute(reader.api)
    minutes = reading / limit if limit else reading * _SECONDS_PER_REQUEST / 60
    moved = round(rows * row_bytes)
    return Estimate(
        name, len(stretches), rows, counted is not None, moved, moved, reading, sending, limit, round(minutes, 1)
    )


def _most_rows(reader: Reader) -> int:
    """Return how many rows a page may hold."""
    return MAX_LIMIT if reader.api == "v2" else MAX_ROWS


async def _count(reader: Reader, stretches: Sequence[Window]) -> int | None:
    """Return how many rows the server counts; None where it does not, or for so many stretches would be asked often."""
    if len(stretches) > _MOST_COUNTS:
        return None
    rows = 0
    for stretch in stretches:
        count = await reader.count(stretch)
        if count is None:
            return None
        rows += count
    return rows


async def _estimate_rows(reader: Reader, stretches: Sequence[Window]) -> int:
    """Estimate the rows by listing one page of parts that lie evenly over the stretches.

    A part that holds no more than a page is counted by it. Of a fuller one, how dense it is at its end, which may be
    the busiest hour of each of its days, is set off against how dense it is at another place, in each part another one.
    """
    whole_ms = sum(stretch.length for stretch in stretches)
    length = max(1, math.ceil(whole_ms / _PARTS))
    parts = [
        Window(start, min(stretch.end, start + length))
        for stretch in stretches
        for start in range(stretch.start, stretch.end, length)
    ]
    chosen = parts[:: max(1, math.ceil(len(parts) / (2 * _PARTS)))]
    rows = 0.0
    for number, part in enumerate(chosen, 1):
        listed, reached = await _list(reader, part)
        if reached > part.start:
            elsewhere = part.start + max(1, round(part.length * (number * _GOLDEN % 1)))
            again, lowest = await _list(reader, Window(part.start, elsewhere))
            listed = (listed / (part.end - reached) + again / max(1, elsewhere - lowest)) / 2 * part.length
        rows += listed
    return math.ceil(rows * whole_ms / max(1, sum(part.length for part in chosen)))


async def _list(reader: Reader, window: Window) -> tuple[float, int]:
    """Return how many rows the newest page of a window holds, and down to which start time they are all that start."""
    rows, oldest = 0, window.end
    async for page in reader.window(window, light=True):
        rows += len(page.rows)
        oldest = min((row.start_ms for row in page.rows), default=oldest)
        if rows >= _most_rows(reader):
            return rows, min(oldest, window.end - 1)
    return rows, window.start


async def _sample(reader: Reader, stretches: Sequence[Window]) -> tuple[int, int]:
    """Read one page of a few stretches: rows, and their bytes."""
    rows, size = 0, 0
    step = max(1, len(stretches) // _SAMPLES)
    for stretch in stretches[::step][:_SAMPLES]:
        async for page in reader.window(stretch):
            rows += len(page.rows)
            size += page.size
            break
    return rows, size
