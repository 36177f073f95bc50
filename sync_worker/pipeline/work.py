"""Work for the pipeline: what to read, which traces are ready, and what to commit afterwards."""

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
    """Observations that are processed together, by trace.

    A `flush` contains all that was read and was not in an earlier group: of an interval, from `down_to` (Unix ms) on.
    """

    traces: dict[str, list[Observation]]
    is_flush: bool
    is_last: bool
    down_to: int


@dataclass(slots=True)
class Choice:
    """Which traces of a group are ready; `notes` of the others, and by trace the observations that are still `pending`.

    Traces in `stay_pending` (ids) are pending until all of them is sent.
    """

    ready: list[Trace]
    notes: list[TraceNote] = field(default_factory=list)
    pending: dict[str, list[Observation]] = field(default_factory=dict)
    stay_pending: Collection[str] = ()


class Work(ABC):
    """What one walk does: an interval, pending traces, a retry, ….

    `again`: what is done is sent too. `streams`: complete traces are sent during the walk. `overrules`: what rules
    leave out is sent all the same. `redecides`: what other rules have left out is decided on again. `completes`: what
    it sends lies in an interval that counts as read under the rules of this run then. `follows`: a trace that is
    forgotten goes by the rules under which its time was read.
    """

    again = False
    streams = False
    overrules = False
    redecides = False
    completes = False
    follows = False
    #: Traces that are sent otherwise than the rules of their time say, until that is completed under those of this run,
    #: with the start of what is sent, in Unix ms.
    until_completed: dict[str, int]
    #: Whether the rest is left to others: nothing more is read after the group that was committed.
    is_done = False
    #: Observations after which what was read is flushed; None: only at the memory limit.
    flush_after: int | None = None

    @property
    @abstractmethod
    def sends(self) -> Interval:
        """Observations that start in it are sent; the others only give context of their trace."""

    @abstractmethod
    def walk(self) -> AsyncIterator[Page]:
        """Read, page by page."""

    @abstractmethod
    def take(self, page: Page) -> Sequence[Observation]:
        """Return the observations of a page to process, and store what could not be read. Called once a page."""

    def count_merge_checks(self, pages: int) -> None:
        """Count pages read to find unmerged observations."""
        del pages

    def select(self, group: Group) -> dict[str, list[Observation]]:
        """Return, by trace, what of a group to prepare."""
        return group.traces

    @abstractmethod
    def choose(self, traces: Sequence[Trace], taken: Mapping[str, Sequence[Observation]]) -> Choice:
        """Return which traces are ready."""

    @abstractmethod
    def commit(self, group: Group, taken: Mapping[str, Sequence[Observation]], choice: Choice, left: set[str]) -> None:
        """Commit the result of a group; `left` are the traces with undelivered observations."""
