"""Limits of memory and requests that are not settings, in one place, passed in."""

from __future__ import annotations

from dataclasses import dataclass

from sync_worker.langfuse.filters import IDS_A_REQUEST, MAX_FILTER_BYTES
from sync_worker.pipeline.plan import TARGET_OBSERVATIONS


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of memory and requests."""

    #: Bytes of content held during a walk; beyond, traces are sent in parts, since memory is limited.
    held_bytes: int = 32 * 1024 * 1024
    #: Target observations of an interval; of a larger one, what was read is committed after as many.
    interval_observations: int = TARGET_OBSERVATIONS
    #: Concurrent intervals of a backfill, and of a job: one is read while others are sent.
    backfill_intervals: int = 2
    #: Observations that must be due, beyond those read, for jobs to help the live sync; as many as five intervals have.
    jobs_above: int = 100_000
    #: Pending traces checked at once.
    pending_traces: int = IDS_A_REQUEST
    #: Traces forgotten in one transaction.
    forgotten_traces: int = 5_000
    #: Requests of lookback scans allowed in a cycle, however small the limit a minute is.
    lookback_requests: int = 8
    #: Assumed limit of requests a minute while none is known.
    assumed_per_minute: int = 1_000
    #: Bytes of a URL that a list of ids may take.
    filter_bytes: int = MAX_FILTER_BYTES
