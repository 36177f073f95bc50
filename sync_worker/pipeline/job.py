"""What is to be read, which of it goes now, and what is kept when it went."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sync_worker.intervals import Interval
from sync_worker.langfuse.reader import Page
from sync_worker.ledger import TraceNote
from sync_worker.pipeline.trace import Trace
from sync_worker.records import Observation


@dataclass(slots=True)
class Group:
    """Observations that go on together, by trace.

    Of a `flush`, all that was read is in it or was in an earlier one: `down_to` (Unix ms) and later of an interval.
    """

    traces: dict[str, list[Observation]]
    is_flush: bool
    is_last: bool
    down_to: int


@dataclass(slots=True)
class Choice:
    """Which traces of a group go now; `notes` of those that stay, and of each ready one what of it still waits.

    Those in `stay_pending`, trace ids, are pending until all of them is sent.
    """

    ready: list[Trace]
    notes: list[TraceNote] = field(default_factory=list)
    pending: dict[str, list[Observation]] = field(default_factory=dict)
    stay_pending: Collection[str] = ()


class Job(ABC):
    """Work for the pipeline. `again`: what is done is sent too. `streams`: complete traces go during the walk."""

    again = False
    streams = False
    #: Observations after which what was read is flushed; None means only when too much content is held.
    flush_after: int | None = None

    @property
    @abstractmethod
    def sends(self) -> Interval:
        """What starts in it is sent; the rest only tells of its trace."""

    @abstractmethod
    def walk(self) -> AsyncIterator[Page]:
        """Read, page by page."""

    @abstractmethod
    def take(self, page: Page) -> Sequence[Observation]:
        """Return what of a page is taken, and keep what could not be read. Called once for each page."""

    def count_merge_checks(self, pages: int) -> None:
        """Count pages that it took to tell what comes once."""
        del pages

    def select(self, group: Group) -> dict[str, list[Observation]]:
        """Return, by trace, what of a group goes on to be prepared."""
        return group.traces

    @abstractmethod
    def choose(self, traces: Sequence[Trace], taken: Mapping[str, Sequence[Observation]]) -> Choice:
        """Say which traces go now."""

    @abstractmethod
    def commit(self, group: Group, taken: Mapping[str, Sequence[Observation]], choice: Choice, left: set[str]) -> None:
        """Keep what became of a group; `left` are the traces of which something is undelivered."""
