"""What the sync asks of Langfuse, whatever generation of the API answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sync_worker.choices import Api
from sync_worker.intervals import Interval
from sync_worker.records import Observation


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An observation that could not be understood or served: why, and as much of it as there is.

    It starts at `start_ms`, in Unix milliseconds, or, where `until_ms` is set, between the two.
    """

    reason: str
    observation_id: str | None = None
    trace_id: str | None = None
    raw: str | None = None
    start_ms: int | None = None
    until_ms: int | None = None


@dataclass(slots=True)
class Page:
    """Some observations of a walk, in the order they came; `size` is the decoded answer's length in bytes.

    `cut` says that a cursor was given that leaves out what ties with the last observation: another version of it,
    perhaps.
    """

    observations: list[Observation] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    size: int = 0
    cut: bool = False

    @property
    def border(self) -> Observation | None:
        """The observation that another version may stand behind, unseen; None where there is none."""
        return self.observations[-1] if self.cut and self.observations else None


class Reader(Protocol):
    """Reads observations. Walks may repeat observations; every walk ends, or raises what `errors` says."""

    api: Api
    #: Whether a metadata-only listing is cheap for server and network; else counts are compared first.
    metadata_only_is_cheap: bool
    #: Whether `interval` can leave out environments.
    leaves_out_environments: bool

    @property
    def limits(self) -> dict[str, int]:
        """Observations a page by kind of page, as found so far: initial sizes for the next reader of this server."""

    def interval(
        self,
        interval: Interval,
        *,
        metadata_only: bool = False,
        ended_since_ms: int | None = None,
        without_environments: Sequence[str] = (),
    ) -> AsyncGenerator[Page, None]:
        """Walk all observations that start in the interval, newest first; `metadata_only` leaves out content.

        `ended_since_ms` leaves out observations that ended before it, and those that have no end;
        `without_environments`, where the reader can, those in these environments.
        """

    def traces(
        self, trace_ids: Sequence[str], interval: Interval, *, metadata_only: bool = False
    ) -> AsyncIterator[Page]:
        """Walk all observations of these traces that start in the interval; `metadata_only` leaves out content."""

    def roots(self, trace_ids: Sequence[str], interval: Interval) -> AsyncIterator[Page]:
        """Walk the root observations of these traces that start in the interval, with metadata but without content."""

    async def count(self, interval: Interval) -> int | None:
        """Return how many observations the server counts in the interval; None where it does not count them."""

    async def resolve(self, observation: Observation) -> Observation:
        """Return the observation with truncated fields resolved.

        The same observation where none is.
        """

    def observations(
        self, observation_ids: Sequence[str], interval: Interval, *, metadata_only: bool = False
    ) -> AsyncIterator[Page]:
        """Walk the observations with these ids that start in the interval; `metadata_only` leaves out content."""
