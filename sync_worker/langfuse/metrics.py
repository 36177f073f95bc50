"""Counts rows without reading them: `GET /api/public/v2/metrics` (Langfuse v4 and Cloud)."""

from __future__ import annotations

import json

from sync_worker.langfuse.client import EndpointMissing, LangfuseClient, RequestRejected
from sync_worker.times import iso_time
from sync_worker.windows import Window

PATH = "/api/public/v2/metrics"


async def count_rows(client: LangfuseClient, window: Window) -> int | None:
    """Return how many observations start in the window; None where the server does not count them.

    Raises CredentialsRefused or TransientError.
    """
    query = {
        "view": "observations",
        "metrics": [{"measure": "count", "aggregation": "count"}],
        "dimensions": [],
        "filters": [],
        "fromTimestamp": iso_time(window.start),
        "toTimestamp": iso_time(window.end),
    }
    try:
        answer = await client.backoff.retry(lambda: client.get(PATH, {"query": json.dumps(query)}))
        return int(answer.body["data"][0]["count_count"])
    except (EndpointMissing, RequestRejected, TypeError, ValueError, LookupError):
        return None
