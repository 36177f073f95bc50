"""Counts observations without reading them: `GET /api/public/v2/metrics` (Langfuse v4 and Cloud).

Cloud answers few of these, on Hobby 100 a day for the customer's own dashboards and everything else together: a count
is optional, so it never waits for one.
"""

from __future__ import annotations

import json

from sync_worker.errors import SourcePaused, TransientError
from sync_worker.intervals import Interval
from sync_worker.langfuse.langfuse_client import LangfuseClient
from sync_worker.times import iso_time

PATH = "/api/public/v2/metrics"


async def count_observations(client: LangfuseClient, interval: Interval) -> int | None:
    """Return how many observations start in the interval; None where the server does not count them now.

    Raises Stopped.
    """
    query = {
        "view": "observations",
        "metrics": [{"measure": "count", "aggregation": "count"}],
        "dimensions": [],
        "filters": [],
        "fromTimestamp": iso_time(interval.start),
        "toTimestamp": iso_time(interval.end),
    }
    try:
        answer = await client.attempt(PATH, {"query": json.dumps(query)}, at_once=True)
        return int(answer.body["data"][0]["count_count"])
    except (TransientError, SourcePaused, TypeError, ValueError, LookupError):
        return None
