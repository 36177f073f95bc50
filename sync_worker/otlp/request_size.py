"""Finds the largest request that a target and its gateways accept: by trying, kept for the next run, and retried."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sync_worker.spans.span_model import EncodedSpan

#: Requests near the limit that must pass before a size that failed is tried again; doubled each time it still fails.
_FIRST_PROBATION = 8
_LONGEST_PROBATION = 1024
#: So many of the latest accepted sizes are kept: a failure no larger than those is not about size.
_RECENT = 16


def size_of(spans: Sequence[EncodedSpan]) -> int:
    """Return about how many bytes spans take before compression; their envelopes are small beside them."""
    return sum(span.size for span in spans)


@dataclass(slots=True)
class _State:
    """What is kept for the next run, in bytes. `limit` is None while any size passes."""

    limit: int | None = None
    failed: int | None = None  # the smallest size that failed since a larger one passed
    passed: int = 0  # requests near the limit that passed since
    probation: int = _FIRST_PROBATION
    struck: int | None = None  # the size that failed once, when the last run ended before it failed again


class RequestSize:
    """The largest request to make: halved where one fails, doubled where they pass.

    A size that failed is tried again after eight requests near the limit, then after 16, up to 1,024: a gateway's
    limit is raised one day, and an outage of the target leaves a small limit that says nothing.
    """

    def __init__(self, stored: Any = None) -> None:
        self._state = _State()
        self._failed_last_run: int | None = None  # by the last run
        self._recent_sizes: deque[int] = deque(maxlen=_RECENT)
        if isinstance(stored, list) and len(stored) == 5 and all(isinstance(item, int | None) for item in stored):
            limit, failed, passed, probation, self._failed_last_run = stored
            self._state = _State(limit, failed, passed or 0, probation or _FIRST_PROBATION)

    @property
    def limit(self) -> int | None:
        """The largest size to send, in bytes; None while none is known."""
        return self._state.limit

    @property
    def stored(self) -> list[int | None]:
        """The state to store for the next run."""
        found = self._state
        return [found.limit, found.failed, found.passed, found.probation, found.struck]

    def first_fitting(self, spans: Sequence[EncodedSpan]) -> Sequence[EncodedSpan]:
        """Return as many of the first spans as may go in one request: one at least."""
        limit = self._state.limit
        if limit is None:
            return spans
        size = 0
        for count, span in enumerate(spans):
            size += span.size
            if count and size > limit:
                return spans[:count]
        return spans

    def record_first_failure(self, size: int | None) -> None:
        """Note that a request of this size failed once, should this run end before it fails again; None for no such."""
        self._state.struck = size

    def failed_before(self, size: int) -> bool:
        """Whether as large a request failed when the last run ended; asked once, since that counts for one request."""
        struck, self._failed_last_run = self._failed_last_run, None
        return struck is not None and 2 * size >= struck

    def record_failure(self, size: int) -> None:
        """Note that a request of this size, of several spans, failed twice.

        Where as large a one passed lately it is what is in it, and not its size.
        """
        found = self._state
        found.struck = None
        if size <= max(self._recent_sizes, default=0):
            return
        if found.limit is not None and found.failed is not None and found.limit > found.failed // 2:
            found.probation = min(_LONGEST_PROBATION, found.probation * 2)  # it was tried again, and still fails
        found.failed, found.passed = min(size, found.failed or size), 0
        found.limit = max(1, min(found.limit or size, size // 2))

    def record_success(self, size: int) -> None:
        """Note that a request of this size was answered for what is in it."""
        found = self._state
        found.struck = self._failed_last_run = None
        self._recent_sizes.append(size)
        if found.limit is None or 2 * size <= found.limit:
            return
        if found.failed is not None and size >= found.failed:
            found.failed, found.passed, found.probation = None, 0, _FIRST_PROBATION
        if found.failed is not None and 2 * found.limit >= found.failed:
            found.passed += 1
            if found.passed < found.probation:
                return
            found.passed = 0
        found.limit *= 2
