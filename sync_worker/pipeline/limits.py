"""How much is done at once: all tunables that are no settings, in one place, passed in."""

from __future__ import annotations

from dataclasses import dataclass

from sync_worker.langfuse.filters import MAX_FILTER_BYTES
from sync_worker.pipeline.plan import TARGET_OBSERVATIONS


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of memory and requests."""

    #: Bytes of content held while a walk goes on; more goes out in part, since bounded memory wins over whole traces.
    held_bytes: int = 32 * 1024 * 1024
    #: Observations that an interval should hold; after as many, what was read of a larger one is committed.
    interval_observations: int = TARGET_OBSERVATIONS
    #: Intervals of a backfill worked on at once: one is read while others are sent.
    backfill_intervals: int = 2
    #: Pending traces looked at in one go: what one request's list of ids holds.
    pending_traces: int = 150
    #: Traces forgotten in one transaction.
    forgotten_traces: int = 5_000
    #: Requests that lookback scans may take in a cycle, however small the limit a minute is.
    lookback_requests: int = 8
    #: Requests a minute that are assumed while no limit is known.
    assumed_per_minute: int = 1_000
    #: Bytes of an address that a list of ids may take.
    filter_bytes: int = MAX_FILTER_BYTES
