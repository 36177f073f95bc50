"""How many observations to ask for at once: as many as the server bears, found by trying."""

from __future__ import annotations

MAX_LIMIT = 1000  # observations a page of v2; the server refuses more

#: A page whose decoded answer passes this many bytes is halved, so that memory stays bounded by the page.
HEAVY_PAGE_BYTES = 16 * 1024 * 1024

#: Pages that must have come well before a size that was too much is tried again; doubled each time it still is.
_FIRST_PROBATION = 8
_LONGEST_PROBATION = 256


class PageSize:
    """The size of the next page of one kind: shrinks on trouble, grows back, and seldom tries what was too much."""

    def __init__(self, limit: int | None = None, most: int | None = None) -> None:
        self._most = MAX_LIMIT if most is None else most
        self.limit = self._most if limit is None else max(1, min(limit, self._most))
        self._too_much = self._most + 1
        self._probation = _FIRST_PROBATION
        self._served = 0

    def record_failure(self, limit: int, divisor: int) -> None:
        """Record that a page of `limit` observations could not be served."""
        if limit >= self._too_much:
            self._probation = min(_LONGEST_PROBATION, self._probation * 2)
        self._too_much = limit
        self._served = 0
        self.limit = max(1, limit // divisor)

    def record_success(self, limit: int, size: int) -> None:
        """Record that a page of `limit` observations came, of `size` bytes."""
        if size > HEAVY_PAGE_BYTES:
            self.limit = max(1, limit // 2)
            return
        larger = min(self._most, limit * 2)
        if limit >= self._most or size * 2 > HEAVY_PAGE_BYTES:
            return
        if larger >= self._too_much:
            self._served += 1
            if self._served < self._probation:
                return
        self._served = 0
        self.limit = larger

    def reset(self) -> None:
        """Reset after a single observation that was to blame was stepped over."""
        self._too_much = self._most + 1
        self._probation = _FIRST_PROBATION
        self._served = 0
        self.limit = min(2, self._most)
