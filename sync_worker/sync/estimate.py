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
from sync_worker.sync.plan import TARGET_ROWS
from sync_worker.windows import Window

#: Seconds a page takes where nothing limits it; a guess that only a run can better.
_SECONDS_PER_REQUEST = 1.0
_SAMPLES = 3


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of a backfill. `rows` is exact where the server counts them, else measured on samples."""

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
    counts = [await reader.count(stretch) for stretch in stretches]
    counted = all(count is not None for count in counts)
    sampled_rows, sampled_bytes, covered_ms = await _sample(reader, stretches)
    whole_ms = sum(stretch.length for stretch in stretches)
    rows = sum(count or 0 for count in counts) if counted else math.ceil(sampled_rows * whole_ms / max(covered_ms, 1))
    row_bytes = sampled_bytes / sampled_rows if sampled_rows else 0.0
    most = _most_rows(reader)
    page_rows = min(most, max(1, int(HEAVY_PAGE_BYTES / row_bytes))) if row_bytes else most
    windows = max(len(stretches), math.ceil(rows / TARGET_ROWS))
    reading = math.ceil(rows / page_rows) + 2 * windows
    spans, size = max_batch
    sending = max(math.ceil(rows / spans), math.ceil(rows * row_bytes / size))
    limit = client.budget.per_minute
    minutes = reading / limit if limit else reading * _SECONDS_PER_REQUEST / 60
    return Estimate(
        name, len(stretches), rows, counted, round(rows * row_bytes), round(rows * row_bytes), reading, sending, limit,
        round(minutes, 1),
    )  # fmt: skip


def _most_rows(reader: Reader) -> int:
    """Return how many rows a page may hold."""
    return MAX_LIMIT if reader.api == "v2" else MAX_ROWS


async def _sample(reader: Reader, stretches: Sequence[Window]) -> tuple[int, int, int]:
    """Read one page of a few stretches: rows, bytes, and the milliseconds of start times that they span."""
    rows, size, covered = 0, 0, 0
    step = max(1, len(stretches) // _SAMPLES)
    for stretch in stretches[::step][:_SAMPLES]:
        async for page in reader.window(stretch):
            rows += len(page.rows)
            size += page.size
            whole = len(page.rows) < _most_rows(reader)
            oldest = min((row.start_ms for row in page.rows), default=stretch.start)
            covered += stretch.length if whole else stretch.end - oldest
            break
    return rows, size, covered
