"""Assemble: the observations of one walk, grouped by trace and deduplicated. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sync_worker.langfuse.reader import Page
from sync_worker.records import Observation
from sync_worker.spans.context import roots_of, trace_of

#: Trace id (synthetic if there is none), observation id and start in Unix ms: Langfuse's store keeps one version of
#: each.
StoreKey = tuple[str, str, int]


def store_key(observation: Observation) -> StoreKey:
    """Return the key of an observation in Langfuse's store.

    With another start, the same id is another observation, for good.
    """
    return trace_of(observation), observation.id, observation.start_ms


class Assembly:
    """Holds observations by trace. `size` estimates their bytes, from the size of their pages.

    An observation that a v2 listing shows twice with the same start has two versions that Langfuse's store has yet to
    merge: it is marked as unsettled. For the last observation of a page that is unknown: it is in `unchecked` until it
    is known.
    """

    def __init__(self) -> None:
        self.traces: dict[str, dict[str, Observation]] = {}
        self.size = 0
        self.unchecked: dict[StoreKey, Observation] = {}
        self._seen: dict[str, set[StoreKey]] = {}  # by trace
        self._twice: set[StoreKey] = set()
        self._pages = 0
        self._last_page: dict[str, int] = {}  # by trace, the last page that had an observation of it
        self._unexamined: set[str] = set()  # traces with new observations since the last check for complete ones
        self._count = 0

    def add(self, observations: Sequence[Observation], size: int, border: Observation | None = None) -> None:
        """Add the observations of a page; of one that repeats, the newest and most complete state is kept.

        `border` is the observation of the page of which another version may follow it.
        """
        self._pages += 1
        for observation in observations:
            key = store_key(observation)
            trace_id = key[0]
            self._last_page[trace_id] = self._pages
            self._unexamined.add(trace_id)
            seen = self._seen.setdefault(trace_id, set())
            if key in seen and observation.api == "v2":  # walks of v1 repeat observations, each of them complete
                self._twice.add(key)
                self.unchecked.pop(key, None)
            seen.add(key)
            trace = self.traces.setdefault(trace_id, {})
            held = trace.get(observation.id)
            self._count += held is None
            kept = trace[observation.id] = observation if held is None else newer(held, observation)
            kept.unsettled = store_key(kept) in self._twice
            if observation is border and key not in self._twice:
                self.unchecked[key] = observation
        self.size += size

    def add_page(self, page: Page) -> None:
        """Add all observations of a page."""
        self.add(page.observations, page.size, page.border)

    def mark_unmerged(self, twice: Iterable[StoreKey]) -> None:
        """Mark these as unsettled; a listing has shown that all others have one version."""
        self.unchecked.clear()
        for key in twice:
            self._twice.add(key)
            held = self.traces.get(key[0], {}).get(key[1])
            if held is not None and store_key(held) == key:
                held.unsettled = True

    def take(self) -> dict[str, list[Observation]]:
        """Remove and return all traces."""
        taken = {trace: list(observations.values()) for trace, observations in self.traces.items()}
        self.traces, self.size, self._last_page, self._unexamined, self._count = {}, 0, {}, set(), 0
        self._seen, self._twice, self.unchecked = {}, set(), {}
        return taken

    def take_complete(self) -> dict[str, list[Observation]]:
        """Remove and return complete traces, as far as a walk from new to old can show: those whose root was read.

        A trace with observations on the last page is kept: with clocks of several machines, observations may start a
        little before their root. So is one with an observation that may have another version.
        """
        unchecked = {trace_id for trace_id, _, _ in self.unchecked}
        # A trace is examined once after each page that added to it: before, it had no root, or the page was its last.
        quiet = [
            trace_id
            for trace_id in self._unexamined
            if self._last_page[trace_id] < self._pages and trace_id not in unchecked
        ]
        self._unexamined -= set(quiet)
        complete = [trace_id for trace_id in quiet if roots_of(self.traces[trace_id].values())]
        for trace_id in complete:
            del self._seen[trace_id]
        taken = {trace_id: list(self.traces.pop(trace_id).values()) for trace_id in complete}
        count = sum(len(trace) for trace in taken.values())
        if self._count:
            self.size -= self.size * count // self._count
        self._count -= count
        return taken


def newer(left: Observation, right: Observation) -> Observation:
    """Return the version that was written later; on a tie the more complete one."""
    return max(left, right, key=_weight)


def _weight(observation: Observation) -> tuple[int, bool, int, int]:
    content = sum(len(text) for text in (observation.input, observation.output) if text) + len(observation.metadata)
    return observation.updated_ms or 0, observation.end_ms is not None, content, -observation.start_ms
