"""What the processes on one state file know of each other's requests to Langfuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestSnapshot:
    """What the state file holds of a bucket's requests. Times in Unix milliseconds.

    `sent` are requests not read before: when, and whether of the live sync. `last` is the number of the last one read:
    the next snapshot begins after it.
    """

    sent: Sequence[tuple[int, bool]]
    last: int
    limit: tuple[int, int, int] | None  # requests, window in seconds, when it was reported
    blocked: tuple[int, int] | None  # start and end of the last wait that Langfuse asked for
    live_runs: bool  # a live sync runs in another process
