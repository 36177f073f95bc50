"""What the sync asks of Langfuse, whatever generation of the API answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sync_worker.records import Api, Observation
from sync_worker.windows import Window


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that could not be understood or served: why, and as much of it as there is.

    It starts at `start_ms`, in Unix milliseconds, or, where `until_ms` is told, between the two.
    """

    reason: str
    row_id: str | None = None
    trace_id: str | None = None
    raw: str | None = None
    start_ms: int | None = None
    until_ms: int | None = None


@dataclass(slots=True)
class Page:
    """Some rows of a walk, in the order they came; `size` is the decoded answer's length in bytes.

    `cut` says that a cursor was given that leaves out what ties with the last row: another version of it, perhaps.
    """

    rows: list[Observation] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    size: int = 0
    cut: bool = False

    @property
    def border(self) -> Observation | None:
        """The row that another version may stand behind, unseen; None where there is none."""
        return self.rows[-1] if self.cut and self.rows else None


class Reader(Protocol):
    """Reads rows. Walks may repeat rows; every walk ends, or raises what `errors` says."""

    api: Api
    #: Whether a listing without content costs the server and the wire little; else counts are compared first.
    lists_lightly: bool

    @property
    def limits(self) -> dict[str, int]:
        """Rows a page by kind of page, as found out so far: what the next reader of this server begins with."""

    def window(
        self, window: Window, *, light: bool = False, ended_since_ms: int | None = None
    ) -> AsyncGenerator[Page, None]:
        """Walk all rows that start in the window, newest first; `light` leaves out content.

        `ended_since_ms` leaves out rows that ended before it, and those that have no end.
        """

    def traces(self, trace_ids: Sequence[str], window: Window, *, light: bool = False) -> AsyncIterator[Page]:
        """Walk all rows of these traces that start in the window; `light` leaves out content."""

    def roots(self, trace_ids: Sequence[str], window: Window) -> AsyncIterator[Page]:
        """Walk the root rows of these traces that start in the window, with metadata but without content."""

    async def count(self, window: Window) -> int | None:
        """Return how many rows the server counts in the window; None where it does not count them."""

    async def whole(self, row: Observation) -> Observation:
        """Return the row with input and output that the server keeps elsewhere put in; the same row where none is."""

    def rows(self, row_ids: Sequence[str], window: Window, *, light: bool = False) -> AsyncIterator[Page]:
        """Walk the rows with these ids that start in the window; `light` leaves out content."""
